# SPDX-License-Identifier: Apache-2.0
"""``embellama info``, ``models``, ``pull``, ``rm``, ``convert``: the commands for model files."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from embellama import catalog
from embellama.cli.model_description import (
    describe_file,
    describe_preview,
    description_lines,
    human_size,
)
from embellama.cli.options import (
    DEFAULT_MODEL,
    MODEL_VARIABLE,
    UserPath,
    file_type,
    quiet,
    threads,
)
from embellama.errors import ModelLoadError
from embellama.file_info import ModelInfo
from embellama.gguf.reader import read_header

__all__ = ["convert", "info", "models", "pull", "rm"]


@click.command()
@click.argument("model", default=DEFAULT_MODEL, envvar=MODEL_VARIABLE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str, as_json: bool) -> None:
    """Describe a model, and say whether it works.

    MODEL is $EMBELLAMA_MODEL_PATH unless given, or all-MiniLM-L6-v2 where that is not set. Of a
    model that is not here only the description is read, not the weights.
    """
    problem = ""
    if path := catalog.cached_gguf(model):
        entry = catalog.find(model) or catalog.find(str(path))
        described = describe_file(ModelInfo(read_header(path), entry))
    else:
        described, problem = describe_preview(catalog.preview(model), catalog.find(model))
    if as_json:
        named = {name.replace(" ", "_"): value for name, value in described.items()}
        click.echo(json.dumps(named, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(description_lines(described)))
    if problem:
        raise ModelLoadError(problem)


@click.command()
@click.argument("checkpoint", type=UserPath(exists=True, file_okay=False))
@click.argument("output", type=UserPath(dir_okay=False))
@click.option(
    "--type",
    "file_type",
    help="Type of the weights, such as F32 or Q8_0.  [default: F16, or BF16 where the checkpoint's "
    "weights are that and F16 can't hold them]",
)
@click.option(
    "--task",
    help="Task whose adapter is added to the weights, such as retrieval.query of "
    "jina-embeddings-v3.  [default: no adapter]",
)
@threads
@quiet
def convert(
    checkpoint: str,
    output: str,
    file_type: str | None,
    task: str | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Turn a Hugging Face checkpoint into a GGUF file.

    CHECKPOINT is the directory with config.json and model.safetensors.
    """
    from embellama.convert import convert_checkpoint

    show = not quiet and sys.stderr.isatty()
    convert_checkpoint(
        checkpoint, output, file_type=file_type, task=task, n_threads=threads, progress=show
    )


@click.command()
@click.argument("part", metavar="[FILTER]", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(part: str, as_json: bool) -> None:
    """List the known models, and which files of them are here.

    With FILTER, only models that have it in their name or repository.
    """
    files: dict[str, list[catalog.CachedFile]] = {}
    for file in catalog.cached_files():
        files.setdefault(_model_of(file), []).append(file)
    listed = [
        _listed(entry, files.pop(entry.repository, []) + _files_of_hub_cache(entry))
        for entry in catalog.known_models()
    ]
    listed += [{"name": name, "repository": name, "files": held} for name, held in files.items()]
    listed = [
        model
        for model in listed
        if part.lower() in f"{model['name']} {model['repository']}".lower()
    ]
    if as_json:
        for model in listed:
            model["files"] = [
                {"path": str(file.path), "size": file.size} for file in model["files"]
            ]
        described = {"cache": str(catalog.cache_directory()), "models": listed}
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for model in listed:
        click.echo(_line(model))
        for file in model["files"]:
            click.echo(f"  {human_size(file.size):>10}  {file.path}")
    if any(not model["files"] for model in listed):
        click.echo("A model without a file here is downloaded on first use.")
    click.echo(f"Cache: {catalog.cache_directory()}")


def _model_of(file: catalog.CachedFile) -> str:
    """Return the repository of a file of the cache, or what else it is known by."""
    source = catalog.provenance(file.path) or {}
    return str(source.get("repository") or source.get("url") or file.model)


def _files_of_hub_cache(entry: catalog.CatalogEntry) -> list[catalog.CachedFile]:
    """Return the GGUF files of a known model in huggingface_hub's cache."""
    if not entry.gguf_repository:
        return []
    from embellama.obtaining.hub import cached_ggufs

    found = cached_ggufs(entry.gguf_repository, None).values()
    return [catalog.CachedFile(entry.name, path, path.stat().st_size) for path in sorted(found)]


def _listed(entry: catalog.CatalogEntry, files: list[catalog.CachedFile]) -> dict[str, Any]:
    described: dict[str, Any] = {name: getattr(entry, name) for name in _DESCRIBED}
    return {**described, "url": entry.url, "files": files}


_DESCRIBED = (
    *("name", "repository", "gguf_repository", "licence", "is_gated", "dimensions", "matryoshka"),
    *("max_tokens", "pooling", "query_prompt", "document_prompt", "prompts_from", "languages"),
    *("architecture", "layer_norm_before_cut", "file_type", "unverified"),
)


def _line(model: dict[str, Any]) -> str:
    if "licence" not in model:
        return f"{model['name']}:"
    kind = f"{model['dimensions']} dimensions" if model["dimensions"] else "reranker"
    gated = " (to be accepted)" if model["is_gated"] else ""
    return f"{model['name']}: {kind}, {model['licence']}{gated}, {model['url']}"


@click.command()
@click.argument("model")
@file_type
@quiet
def pull(model: str, file_type: str | None, quiet: bool) -> None:
    """Obtain MODEL, unless it is here, and print its file."""
    click.echo(catalog.resolve(model, file_type=file_type, progress=not quiet))


@click.command()
@click.argument("model")
@quiet
def rm(model: str, quiet: bool) -> None:
    """Remove MODEL from the cache.

    With a type, such as bge-m3:Q8_0, only the file of that type is removed. Files in the cache of
    huggingface_hub stay, because other programs may use them.
    """
    for file in catalog.remove(model, progress=not quiet):
        if not quiet:
            click.echo(f"removed {human_size(file.size)}  {file.path}")
