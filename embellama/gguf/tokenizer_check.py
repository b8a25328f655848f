# SPDX-License-Identifier: Apache-2.0
"""Is there a tokenizer in this file that llama.cpp may load?

Files and functions named here are those of the pinned llama.cpp release.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from embellama.gguf.header import GGUFHeader, StringArray
from embellama.gguf.tokenizers import ALWAYS_BOS, NO_BOS_ID, TOKENIZERS, added_by_default

__all__ = ["MAX_VOCABULARY_BYTES", "check_tokenizer"]

_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE, llama.h
_MAX_TOKENS = 2**21
# The unigram trie takes a hundred bytes for each byte of the vocabulary, and recurses once for each
# byte of a token. A byte-level token that is not byte-encoded is repeated once for each of its
# characters (llama_decode_text). WordPiece tries every length at every position of a word. The
# largest known vocabularies have 262,144 tokens, 2.4 MB, and tokens of 1024 bytes.
MAX_VOCABULARY_BYTES = 2**24
_MAX_TOKEN_BYTES = 2048
_MAX_WORDPIECE_BYTES = 512
_MAX_TOKEN_BYTES_SQUARED = 2**30
# Normalisation puts this many bytes in place of a character. Unicode's longest has 33.
_MAX_REPLACEMENT_BYTES = 512


def check_tokenizer(header: GGUFHeader) -> None:
    """Refuse a tokenizer on which llama_vocab::impl::load or the tokenizers (llama-vocab.cpp) fail.

    Raises
    ------
    ModelLoadError
        If the file has none, or llama.cpp would abort, read out of bounds or hang with it.
    """
    name = header.typed("tokenizer.ggml.model", "str")
    if name is None:
        raise header.error("'tokenizer.ggml.model' is missing: it has no tokenizer")
    if name not in TOKENIZERS:
        raise header.error(
            f"the tokenizer {name!r} is not supported",
            f"Use a model with one of {', '.join(sorted(TOKENIZERS))}",
        )
    tokens = header.typed("tokenizer.ggml.tokens", "arr[str]")
    if tokens is None:
        raise header.error("'tokenizer.ggml.tokens' is missing: it has no vocabulary")
    _check_tokens(header, tokens, _MAX_WORDPIECE_BYTES if name == "bert" else _MAX_TOKEN_BYTES)
    types = header.typed("tokenizer.ggml.token_type", "arr[i32]")
    scores = header.typed("tokenizer.ggml.scores", "arr[f32]", "arr[i32]")
    for key, values in (("token_type", types), ("scores", scores)):
        if values is not None and len(values) < len(tokens):
            raise header.error(
                f"'tokenizer.ggml.{key}' has {len(values)} entries for {len(tokens)} tokens"
            )
    # llama_vocab::impl::token_to_byte
    if name == "bert" and types is not None and np.any(types[: len(tokens)] == _BYTE):
        raise header.error("the WordPiece vocabulary has tokens of the type BYTE")
    # llama.cpp takes 0 for each, and the tokens are any.
    if name == "t5" and scores is None:
        raise header.error("'tokenizer.ggml.scores' is missing, which a Unigram tokenizer needs")
    if scores is not None and np.any(np.isnan(scores)):
        raise header.error("'tokenizer.ggml.scores' holds NaN")
    if name == "bert":
        _check_wordpiece(header, tokens)
    _check_special_tokens(header, name, len(tokens))
    _check_added_tokens(header, len(tokens))
    if name == "t5":
        _check_character_map(header)


def _check_tokens(header: GGUFHeader, tokens: StringArray, max_bytes: int) -> None:
    if not 1 <= len(tokens) <= _MAX_TOKENS:
        raise header.error(f"the vocabulary has {len(tokens)} tokens, not 1 to {_MAX_TOKENS}")
    lengths = tokens.byte_lengths
    if lengths.max() > max_bytes:
        index = int(lengths.argmax())
        raise header.error(
            f"token {index} is {lengths[index]} bytes long; at most {max_bytes} are allowed"
        )
    if lengths.sum() > MAX_VOCABULARY_BYTES or (lengths**2).sum() > _MAX_TOKEN_BYTES_SQUARED:
        raise header.error(f"the vocabulary is too large: {lengths.sum()} bytes of tokens")
    if len(set(_as_llama_reads(tokens))) < len(tokens):
        seen: set[bytes] = set()
        for index, text in enumerate(_as_llama_reads(tokens)):
            if text in seen:
                raise header.error(
                    f"the vocabulary holds {text.decode('utf-8', 'replace')!r} a second time, as "
                    f"token {index}"
                )
            seen.add(text)


def _check_wordpiece(header: GGUFHeader, tokens: StringArray) -> None:
    """Refuse SentencePiece's tokens, before which llama.cpp's converter puts a second mark."""
    twice = "\u2581\u2581".encode()
    if sum(token.startswith(twice) for token in tokens.iterate_encoded()) > len(tokens) // 4:
        raise header.error(
            "its tokens are SentencePiece's, but it says that they are WordPiece's, and its "
            "positions are shifted, as llama.cpp's converter does it with CamemBERT",
            "Convert the checkpoint with `embellama convert`",
        )


def _as_llama_reads(tokens: StringArray) -> Iterator[bytes]:
    """Yield tokens as C strings, which end at a NUL; llama.cpp gives an empty one a name."""
    for index, token in enumerate(tokens.iterate_encoded()):
        yield token.partition(b"\0")[0] or b"[EMPTY_%d]" % index


def _check_special_tokens(header: GGUFHeader, name: str, n_tokens: int) -> None:
    """Check the ids that the tokenizer adds; llama_vocab::impl::tokenize asserts them."""
    tokenizer = TOKENIZERS[name]
    pre = "gemma4" if name == "gemma4" else header.typed("tokenizer.ggml.pre", "str") or ""
    if pre == "superbpe" and tokenizer.is_bpe:
        # Its look-ahead over groups of digits (llama-vocab.cpp) takes minutes for 50,000 of them.
        raise header.error("the pre-tokenizer 'superbpe' hangs on long numbers")
    # Spaces would reach find_bpe_rank, which asserts that there are none.
    if pre == "whitespace" and tokenizer.is_bpe and name != "whitespace":
        raise header.error(f"the pre-tokenizer 'whitespace' does not fit the tokenizer {name!r}")
    defaults = added_by_default(name, pre)
    add_bos = defaults.get("bos", False)
    bos = None if tokenizer.is_bpe and pre in NO_BOS_ID else tokenizer.bos
    stored = header.typed("tokenizer.ggml.add_bos_token", "bool")
    if stored is not None and not (tokenizer.is_bpe and pre in ALWAYS_BOS):
        add_bos = stored
    stored = header.typed("tokenizer.ggml.add_eos_token", "bool")
    add_eos = defaults.get("eos", False) if stored is None else stored
    # WordPiece adds CLS and SEP whatever the file says.
    is_word_piece = name == "bert"
    for key, default, needed in (
        ("bos_token_id", bos, add_bos or is_word_piece),
        ("eos_token_id", tokenizer.eos, add_eos and not is_word_piece),
        ("seperator_token_id", tokenizer.separator, is_word_piece),
        ("unknown_token_id", tokenizer.unknown, name in ("bert", "t5")),
    ):
        found = header.typed(f"tokenizer.ggml.{key}", "u32")
        if found is None or found >= n_tokens:
            found = default
        if needed and (found is None or found >= n_tokens):
            raise header.error(
                f"the tokenizer {name!r} needs 'tokenizer.ggml.{key}', an id below {n_tokens}"
            )


def _check_added_tokens(header: GGUFHeader, n_tokens: int) -> None:
    """Check what embellama.convert writes, and llama_vocab::impl::load reads."""
    prefix = "embellama.added_tokens."
    ids = header.typed(f"{prefix}ids", "arr[i32]")
    if ids is None:
        return
    if np.any((ids < 0) | (ids >= n_tokens)):
        raise header.error(f"'{prefix}ids' has ids that are not below {n_tokens}")
    if len(np.unique(ids)) < len(ids):
        raise header.error(f"'{prefix}ids' has an id twice")
    for name in ("single_word", "lstrip", "rstrip", "normalized", "in_vocabulary"):
        values = header.typed(prefix + name, "arr[bool]")
        if values is None or len(values) != len(ids):
            raise header.error(f"'{prefix}{name}' is not one switch for each of '{prefix}ids'")


def _check_character_map(header: GGUFHeader) -> None:
    """A trie, then the replacements it points to, each ended by a NUL (llm_tokenizer_ugm)."""
    name = "tokenizer.ggml.precompiled_charsmap"
    values = header.typed(name, "arr[u8]", "arr[i8]")
    if values is None:
        return
    data = values.tobytes()
    trie_bytes = int.from_bytes(data[:4], "little")
    if 4 + trie_bytes >= len(data):
        raise header.error(f"{name!r} is cut short")
    longest = max(map(len, data[4 + trie_bytes :].split(b"\0")))
    if longest > _MAX_REPLACEMENT_BYTES:
        raise header.error(f"{name!r} puts {longest} bytes in place of a character")
