# SPDX-License-Identifier: Apache-2.0
"""Write ``token_reference.npz``: the tokens of odd texts, of all tokenizers of the tests.

Made with tokenizers 0.23.3, and ``charsmap.bin`` with sentencepiece 0.2.3 and protobuf. From the
root of the repository, with the checkpoint of sentence-transformers/all-MiniLM-L6-v2::

    PYTHONPATH=tests python tests/data/make_token_reference.py CHECKPOINT

For MiniLM, and for each ``reference_name`` of ``support.tokenizer_checkpoints.TOKENIZERS``:

- ``<name>`` int32: the ids of all texts of ``support.odd_texts``, one after another, and
  ``<name> lengths``.
- ``<name> plain`` and ``<name> plain lengths``, for some: the same where special tokens that a text
  spells are text (``encode_special_tokens``).

``charsmap.bin`` has some of the rules that XLM-RoBERTa and T5 normalise by (nmt_nfkc), which would
take 240 kB.
"""

from __future__ import annotations

import io
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from support.odd_texts import odd_texts
from support.tokenizer_checkpoints import (
    CHARSMAP,
    TOKENIZERS,
    has_plain_reference,
    reference_name,
    write_tokenizer,
)
from tokenizers import Tokenizer

_SPACES = "\t\n\r\x0c\u00a0\u1680\u2000\u2003\u2009\u2028\u2029\u202f\u205f\u3000\u200b\u200e\ufeff"
_REMOVED = "\x01\x02\x08\x0b\x1f\x7f\x9f"
_COMPATIBILITY = "\u00bc\u00bd\u2460\u2461\u2122\ufb01\ufb02\u00b2\u3392\u2026\uff9e\uff76"


def rules() -> dict[str, str]:
    """Return what is put in place of what."""
    found = dict.fromkeys(_SPACES, " ") | dict.fromkeys(_REMOVED, "")
    for character in (*_COMPATIBILITY, *map(chr, range(0xFF01, 0xFF5F))):
        found[character] = unicodedata.normalize("NFKC", character)
    for code in (*range(0xC0, 0x180), *range(0x1EA0, 0x1EF9), 0xAC00, 0xD55C, 0xAD6D, 0x9CB, 0x9CC):
        decomposed = unicodedata.normalize("NFD", chr(code))
        for end in range(2, len(decomposed) + 1):
            found[decomposed[:end]] = unicodedata.normalize("NFC", decomposed[:end])
    return found


def write_charsmap() -> None:
    """Let sentencepiece compile the rules."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as table:
        for pair in rules().items():
            left, right = (" ".join(f"{ord(each):X}" for each in text) for text in pair)
            table.write(f"{left}\t{right}\n")
        table.flush()
        model = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=iter(["hello world the cafe"] * 50),
            model_writer=model,
            vocab_size=16,
            normalization_rule_tsv=table.name,
            minloglevel=2,
        )
    proto = ModelProto()
    proto.ParseFromString(model.getvalue())
    CHARSMAP.write_bytes(proto.normalizer_spec.precompiled_charsmap)


def main(checkpoint: Path) -> None:
    """Write the files beside this one."""
    texts = odd_texts()
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, tokenizer: Tokenizer) -> None:
        ids = [tokenizer.encode(text).ids for text in texts]
        arrays[name] = np.concatenate(ids).astype(np.int16)
        arrays[f"{name} lengths"] = np.array([len(each) for each in ids], np.int16)

    minilm = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    minilm.no_truncation()
    minilm.no_padding()
    add("MiniLM", minilm)
    for name in dict.fromkeys(map(reference_name, TOKENIZERS)):
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder), name)
            tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        for mode in ("", " plain") if has_plain_reference(name) else ("",):
            tokenizer.encode_special_tokens = bool(mode)
            add(name + mode, tokenizer)
    np.savez_compressed(Path(__file__).with_name("token_reference.npz"), **arrays)


if __name__ == "__main__":
    write_charsmap()
    main(Path(sys.argv[1]))
