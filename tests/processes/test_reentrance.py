# SPDX-License-Identifier: Apache-2.0
"""A model used from inside its own calls: by progress functions, signal handlers, finalisers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import child_process

CACHE = "CacheConfig(embedding_cache_size=50, token_cache_size=50)"


def test_unload_in_a_progress_function(minilm_path: Path) -> None:
    program = """
    from embellama import EmbeddingModel

    model = EmbeddingModel(path)
    print(model.embed_batch(["a text"] * 200, progress=lambda done, total: model.unload()).shape)
    print(model.is_loaded)
    model.load()
    print(model.embed("works on").shape)
    """
    said = child_process.run(program, path=str(minilm_path))
    assert said == "(200, 384)\nFalse\n(384,)\n"


@pytest.mark.parametrize("amid", ["model.embed_batch(texts)", "model.load()"])
def test_unload_in_a_signal_handler(minilm_path: Path, amid: str) -> None:
    program = """
    import contextlib, signal
    from embellama import EmbeddingModel, ModelLoadError

    model = EmbeddingModel(path)
    texts = ["some words of a text " * 40] * 50
    if "load" in amid:
        model.unload()
    handled = []
    signal.signal(signal.SIGALRM, lambda *_: handled.append(model.unload()))
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    while not handled:
        with contextlib.suppress(ModelLoadError):  # unloaded between two steps of the call
            eval(amid)
        if "load" in amid:
            model.unload()
    model.load()
    print(model.embed("works on").shape)
    """
    assert child_process.run(program, path=str(minilm_path), amid=amid) == "(384,)\n"


def test_closing_the_weights_in_a_progress_function(minilm_path: Path) -> None:
    program = """
    from embellama import EmbeddingModel

    model = EmbeddingModel(path)

    def close(done, total):
        try:
            model.core_model.close()
        except RuntimeError as error:
            refused.append(str(error))

    refused = []
    print(model.embed_batch(["a text"] * 200, progress=close).shape)
    assert refused and all("another call uses the model" in each for each in refused)
    print(model.embed("works on").shape)
    """
    assert child_process.run(program, path=str(minilm_path)) == "(200, 384)\n(384,)\n"


@pytest.mark.parametrize("cache", ["None", CACHE])
def test_embed_in_a_signal_handler(minilm_path: Path, cache: str) -> None:
    program = """
    import signal, time
    from embellama import CacheConfig, EmbeddingModel, ModelConfig

    model = EmbeddingModel(ModelConfig(path, cache=eval(cache)))
    handled = []

    def embed(*_):
        handled.append(model.embed(f"text {len(handled)}"))
        signal.setitimer(signal.ITIMER_REAL, 0.003)

    signal.signal(signal.SIGALRM, embed)
    signal.setitimer(signal.ITIMER_REAL, 0.003)
    number = 0
    while len(handled) < 40:
        model.embed_batch([f"{number} {i}" for i in range(20)])
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(model.embed("works on").shape, len(model.cache_stats()))
    """
    said = child_process.run(program, path=str(minilm_path), cache=cache)
    assert said == f"(384,) {0 if cache == 'None' else 2}\n"


def test_embed_in_a_finaliser(minilm_path: Path) -> None:
    program = f"""
    import gc
    from embellama import CacheConfig, EmbeddingModel, ModelConfig

    model = EmbeddingModel(ModelConfig(path, cache={CACHE}))
    finalised = []

    class Cycle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            finalised.append(model.count_tokens(f"text {{len(finalised)}}"))

    gc.set_threshold(5)
    for number in range(2000):
        Cycle()
        model.count_tokens(f"number {{number}}")
    print(len(finalised) > 100)
    """
    assert child_process.run(program, path=str(minilm_path)) == "True\n"


@pytest.mark.slow
def test_ctrl_c_leaves_a_full_cache_whole(minilm_path: Path) -> None:
    """The package that kept the entries before raised KeyError for every new text from then on."""
    program = f"""
    import signal
    from embellama import CacheConfig, EmbeddingModel, ModelConfig

    model = EmbeddingModel(ModelConfig(path, cache={CACHE}))
    n_interrupts = number = 0

    def interrupt(number, frame):
        if frame.f_code.co_filename.endswith("cache.py"):
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    while n_interrupts < 100:
        try:
            while True:
                number += 1
                model.count_tokens(f"text {{number}}")
        except KeyboardInterrupt:
            n_interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    for i in range(200):
        model.embed(f"another {{i}}")
    for name, stats in model.cache_stats().items():
        assert stats.entry_count == 50, stats
        assert 50 * 400 < stats.memory_bytes < 50 * 3000, stats
    print("whole")
    """
    assert child_process.run(program, path=str(minilm_path)) == "whole\n"
