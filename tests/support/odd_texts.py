# SPDX-License-Identifier: Apache-2.0
"""Texts on which tokenizers differ: made of odd pieces, the same ones every time."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence

N_TEXTS = 600

_WORDS = "hello world the The cafe HELLO a b or worlds abc 123 2.5 abracadabra don't co-op".split()
_SPACES = [
    *(" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\x0b", "\x0c", "\x85", "\u00a0", "\u1680"),
    *("\u2000", "\u2003", "\u2009", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"),
]
_INVISIBLE = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u180e", "\u200e"]
_CONTROLS = ["\x01", "\x08", "\x1b", "\x1f", "\x7f", "\x9f", "\ufffd", "\u0378", "\ue000"]
_MARKS = ["\u0301", "\u0308", "\u0302\u0301", "\u0338", "\u064e", "\u3099", "\ufe0f", "\u20dd"]
_COMPOSED = ["caf\u00e9", "\u1ec7", "\u1ea5", "\u00c5ngstr\u00f6m", "\ud55c\uad6d\uc5b4", "\u30d7"]
_COMPOSED += ["\u212b", "\u0130stanbul", "\u1e9e\u00df", "\u09ac\u09cb\u09a8", "\u0c95\u0ccb"]
_COMPATIBILITY = ["\u00bc", "\u2460", "\ufb01", "\uff28\uff29", "\u2122", "\u00b2", "\u3392"]
_CJK = ["\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\u3072\u3089", "\U00020000", "\uf900", "\ud55c"]
_EMOJI = ["\U0001f680", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7"]
_EMOJI += ["\U0001f44d\U0001f3fd", "\u2764\ufe0f"]
_PUNCTUATION = [*".,!?-_'\"/\\()[]<>{}|#&*+=~^`$%@;:", "\u2014", "\u2026", "\u201c", "\u3002"]
# Overlaps of tokens with what is normalised.
_OVERLAPS = ["hello  world", "hello \u200e worlds", "New\u00a0York", "lo  world"]
_WORD_MARKS = ["\u2581", "##", "\u0120", "\u2581hello", "##ab"]
# What the vocabularies of the tests have beside words, and what looks like it.
_TOKENS = "[CLS] [SEP] [PAD] [UNK] [MASK] <s> </s> <pad> <unk> <mask> <|begin|> <|end|>".split()
_TOKENS += ["[PAD", "<s", "<|end", "<0x41>", "[unused1]", "<pad>>", "[[SEP]]"]

# Tokens that `make_token_reference.py` adds to some vocabularies, with their switches. Overlaps of
# tokens and of what they strip are meant.
ADDED: dict[str, str] = {
    "COVID19": "normalized",
    "New York": "normalized",
    "ab": "single_word",
    "Caf\u00e9": "normalized single_word",
    "<q>": "lstrip",
    "<p>": "rstrip",
    "<pq>": "lstrip rstrip normalized",
    "lo wo": "",
    "o world": "",
    "hello w": "normalized",
    "<spec>": "special lstrip rstrip single_word",
    "<name>": "special normalized",
    "\n\n": "",
    "\u65e5\u672c": "normalized",
    "##zz": "normalized",
    "he\u2581llo": "",
    "rld": "rstrip",
}
_ADDED = [*ADDED, "covid19", "xCOVID19", "new york", "NEW  YORK", "caf\u00e9", "ab.", "cab"]


def odd_texts(tokens: Sequence[str] = (*_TOKENS, *_ADDED)) -> list[str]:
    """Return 600 texts, none of them empty or white space only.

    Parameters
    ----------
    tokens : sequence of str, optional
        Special and added tokens to spell out.
    """
    # Only this method gives the same numbers with each release of Python.
    fraction = random.Random(20261129).random

    def pick(choices: Sequence[str]) -> str:
        return choices[int(fraction() * len(choices))]

    kinds = [_SPACES, _INVISIBLE, _CONTROLS, _MARKS, _COMPOSED, _COMPATIBILITY, _CJK, _EMOJI]
    kinds += [_PUNCTUATION, _WORD_MARKS, _OVERLAPS, list(tokens)]

    def piece() -> str:
        if fraction() < 0.4:
            return pick(_WORDS)
        text = pick(kinds[int(fraction() * len(kinds))])
        return unicodedata.normalize("NFD", text) if fraction() < 0.2 else text

    def text(odd: float) -> str:
        parts = []
        for _ in range(1 + int(fraction() * 12)):
            parts.append(piece() if fraction() < odd else pick(_WORDS))
            if fraction() < 0.6:
                parts.append(" ")
        if fraction() < 0.3:
            parts.insert(0, pick(_SPACES))
        if fraction() < 0.3:
            parts.append(pick(_SPACES))
        return "".join(parts)

    texts: list[str] = []
    while len(texts) < N_TEXTS:
        found = text((0.3, 0.6, 1.0)[len(texts) % 3])
        if found.strip():
            texts.append(found)
    return texts
