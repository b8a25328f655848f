# SPDX-License-Identifier: Apache-2.0
"""Which special tokens a tokenizer puts around a text, and their ids."""

from __future__ import annotations

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


def special_token_ids(tokenizer: Tokenizer, vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return the keys of GGUF for special tokens, and their ids in `vocabulary`.

    ModelLoadError if the vocabulary lacks a token that every text needs.
    """
    ids = {
        name: vocabulary[token]
        for name, token in tokenizer.special_tokens.items()
        if token in vocabulary
    }
    for name in ("bos", "eos", "unk"):
        if name not in ids and (name, tokenizer.kind) != ("unk", "BPE"):
            raise tokenizer.error(
                f"the {name} token {tokenizer.special_tokens[name]!r} is not in the vocabulary; "
                "name the right one in tokenizer_config.json"
            )
    return {_ID_KEYS[name]: index for name, index in ids.items() if name in _ID_KEYS}


def _special(item: dict[str, Any]) -> Any:
    return item.get("SpecialToken", {}).get("id")


def _template_flags(processor: dict[str, Any], tokens: Mapping[str, str]) -> dict[str, bool]:
    single: Sequence[dict[str, Any]] = processor.get("single", ())
    pair: Sequence[dict[str, Any]] = processor.get("pair", ())
    flags = {}
    first = _special(single[0]) if len(single) > 1 else None
    last = _special(single[-1]) if len(single) > 1 else None
    if first is not None:
        flags["bos"] = first in (tokens["bos"], tokens["cls"])
    if last is not None:
        flags["eos"] = last in (tokens["eos"], tokens["sep"])
    # The tokens between the two texts, without the end token that the first text has anyway.
    names = [item.get("Sequence", {}).get("id") for item in pair]
    if "A" in names and "B" in names[names.index("A") :]:
        between = [_special(item) for item in pair[names.index("A") + 1 : names.index("B")]]
        if between:
            surplus = between[1:] if last is not None else between
            flags["sep"] = any(token in (tokens["sep"], tokens["eos"]) for token in surplus)
    return flags


def added_special_tokens(tokenizer: Tokenizer) -> dict[str, bool]:
    """Return for ``"bos"``, ``"eos"`` and ``"sep"`` whether llama.cpp must add the token.

    ``"sep"`` is the token between a query and a document that are scored together.
    """
    flags: dict[str, bool] = {}
    try:
        for processor in tokenizer.post_processors:
            kind = processor.get("type")
            if kind == "RobertaProcessing":
                flags.update(bos=True, eos=True, sep=True)
            elif kind == "TemplateProcessing":
                flags.update(_template_flags(processor, tokenizer.special_tokens))
            elif kind == "ByteLevel":
                flags.setdefault("bos", False)
                flags.setdefault("eos", False)
    except (AttributeError, TypeError, ValueError) as error:
        raise tokenizer.error(f"malformed post_processor ({error!r}); download it again") from error
    for name in tokenizer.special_tokens:
        setting = tokenizer.settings.get(f"add_{name}_token")
        if isinstance(setting, bool):
            flags.setdefault(name, setting)
    return {name: flag for name, flag in flags.items() if name in ("bos", "eos", "sep")}
