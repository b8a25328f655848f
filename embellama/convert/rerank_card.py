# SPDX-License-Identifier: Apache-2.0
"""Whether a model card says that its checkpoint is a Qwen3-Reranker: config.json does not."""

from __future__ import annotations

from pathlib import Path

from embellama.convert.model_card import MAX_CARD_BYTES
from embellama.convert.regular_file import require_regular_file
from embellama.convert.tokenizer import Tokenizer

__all__ = ["has_reranker_card", "score_tokens_of_card"]


def has_reranker_card(checkpoint: Path) -> bool:
    """Whether a checkpoint's card is that of a Qwen3-Reranker."""
    card = checkpoint / "README.md"
    if not card.is_file():
        return False
    require_regular_file(card, MAX_CARD_BYTES)
    return b"\n# Qwen3-Reranker" in card.read_bytes()


def score_tokens_of_card(checkpoint: Path, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Return the ids of "yes" and "no" for a Qwen3-Reranker, None for other checkpoints.

    llama.cpp's converter knows it by the same heading.
    """
    if not has_reranker_card(checkpoint):
        return None
    vocabulary = tokenizer.model.get("vocab")
    ids = vocabulary if isinstance(vocabulary, dict) else {}
    yes, no = ids.get("yes"), ids.get("no")
    if type(yes) is not int or type(no) is not int:
        raise tokenizer.error('no tokens "yes" and "no", which a Qwen3-Reranker answers with')
    return yes, no
