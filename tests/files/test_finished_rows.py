# SPDX-License-Identifier: Apache-2.0
"""Rows that are finished stay so, wherever a run stops and however its input changes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_model import write_tiny_bert

from embellama import ConfigurationError, EmbeddingModel, EmbeddingResult, ModelConfig
from embellama.files.finished_rows import FinishedRows
from embellama.files.partial_output import partial_output

SETTINGS = {"model": "tiny"}
WINDOW = 3

# Few words, so that texts come twice; " " can't be embedded, and None is no text.
Texts = list[str | None]
TEXTS = st.lists(st.one_of(st.sampled_from(["a b", "a", "hello", " "]), st.none()), max_size=20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingModel]:
    path = write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    with EmbeddingModel(ModelConfig(path, n_threads=1)) as model:
        yield model


class StoppedError(Exception):
    """What ends a run before its end."""


def write(
    model: EmbeddingModel, texts: Texts, output: Path, *, stop_after: int | None = None
) -> int:
    """Write the vectors of texts, in windows, and count the texts that were computed."""
    n_computed = 0

    def computing(window: Texts) -> Callable[[list[int]], EmbeddingResult]:
        def compute(indices: list[int]) -> EmbeddingResult:
            nonlocal n_computed
            n_computed += len(indices)
            chosen = [window[i] or "" for i in indices]
            return model.embed_batch(chosen, on_error="nan", details=True)

        return compute

    with partial_output(output, SETTINGS, model.embedding_dimensions) as partial:
        for number, start in enumerate(range(0, len(texts), WINDOW)):
            if number == stop_after:
                raise StoppedError
            window = texts[start : start + WINDOW]
            result = partial.finished.complete(window, computing(window))
            partial.file.write(result.embeddings.tobytes())
    return n_computed


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, stops=st.lists(st.integers(0, 6), max_size=3))
def test_a_run_that_was_stopped_gives_the_bytes_of_one_that_was_not(
    model: EmbeddingModel, texts: Texts, stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, stopped = Path(folder) / "whole", Path(folder) / "stopped"
        write(model, texts, whole)
        for stop in stops:
            if stop * WINDOW < len(texts):
                with pytest.raises(StoppedError):
                    write(model, texts, stopped, stop_after=stop)
        write(model, texts, stopped)
        assert stopped.read_bytes() == whole.read_bytes()
        assert not stopped.with_name("stopped.partial").exists()


@settings(max_examples=60, deadline=None)
@given(before=TEXTS, after=TEXTS, stop=st.integers(0, 6))
def test_rows_are_kept_whatever_became_of_the_input(
    model: EmbeddingModel, before: Texts, after: Texts, stop: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, changed = Path(folder) / "whole", Path(folder) / "changed"
        write(model, after, whole)
        stop = min(stop, (len(before) - 1) // WINDOW)
        if before:
            with pytest.raises(StoppedError):
                write(model, before, changed, stop_after=stop)
        n_computed = write(model, after, changed)
        np.testing.assert_allclose(
            np.fromfile(changed, np.float32), np.fromfile(whole, np.float32), atol=1e-5
        )
        done = before[: stop * WINDOW]
        # With the same beginning, what follows is computed as if there had been no stop.
        if done != after[: len(done)]:
            known = {text for text in done if text is not None and text.strip()}
            assert n_computed <= sum(text is not None and text not in known for text in after)


def test_what_is_still_true_after_another_truncation(tmp_path: Path, model: EmbeddingModel) -> None:
    texts: Texts = ["a", "a b c d", "a b c d e f"]
    n_tokens = [model.count_tokens(text or "") for text in texts]

    def computed(max_tokens: int | None) -> list[int]:
        """Which texts are computed when texts are cut there."""
        calls: list[int] = []
        truncate = False if max_tokens is None else max_tokens

        def compute(indices: list[int]) -> EmbeddingResult:
            calls.extend(indices)
            with EmbeddingModel(model.config.replace(truncate=truncate)) as other:
                return other.embed_batch([texts[i] or "" for i in indices], details=True)

        with FinishedRows(tmp_path, model.embedding_dimensions, max_tokens) as finished:
            finished.complete(texts, compute)
        return calls

    assert computed(n_tokens[1]) == [0, 1, 2]  # the last is cut
    assert computed(n_tokens[1]) == []
    assert computed(n_tokens[2] - 1) == [2]
    assert computed(None) == [2]
    assert computed(n_tokens[0]) == [1, 2]
    for limit in (None, *n_tokens):
        assert computed(limit) == []


def test_other_settings_are_refused_unless_nothing_is_done(
    tmp_path: Path, model: EmbeddingModel
) -> None:
    output = tmp_path / "x"

    def begin(settings: dict[str, str], texts: Texts, *, restart: bool = False) -> int:
        """Stop a run after its first texts; how many of them were done before."""
        n_dims = model.embedding_dimensions
        n_found = -1
        with (
            contextlib.suppress(StoppedError),
            partial_output(output, settings, n_dims, restart=restart) as partial,
        ):
            n_found = partial.finished.n_found
            partial.finished.complete(
                texts, lambda indices: model.embed_batch(["a"] * len(indices), details=True)
            )
            raise StoppedError
        return n_found

    assert begin({"pooling": "mean"}, []) == 0
    assert not output.with_name("x.partial").exists()
    assert begin({"pooling": "cls"}, ["a"]) == 0
    with pytest.raises(ConfigurationError, match=r"x\.partial holds rows of .*\(pooling changed\)"):
        begin({"pooling": "mean"}, ["a"])
    assert begin({"pooling": "cls"}, ["a"]) == 1
    assert begin({"pooling": "mean"}, ["a"], restart=True) == 0
