# SPDX-License-Identifier: Apache-2.0
"""Write the page of each family from the catalog and ``figures.json``.

``python docs/models/family_pages.py``; ``measure.py`` makes the figures.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from embellama import catalog

FOLDER = Path(__file__).parent

SETTINGS = {
    "F32 exact": 'F32, `accuracy="exact"`',
    "F32 fast": 'F32, `"fast"`',
    "F16 fast": "F16",
    "Q8_0 fast": "Q8_0",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """What a page says that neither the catalog nor the figures do."""

    title: str
    about: str
    notes: tuple[str, ...]


FAMILIES = {
    "bert": Family(
        "BERT, RoBERTa, XLM-RoBERTa",
        "BERT, DistilBERT, RoBERTa, CamemBERT and XLM-RoBERTa, and rerankers made of them.",
        (
            "[The encoder](../encoder.md) computes it.",
            'With `accuracy="fast"` the encoder multiplies in bfloat16 where the processor is '
            "faster with it, whatever the type of the file.",
            "Converted rerankers keep the dense layer before the scores. llama.cpp's converter "
            "leaves it out of some, and their scores are wrong.",
        ),
    ),
    "nomic-bert": Family(
        "Nomic BERT",
        "nomic-embed-text v1 and v1.5.",
        (
            "Each text needs a prompt; `embed_query` and `embed_documents` put it there.",
            "v1.5 may be cut to 512, 256, 128 or 64 dimensions. `truncate_dim` applies the layer "
            "norm that its model card asks for, then cuts, then normalises. It does so when the "
            "model is named, or its file lies in a cache; a copy elsewhere is cut without.",
            "The longest text is 2,048 tokens; RoPE with scaling, which reaches 8,192, is not "
            "used.",
        ),
    ),
    "nomic-bert-moe": Family(
        "Nomic BERT with experts",
        "nomic-embed-text-v2-moe.",
        (
            "GGUF files that llama.cpp's converter made, those of the authors too, lack the bias "
            "of the experts: for a few tokens another expert is chosen. `embellama info` names "
            "this doubt. The name converts the authors' checkpoint.",
        ),
    ),
    "modern-bert": Family(
        "ModernBERT",
        "gte-modernbert, granite-embedding r2, and rerankers.",
        ("Converted by embellama. llama.cpp computes it.",),
    ),
    "eurobert": Family(
        "EuroBERT",
        "EuroBERT, and jina-embeddings-v5-text-nano.",
        (
            "jina-embeddings-v5 comes as GGUF files of its authors, one repository for each task; "
            "the name stands for the one for retrieval.",
        ),
    ),
    "qwen3": Family(
        "Qwen3",
        "Qwen3-Embedding, Qwen3-Reranker, and jina-embeddings-v5-text-small.",
        (
            "The vector is that of the end token, which embellama appends.",
            "The query's prompt names a task, and another task may suit your texts better: "
            "`ModelConfig(name, query_prompt=...)`. There is no space after `Query:`.",
            "Community files of Qwen3-Reranker lack the tensor that gives the scores; the name "
            "converts the authors' checkpoint.",
        ),
    ),
    "gemma-embedding": Family(
        "EmbeddingGemma",
        "embeddinggemma-300m.",
        (
            "Its activations overflow in float16, so no F16 file works; the name takes Q8_0.",
            "The authors' repository is gated; the GGUF file comes from another, ggml-org's. One "
            "without the dense modules that come after the pooling is loaded with a warning: then "
            "convert the authors' checkpoint, `embellama convert FOLDER model.gguf`.",
        ),
    ),
    "t5encoder": Family(
        "T5's encoder",
        "sentence-t5 and gtr; name the repository, `sentence-transformers/sentence-t5-base`.",
        (
            "Its activations can overflow in float16: the weights become BF16 or F32.",
            "The dense module after the pooling is part of the file.",
        ),
    ),
    "jina-bert-v2": Family(
        "JinaBERT",
        "jina-embeddings-v2; name the repository, such as `jinaai/jina-embeddings-v2-base-en`.",
        (
            "Of jina-embeddings-v2-base-code only conversions by embellama work: llama.cpp's "
            "converter puts its gate where llama.cpp does not look for it.",
        ),
    ),
    "jina-bert-v3": Family(
        "jina-embeddings-v3",
        "jina-embeddings-v3; name the repository, `jinaai/jina-embeddings-v3`.",
        (
            "By name it computes what the checkpoint does without an adapter. `embellama convert "
            "--task retrieval.query` adds the adapter of a task to the weights.",
        ),
    ),
    "neo-bert": Family(
        "NeoBERT",
        "NeoBERT; name the repository.",
        (
            "Only conversions by embellama are right: llama.cpp's converter mixes up queries, keys "
            "and values.",
        ),
    ),
    "llama": Family(
        "Llama and Mistral",
        "e5-mistral and others; name the repository.",
        (
            "RoPE with scaling, as of Llama 3.1, is converted.",
            "No prompt is known: most of these models want an instruction before a query.",
        ),
    ),
    "llama-embed": Family(
        "Llama without causal mask",
        "llama-nemotron-embed and llama-embed-nemotron; name the repository.",
        ("Each token sees all others. Files of llama.cpp's converter do not say how to pool.",),
    ),
}


def page(architecture: str, figures: dict[str, dict[str, object]]) -> str:
    """Return the page of a family."""
    family = FAMILIES[architecture]
    own = {name: f for name, f in figures.items() if f["architecture"] == architecture}
    entries = [e for e in catalog.known_models() if e.architecture == architecture]
    lines = [f"# {family.title}", "", family.about, ""]
    if entries:
        names = ", ".join(f"`{entry.name}`" for entry in entries)
        lines += [f"**Names**: {names}. [The table](../models.md) says more of them.", ""]
    lines += [f"- {note}" for note in family.notes]
    lines += ["", "## How exact", ""]
    if not own:
        lines += ["No reference was computed here: how exact its vectors are is not verified.", ""]
        return "\n".join(lines)
    lines += [
        "The largest difference of a value from the reference's, which is computed in float32 or "
        "float64: of vectors of unit length, or of a score. It was measured on a processor that "
        "multiplies in bfloat16.",
        "",
        f"| model | {' | '.join(SETTINGS.values())} |",
        f"|---|{'---|' * len(SETTINGS)}",
    ]
    for name, measured in own.items():
        values = " | ".join(
            "refused" if measured[setting] is None else f"{measured[setting]:.1e}"
            for setting in SETTINGS
        )
        known = catalog.find(name) is not None
        what = f"{measured['kind']}, {name if known else f'small {name}'}"
        lines.append(f"| {what} | {values} |")
    verified = [entry.name for entry in entries if entry.name in own]
    lines += [
        "",
        f"**Verified here**: {verified_models(verified)}. {unverified_models(entries)}",
        "",
    ]
    return "\n".join(lines)


def verified_models(names: list[str]) -> str:
    small = "small models with random weights, against transformers or the published code"
    return f"{', '.join(names)} against sentence-transformers; {small}" if names else small


def unverified_models(entries: list[catalog.CatalogEntry]) -> str:
    if not entries:
        return "The vectors of the published weights were not compared."
    return (
        "Of the published weights of the other names, no vectors were compared."
        if any(entry.sha256 for entry in entries)
        else "Of the published weights of these names, no vectors were compared."
    )


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    figures = json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"))
    return {FOLDER / f"{name}.md": page(name, figures) for name in FAMILIES}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
