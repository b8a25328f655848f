# SPDX-License-Identifier: Apache-2.0
"""``embellama info``, ``models``, ``pull``, ``rm``, ``convert``: the commands for model files."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import click

from embellama import catalog
from embellama.cli.options import (
    DEFAULT_MODEL,
    MODEL_VARIABLE,
    UserPath,
    file_type,
    quiet,
    threads,
)
from embellama.model_info import ModelInfo, model_info

__all__ = ["convert", "info", "models", "pull", "rm"]


@click.command()
@click.argument("model", default=DEFAULT_MODEL, envvar=MODEL_VARIABLE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str, as_json: bool) -> None:
    """Describe a model.

    MODEL is $EMBELLAMA_MODEL_PATH unless given, or all-MiniLM-L6-v2 where that is not set.
    """
    described = _description(model_info(model))
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    described["file size"] = _human_size(described["file size"])
    described["parameters"] = f"{described['parameters']:,}"
    described["tensor types"] = ", ".join(
        f"{kind} ({count})" for kind, count in described["tensor types"].items()
    )
    for name, value in described.items():
        if value is not None:
            click.echo(f"{name + ':':20}{value}")


def _description(info: ModelInfo) -> dict[str, Any]:
    source = catalog.provenance(info.path) or {}
    return {
        "name": source.get("name") or info.name,
        "file": str(info.path),
        "file size": info.file_size,
        "architecture": info.architecture,
        "dimensions": info.embedding_dimensions,
        "context length": info.context_length,
        "pooling": info.pooling.value,
        "dense modules": "; ".join(map(str, info.dense_modules)) or None,
        "parameters": info.n_parameters,
        "tensor types": dict(Counter(info.tensor_types).most_common()),
        "licence": source.get("licence") or info.metadata.get("general.license"),
        "source": source.get("url"),
        "obtained from": source.get("obtained_from"),
    }


@click.command()
@click.argument("checkpoint", type=UserPath(exists=True, file_okay=False))
@click.argument("output", type=UserPath(dir_okay=False))
@click.option(
    "--type",
    "file_type",
    help="Type of the weights, such as F32 or Q8_0.  [default: F16, or BF16 where the checkpoint's "
    "weights are that and F16 can't hold them]",
)
@threads
@quiet
def convert(
    checkpoint: str, output: str, file_type: str | None, threads: int | None, quiet: bool
) -> None:
    """Turn a Hugging Face checkpoint into a GGUF file.

    CHECKPOINT is the directory with config.json and model.safetensors.
    """
    from embellama.convert import convert_checkpoint

    show = not quiet and sys.stderr.isatty()
    convert_checkpoint(checkpoint, output, file_type=file_type, n_threads=threads, progress=show)


@click.command()
@click.argument("part", metavar="[FILTER]", default="")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(part: str, as_json: bool) -> None:
    """List the known models and what the cache keeps.

    With FILTER, only models that have it in their name or repository.
    """
    files: dict[str, list[catalog.CachedFile]] = {}
    for file in catalog.cached_files():
        files.setdefault(_model_of(file), []).append(file)
    listed = [_listed(entry, files.pop(entry.repository, [])) for entry in catalog.known_models()]
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
            click.echo(f"  {_human_size(file.size):>10}  {file.path}")
    if any(not model["files"] for model in listed):
        click.echo(
            "A model without a file here is downloaded on first use, unless the cache of "
            "huggingface_hub holds a GGUF file of it."
        )
    click.echo(f"Cache: {catalog.cache_directory()}")


def _model_of(file: catalog.CachedFile) -> str:
    """Return the repository of a file of the cache, or what else it is known by."""
    source = catalog.provenance(file.path) or {}
    return str(source.get("repository") or source.get("url") or file.model)


def _listed(entry: catalog.CatalogEntry, files: list[catalog.CachedFile]) -> dict[str, Any]:
    described: dict[str, Any] = {name: getattr(entry, name) for name in _DESCRIBED}
    return {**described, "url": entry.url, "files": files}


_DESCRIBED = (
    *("name", "repository", "gguf_repository", "licence", "is_gated", "dimensions", "matryoshka"),
    *("max_tokens", "pooling", "query_prompt", "document_prompt", "prompts_from", "languages"),
    "file_type",
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
            click.echo(f"removed {_human_size(file.size)}  {file.path}")


def _human_size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
