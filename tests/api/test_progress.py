# SPDX-License-Identifier: Apache-2.0
"""A bar never fails a call, whatever became of standard error, and is not drawn for one text."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from embellama import EmbeddingModel

TEXTS = ["a cat", "a dog", "a cow"]


class ClosedAmidst(io.StringIO):
    """Closed once something is written."""

    def write(self, text: str) -> int:
        self.close()
        return len(text)


class Full(io.StringIO):
    """Takes nothing, as a disk that is full or a pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, closed(), ClosedAmidst(), Full()])
def test_no_standard_error(
    stream: io.StringIO | None, minilm: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = minilm.embed_batch(TEXTS)
    monkeypatch.setattr(sys, "stderr", stream)
    np.testing.assert_array_equal(minilm.embed_batch(TEXTS, progress=True), expected)


def test_a_bar_is_for_several_texts(
    minilm: EmbeddingModel, capsys: pytest.CaptureFixture[str]
) -> None:
    minilm.embed_batch(["a cat"], progress=True)
    minilm.embed_batch([], progress=True)
    assert capsys.readouterr() == ("", "")
    minilm.embed_batch(TEXTS, progress=True)
    printed, shown = capsys.readouterr()
    assert printed == ""
    assert "3/3" in shown
