# SPDX-License-Identifier: Apache-2.0
"""What ``embellama info`` says of a model: of one that is here, and of one to be downloaded."""

from __future__ import annotations

from collections import Counter
from typing import Any

from embellama import catalog
from embellama.catalog import CatalogEntry
from embellama.config import PoolingStrategy
from embellama.convert.examination import ExaminedCheckpoint
from embellama.errors import ModelLoadError
from embellama.file_info import POOLING_TYPES, ModelInfo, prompt_before
from embellama.obtaining.preview import Preview

__all__ = ["describe_file", "describe_preview", "description_lines", "human_size"]


def describe_file(info: ModelInfo) -> dict[str, Any]:
    """Describe a model whose file is here."""
    source = catalog.provenance(info.path) or {}
    return {
        "name": source.get("name") or info.name,
        "works": True,
        "file": str(info.path),
        "file size": info.file_size,
        **_of_info(info),
        "licence": source.get("licence") or info.metadata.get("general.license"),
        "source": source.get("url"),
        "obtained from": source.get("obtained_from"),
    }


def describe_preview(seen: Preview, entry: CatalogEntry | None) -> tuple[dict[str, Any], str]:
    """Describe a model that would be downloaded; return also why it does not work, or nothing."""
    problem = seen.problem
    known: dict[str, Any] = {}
    if seen.header is not None:
        try:
            known = _of_info(ModelInfo(seen.header, entry))
        except ModelLoadError as error:
            problem = str(error)
    elif seen.checkpoint is not None:
        known = _of_checkpoint(seen.checkpoint, entry)
    described = {
        "name": entry.name if entry else seen.name,
        "works": not problem,
        "file": None,
        "to download": seen.n_bytes,
        "would be": f"taken as it is: {seen.file}" if seen.file else "converted to a GGUF file",
        **known,
        "licence": seen.licence or (entry.licence if entry else None),
        "gated": seen.is_gated,
        "source": seen.url,
    }
    return described, problem


def _of_info(info: ModelInfo) -> dict[str, Any]:
    return {
        "architecture": info.architecture,
        "dimensions": info.embedding_dimensions,
        "may be cut to": list(info.matryoshka),
        "layer norm before a cut": info.layer_norm_before_cut,
        "context length": info.context_length,
        "truncated to": info.max_seq_length,
        "pooling": info.pooling.value,
        "pooling from": info.pooling_source,
        "dense modules": "; ".join(map(str, info.dense_modules)),
        "query prompt": info.query_prompt._asdict(),
        "document prompt": info.document_prompt._asdict(),
        "parameters": info.n_parameters,
        "tensor types": dict(Counter(info.tensor_types).most_common()),
        "doubts": info.doubts(info.pooling),
    }


def _of_checkpoint(seen: ExaminedCheckpoint, entry: CatalogEntry | None) -> dict[str, Any]:
    pooling, pooling_source = _checkpoint_pooling(seen, entry)
    prompts = seen.settings.prompts
    longest = min(seen.settings.max_seq_length or seen.context_length, seen.context_length)
    return {
        "architecture": seen.architecture,
        "dimensions": seen.embedding_dimensions,
        "may be cut to": list(entry.matryoshka if entry else ()),
        "layer norm before a cut": entry is not None and entry.layer_norm_before_cut,
        "context length": seen.context_length,
        "truncated to": longest,
        "pooling": pooling.value,
        "pooling from": pooling_source,
        "dense modules": "; ".join(map(str, seen.dense)),
        "query prompt": prompt_before("query", prompts, "the checkpoint", entry)._asdict(),
        "document prompt": prompt_before("document", prompts, "the checkpoint", entry)._asdict(),
        "parameters": seen.n_parameters,
        "tensor types": list(seen.dtypes),
        "doubts": ["its tokenizer is looked at when it is converted"],
    }


def _checkpoint_pooling(
    seen: ExaminedCheckpoint, entry: CatalogEntry | None
) -> tuple[PoolingStrategy, str]:
    """As :class:`ModelInfo` will say once it is converted."""
    if seen.settings.pooling_type in POOLING_TYPES:
        return POOLING_TYPES[seen.settings.pooling_type], "the checkpoint"
    if seen.ranks:
        return PoolingStrategy.RANK, "its classification head"
    if entry is not None:
        return PoolingStrategy(entry.pooling), "the catalog"
    return PoolingStrategy.LAST if seen.is_causal else PoolingStrategy.MEAN, "a guess"


def description_lines(described: dict[str, Any]) -> list[str]:
    """Return a line for each thing that is known."""
    shown = {name: _shown(name, value) for name, value in described.items()}
    if source := shown.pop("pooling from", ""):
        shown["pooling"] += f", says {source}"
    return [f"{name + ':':25}{text}" for name, text in shown.items() if text]


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no" if name == "works" else ""
    if value is None:
        return ""
    if name in ("file size", "to download"):
        return human_size(value)
    if name == "tensor types" and isinstance(value, dict):
        return ", ".join(f"{kind} ({count})" for kind, count in value.items())
    if name.endswith(" prompt"):
        return f"{value['text']!r}, says {value['source']}" if value["text"] else "none"
    if name == "doubts":
        return "; ".join(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def human_size(n_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{n_bytes / 1e6:,.1f} MB"
