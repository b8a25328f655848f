# SPDX-License-Identifier: Apache-2.0
"""RAG: find the passages of your documents that a language model needs to answer a question.

Run it as ``python rag.py index FOLDER DATABASE``, then as ``python rag.py ask DATABASE QUESTION``;
``--reranker reranker.gguf`` adds a cross-encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb

import embellama


def chunks(text: str, model: embellama.EmbeddingModel, max_tokens: int) -> Iterator[str]:
    """Yield as many neighbouring paragraphs as `max_tokens` hold; a heading begins a chunk."""
    chunk: list[str] = []
    tokens = 0
    for paragraph in text.split("\n\n"):
        if not paragraph.strip():
            continue
        length = model.count_tokens(paragraph)
        if chunk and (paragraph.startswith("#") or tokens + length > max_tokens):
            yield "\n\n".join(chunk)
            chunk, tokens = [], 0
        chunk.append(paragraph)
        tokens += length
    if chunk:
        yield "\n\n".join(chunk)


def index(folder: Path, model: embellama.EmbeddingModel, database: Path) -> int:
    """Store the chunks of every Markdown file with their vectors, and return how many there are."""
    rows: list[dict[str, Any]] = [
        {"file": str(path.relative_to(folder)), "text": chunk}
        for path in sorted(folder.rglob("*.md"))
        for chunk in chunks(path.read_text(encoding="utf-8"), model, max_tokens=200)
    ]
    vectors = model.embed_documents([row["text"] for row in rows])
    for row, vector in zip(rows, vectors, strict=True):
        row["vector"] = vector
    connection = lancedb.connect(database)
    connection.drop_table("chunks", ignore_missing=True)
    connection.create_table("chunks", rows)
    return len(rows)


def find(
    question: str, model: embellama.EmbeddingModel, database: Path, limit: int
) -> list[dict[str, Any]]:
    """Return the chunks nearest to a question, nearest first."""
    table = lancedb.connect(database).open_table("chunks")
    query = table.search(model.embed_query(question)).distance_type("dot")
    found: list[dict[str, Any]] = query.limit(limit).to_list()
    return found


def rerank(
    question: str, found: list[dict[str, Any]], path: str, top_n: int
) -> list[dict[str, Any]]:
    """Return the best of the chunks that were found, as a cross-encoder orders them."""
    config = embellama.ModelConfig(path, truncate=True)
    with embellama.EmbeddingModel(config) as reranker:
        results = reranker.rerank(question, [row["text"] for row in found], top_n=top_n)
    return [found[result.index] for result in results]


def prompt(question: str, best: list[dict[str, Any]]) -> str:
    """Return what to send to the language model of your choice."""
    passages = "\n\n".join(f"[{row['file']}]\n{row['text']}" for row in best)
    return f"Answer from these passages only, and name the file.\n\n{passages}\n\n{question}"


def main() -> None:
    """Index a folder, or print the prompt for a question."""
    parser = argparse.ArgumentParser(description="Find what answers a question.")
    commands = parser.add_subparsers(dest="command", required=True)
    indexing = commands.add_parser("index")
    indexing.add_argument("folder", type=Path)
    indexing.add_argument("database", type=Path)
    asking = commands.add_parser("ask")
    asking.add_argument("database", type=Path)
    asking.add_argument("question")
    asking.add_argument("--reranker", help="GGUF file of a model with a classification head")
    arguments = parser.parse_args()

    # A paragraph longer than the model reads is stored whole, and found by its beginning.
    config = embellama.ModelConfig("all-MiniLM-L6-v2", truncate=True)
    with embellama.EmbeddingModel(config) as model:
        if arguments.command == "index":
            print(index(arguments.folder, model, arguments.database), "chunks")
            return
        best = find(arguments.question, model, arguments.database, limit=20)
    if arguments.reranker:
        best = rerank(arguments.question, best, arguments.reranker, top_n=3)
    print(prompt(arguments.question, best[:3]))


if __name__ == "__main__":
    main()
