# SPDX-License-Identifier: Apache-2.0
"""Which special tokens a tokenizer puts around a text, and their ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from embellama.convert.tokenizer import Tokenizer

# The keys of GGUF (gguf-py's constants.py); GGUF has no key for cls.
_ID_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}


@dataclasses.dataclass(frozen=True)
class _Frame:
    """The special tokens around a text, and how many are between the two texts of a pair."""

    first: str | None
    last: str | None
    n_between: int


def _special(item: dict[str, Any]) -> Any:
    return item.get("SpecialToken", {}).get("id")


def _template(tokenizer: Tokenizer, processor: dict[str, Any]) -> _Frame:
    single: Sequence[dict[str, Any]] = processor["single"]
    texts = [index for index, item in enumerate(single) if _special(item) is None]
    if len(texts) != 1 or len(single[: texts[0]]) > 1 or len(single[texts[0] + 1 :]) > 1:
        raise tokenizer.error(
            "the post-processor puts more around a text than a token before and a token after it, "
            "which llama.cpp can't; this checkpoint can't become a GGUF"
        )
    first = _special(single[0])
    last = _special(single[-1])
    names = [item.get("Sequence", {}).get("id") for item in processor.get("pair", ())]
    n_between = 0
    if "A" in names and "B" in names[names.index("A") :]:
        n_between = names.index("B") - names.index("A") - 1
    return _Frame(first, last, n_between)


def _frame(tokenizer: Tokenizer) -> _Frame | None:
    """Return what the post-processors add; None if there are none."""
    frame = None
    try:
        for processor in tokenizer.post_processors:
            kind = processor.get("type")
            if kind in ("BertProcessing", "RobertaProcessing"):
                cls, sep = (
                    processor.get(name, [tokenizer.special_tokens[name]])[0]
                    for name in ("cls", "sep")
                )
                frame = _Frame(cls, sep, 1 if kind == "BertProcessing" else 2)
            elif kind == "TemplateProcessing":
                frame = _template(tokenizer, processor)
            elif kind == "ByteLevel":
                frame = frame or _Frame(None, None, 0)
            else:
                raise tokenizer.error(f"a post-processor of type {kind}, which is not supported")
        for token in (frame.first, frame.last) if frame else ():
            if token is not None and not isinstance(token, str):
                raise TypeError(f"{token!r} is no token")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise tokenizer.error(f"malformed post_processor ({error!r}); download it again") from error
    return frame


def special_token_ids(tokenizer: Tokenizer, vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return the keys of GGUF for special tokens, and their ids in `vocabulary`.

    ModelLoadError if the vocabulary lacks a token that every text needs.
    """
    tokens = dict(tokenizer.special_tokens)
    frame = _frame(tokenizer)
    if frame is not None:
        # llama.cpp puts bos and eos around a text, whatever else they are called.
        tokens.update(
            {
                name: token
                for name, token in (("bos", frame.first), ("eos", frame.last))
                if token is not None
            }
        )
    ids = {name: vocabulary[token] for name, token in tokens.items() if token in vocabulary}
    needed = {"unk"} if tokenizer.kind != "BPE" else set()
    if tokenizer.kind == "WordPiece":
        needed |= {"bos", "eos"}
    if frame is None or frame.first is not None:
        needed.add("bos")
    if frame is None or frame.last is not None:
        needed.add("eos")
    for name in ("bos", "eos", "unk"):
        if name in needed and name not in ids:
            raise tokenizer.error(
                f"the {name} token {tokens[name]!r} is not in the vocabulary; "
                "name the right one in tokenizer_config.json"
            )
    return {_ID_KEYS[name]: index for name, index in ids.items() if name in _ID_KEYS}


def added_special_tokens(tokenizer: Tokenizer) -> dict[str, bool]:
    """Return for ``"bos"``, ``"eos"`` and ``"sep"`` whether llama.cpp must add the token.

    ``"sep"`` is the token between a query and a document that are scored together.
    """
    flags: dict[str, bool] = {}
    frame = _frame(tokenizer)
    if frame is not None:
        flags = {"bos": frame.first is not None, "eos": frame.last is not None}
        if frame.n_between:
            # The first text has its end token anyway.
            flags["sep"] = frame.n_between > flags["eos"]
    if tokenizer.kind == "WordPiece" and not (flags.get("bos") and flags.get("eos")):
        raise tokenizer.error(
            "the post-processor puts no token before or after a text, but llama.cpp always does "
            "for WordPiece; this checkpoint can't become a GGUF"
        )
    for name in tokenizer.special_tokens:
        setting = tokenizer.settings.get(f"add_{name}_token")
        if isinstance(setting, bool):
            flags.setdefault(name, setting)
    return {name: flag for name, flag in flags.items() if name in ("bos", "eos", "sep")}
