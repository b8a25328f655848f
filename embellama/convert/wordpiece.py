# SPDX-License-Identifier: Apache-2.0
"""The name llama.cpp's converter gives to a WordPiece vocabulary.

The converter encodes a fixed text, hashes the ids and looks the hash up
(``get_vocab_base_pre`` in conversion/base.py). Encoding is BERT's: transformers'
``BertNormalizer``, ``BertPreTokenizer`` and ``WordPiece``.
"""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections.abc import Iterator, Mapping

# chktxt of get_vocab_base_pre
_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n"
    "\U0001f680 (normal) \U0001f636\u200d\U0001f32b\ufe0f (multiple emojis concatenated) \u2705 "
    "\U0001f999\U0001f999 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 "
    "\u1780\u17b6\u1793\u17cb\u178f\u17c2\u1796\u17b7\u179f\u17c1\u179f\u17a2\u17b6\u1785"
    "\U0001f601 ?\u6211\u60f3\u5728apple\u5de5\u4f5c1314151\u5929\uff5e ------======= "
    "\u043d\u0435\u0449\u043e \u043d\u0430 \u0411\u044a\u043b\u0433\u0430\u0440\u0441\u043a\u0438 "
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)

# The hashes of get_vocab_base_pre that belong to WordPiece vocabularies. llama.cpp pre-tokenizes
# all of them alike, so a vocabulary that is not among them loses nothing.
_NAMES = {
    "0876d13b50744004aa9aeae05e7b0647eac9d801b5ba4668afc01e709c15e19f": "jina-v2-en",
    "8e62295832751ca1e8f92f2226f403dea30dc5165e448b5bfa05af5340c64ec7": "bert-bge-large",
    "b3d1dd861f1d4c5c0d2569ce36baf3f90fe8a102db3de50dd71ff860d91be3df": "jina-v2-de",
}

_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _normalize(text: str, lowercase: bool, strip_accents: bool) -> str:
    kept = []
    for character in text:
        if character in "\t\n\r" or character.isspace():
            kept.append(" ")
        elif any(first <= ord(character) <= last for first, last in _CHINESE):
            kept.append(f" {character} ")
        elif not unicodedata.category(character).startswith("C"):
            kept.append(character)
    text = "".join(kept)
    if strip_accents:
        text = unicodedata.normalize("NFD", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    return text.lower() if lowercase else text


def _words(text: str) -> Iterator[str]:
    for run in text.split(" "):
        word = ""
        for character in run:
            if _is_punctuation(character):
                if word:
                    yield word
                yield character
                word = ""
            else:
                word += character
        if word:
            yield word


def _pieces(word: str, vocabulary: Mapping[str, int], unknown: int) -> list[int]:
    ids = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            piece = vocabulary.get(prefix + word[start:end])
            if piece is not None:
                ids.append(piece)
                start = end
                break
        else:
            return [unknown]
    return ids


def pre_tokenizer_name(
    vocabulary: Mapping[str, int],
    *,
    lowercase: bool,
    strip_accents: bool,
    first: int,
    last: int,
    unknown: int,
) -> str:
    """Return the value of ``tokenizer.ggml.pre`` for a WordPiece vocabulary.

    Parameters
    ----------
    vocabulary : mapping of str to int
        Tokens and their ids.
    lowercase, strip_accents : bool
        What is done to a text first.
    first, last, unknown : int
        The ids of ``[CLS]``, ``[SEP]`` and ``[UNK]``.

    Returns
    -------
    str
        ``"default"`` if the vocabulary is not one that llama.cpp's converter knows.
    """
    ids = [first]
    for word in _words(_normalize(_TEXT, lowercase, strip_accents)):
        ids += _pieces(word, vocabulary, unknown)
    ids.append(last)
    return _NAMES.get(hashlib.sha256(str(ids).encode()).hexdigest(), "default")
