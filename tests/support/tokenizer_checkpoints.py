# SPDX-License-Identifier: Apache-2.0
"""Checkpoints for their tokenizers: each family's, and each kind with more tokens and steps."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from support.checkpoints import (
    N_EMBD,
    UNIGRAM,
    change_json,
    write_checkpoint,
    write_unigram,
    write_wordpiece,
)
from support.family_checkpoints import FAMILIES, write_family_checkpoint
from support.folders import TESTS
from support.odd_texts import ADDED

CHARSMAP = TESTS / "data" / "charsmap.bin"
_CHARACTERS = (
    "fgijkmnpqstuvxyzTHELOWA0123456789.,!?'-()<>|/\u00e9\u1ebf\u1ea5\u4e2d\u6587\u65e5\u672c"
)
_CHARACTERS += (
    "\ud55c\uad6d\u1112\u1161\u11ab\u0301\u0308\u09cb\u09c7\u09be\u2044\u300d\u2026\u00b2"
)
_UNIGRAM = [*UNIGRAM[:-1], *((each, -8.0) for each in _CHARACTERS), ("ld", -5.0), UNIGRAM[-1]]

Change = Callable[[dict[str, Any]], None]


def _add_tokens(found: dict[str, Any]) -> None:
    """Add what ``ADDED`` names, as ``tokenizer.add_tokens`` does."""
    pieces = found["model"]["vocab"]
    ids = pieces if isinstance(pieces, dict) else {entry[0]: i for i, entry in enumerate(pieces)}
    known = {**ids, **{token["content"]: token["id"] for token in found["added_tokens"]}}
    names = ("special", "single_word", "lstrip", "rstrip", "normalized")
    for content, switches in {**ADDED, "the": "single_word lstrip"}.items():
        index = known.setdefault(content, max(known.values()) + 1)
        token = {"id": index, "content": content}
        found["added_tokens"].append(token | {name: name in switches.split() for name in names})


def _not_composed(found: dict[str, Any]) -> None:
    found["normalizer"] = None


def _cased(found: dict[str, Any]) -> None:
    found["normalizer"] |= {"lowercase": False, "strip_accents": False}


def _sentencepiece(*steps: dict[str, Any], scheme: str = "always") -> Change:
    """Normalise by a map of characters, then by `steps`."""

    def change(found: dict[str, Any]) -> None:
        charsmap = base64.b64encode(CHARSMAP.read_bytes()).decode()
        precompiled = {"type": "Precompiled", "precompiled_charsmap": charsmap}
        found["normalizer"] = {"type": "Sequence", "normalizers": [precompiled, *steps]}
        found["pre_tokenizer"] = _metaspace(scheme, split=True)

    return change


def _metaspace(scheme: str, *, split: bool) -> dict[str, Any]:
    return {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": scheme,
        "split": split,
    }


def _one_space(content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content}


def _mistral_first(found: dict[str, Any]) -> None:
    found["normalizer"], found["pre_tokenizer"] = None, _metaspace("first", split=False)


_MODERN_BERT = FAMILIES["modernbert"].write_tokenizer
_STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}


def _rich_unigram(folder: Path) -> None:
    write_unigram(folder, _UNIGRAM)


# What writes a tokenizer, and what is changed in its tokenizer.json.
TOKENIZERS: dict[str, tuple[Callable[[Path], None], tuple[Change, ...]]] = {
    **{name: (family.write_tokenizer, ()) for name, family in FAMILIES.items()},
    "bert": (write_wordpiece, ()),
    "xlm-roberta": (write_unigram, ()),
    "roberta": (_MODERN_BERT, (_not_composed,)),
    "bert, added": (write_wordpiece, (_add_tokens,)),
    "bert cased, added": (write_wordpiece, (_cased, _add_tokens)),
    "xlm-roberta, added": (_rich_unigram, (_add_tokens,)),
    "bge-m3, added": (_rich_unigram, (_sentencepiece(_one_space(" ")), _add_tokens)),
    "t5, added": (_rich_unigram, (_sentencepiece(_STRIP, _one_space("\u2581")), _add_tokens)),
    "unigram first, added": (_rich_unigram, (_sentencepiece(scheme="first"), _add_tokens)),
    "roberta, added": (_MODERN_BERT, (_not_composed, _add_tokens)),
    **{
        f"{name}, added": (FAMILIES[name].write_tokenizer, (_add_tokens,))
        for name in ("modernbert", "qwen3", "llama", "mistral")
    },
    "mistral first, added": (
        FAMILIES["mistral"].write_tokenizer,
        (_mistral_first, _add_tokens),
    ),
}


def reference_name(name: str) -> str:
    """Return the first key of :data:`TOKENIZERS` with the same tokenizer."""
    return next(each for each, tokenizer in TOKENIZERS.items() if tokenizer == TOKENIZERS[name])


def has_plain_reference(name: str) -> bool:
    """Whether there is a reference without special tokens.

    Unigram has none: `tokenizers` finds them in the vocabulary where it does not look for them.
    """
    write, changes = TOKENIZERS[name]
    return _add_tokens in changes and write is not _rich_unigram


def write_tokenizer(folder: Path, name: str) -> int:
    """Write the files of a key of :data:`TOKENIZERS`, and return its number of tokens."""
    write, changes = TOKENIZERS[name]
    write(folder)
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    pieces = found["model"]["vocab"]
    return max(len(pieces), *(token["id"] + 1 for token in found["added_tokens"]))


def write_tokenizer_checkpoint(folder: Path, name: str) -> None:
    """Write a checkpoint with the tokenizer of a key of :data:`TOKENIZERS`."""
    if name in FAMILIES:
        write_family_checkpoint(folder, name)
        return
    weights = write_checkpoint(folder, tokenizer="BPE", n_layers=1)
    n_tokens = write_tokenizer(folder, name)
    weights["embeddings.word_embeddings.weight"] = np.ones((n_tokens, N_EMBD), dtype=np.float32)
    save_file(weights, folder / "model.safetensors")
    change_json(folder / "config.json", vocab_size=n_tokens)
