# SPDX-License-Identifier: Apache-2.0
"""Write the tables of models.md from the catalog: ``python docs/models_table.py``."""

from __future__ import annotations

from pathlib import Path

from embellama import catalog
from embellama.catalog import CatalogEntry

PAGE = Path(__file__).with_name("models.md")

EMBEDDING_COLUMNS = (
    *("model", "dimensions", "may be cut to", "longest text", "languages", "pooling"),
    *("family", "licence"),
)
RERANKER_COLUMNS = ("model", "longest text", "languages", "family", "licence")


def cells(entry: CatalogEntry) -> dict[str, str]:
    gated = ", to be accepted on its page" if entry.is_gated else ""

    def said(name: str, text: str) -> str:
        return f"{text} (?)" if name in entry.unverified else text

    return {
        "model": f"[{entry.name}]({entry.url})",
        "dimensions": str(entry.dimensions),
        "may be cut to": said("matryoshka", ", ".join(map(str, entry.matryoshka))),
        "longest text": said("max_tokens", f"{entry.max_tokens:,}"),
        "languages": said("languages", entry.languages),
        "pooling": entry.pooling,
        "family": f"[{entry.architecture}](models/{entry.architecture}.md)",
        "licence": f"{entry.licence}{gated}",
    }


def code(prompt: str) -> str:
    escaped = prompt.replace("\n", "\\n").replace("|", "\\|")
    return f"`{escaped}`" if prompt else ""


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))


def models(columns: tuple[str, ...], entries: list[CatalogEntry]) -> str:
    return table(columns, [tuple(cells(entry)[name] for name in columns) for entry in entries])


def prompts(entries: list[CatalogEntry]) -> str:
    names: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if entry.prompts_from:
            kinds = code(entry.query_prompt), code(entry.document_prompt), entry.prompts_from
            names.setdefault(kinds, []).append(entry.name)
    rows = [(", ".join(of), *kinds) for kinds, of in names.items()]
    return table(("models", "before a query", "before a document", "from"), rows)


def page_with_tables(text: str) -> str:
    """Return the page with its generated parts as the catalog has them now."""
    entries = catalog.known_models()
    parts = {
        "embedding": models(EMBEDDING_COLUMNS, [entry for entry in entries if entry.dimensions]),
        "rerankers": models(RERANKER_COLUMNS, [entry for entry in entries if not entry.dimensions]),
        "prompts": prompts(entries),
    }
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, name
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
