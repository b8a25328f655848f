# SPDX-License-Identifier: Apache-2.0
"""``embellama info``, ``models`` and ``convert``: the commands for model files."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import click

from embellama import catalog
from embellama.cli.options import DEFAULT_MODEL, UserPath, quiet, threads
from embellama.model_info import ModelInfo, model_info

__all__ = ["convert", "info", "models"]


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str, as_json: bool) -> None:
    """Describe a model.

    MODEL is all-MiniLM-L6-v2 unless given.
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
        "dimensions": info.embedding_length,
        "context length": info.context_length,
        "pooling": info.pooling.value,
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
def models() -> None:
    """List the known models and what the cache keeps of them."""
    cached = catalog.cached_files()
    known = catalog.known_models()
    for entry in known:
        click.echo(f"{entry.name}: {entry.dimensions} dimensions, {entry.licence}, {entry.url}")
        files = [file for file in cached if file.model == entry.name]
        for file in files:
            click.echo(f"  {_human_size(file.size):>10}  {file.path}")
        if not files:
            click.echo("  not in the cache; downloaded on first use")
    click.echo(f"Cache: {catalog.cache_directory()}")


def _human_size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
