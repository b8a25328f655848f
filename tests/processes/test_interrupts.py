# SPDX-License-Identifier: Apache-2.0
"""A call that is to end does so soon, whatever a thread is busy with, and leaves nothing behind.

How soon is measured by ``tests/stress/interrupts.py``. Here a process has far more work than it may
take time for, so that it ends in time only if the call was ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import child_process
from support.tiny_model import write_tiny_model

from embellama import CacheConfig, EmbeddingModel, ModelConfig, OperationTimeoutError

# One computation of this takes llama.cpp's own kernels some tenths of a second.
LONG = "a b c d " * 1_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(
        tmp_path_factory.mktemp("interrupts") / "regex.gguf",
        "modern-bert",
        context_length=8192,
        metadata={"tokenizer.ggml.pre": "default"},
    )


@pytest.fixture(scope="module", params=[None, CacheConfig(token_cache_size=10)], ids=["", "cached"])
def model(path: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddingModel]:
    config = ModelConfig(path, truncate=True, n_threads=1, cache=request.param)
    with EmbeddingModel(config) as model:
        yield model


@pytest.mark.parametrize("cached", ["plain", "cached"])
@pytest.mark.parametrize("call", ["tokenizing", "computing", "computing tokens", "reading texts"])
def test_time_out(path: Path, call: str, cached: str) -> None:
    """A call that ran to its end would take longer than its process may."""
    printed = child_process.run_file("time_out.py", str(path), call, cached)
    assert "not finished within 0.3 seconds" in printed


def test_rows_are_the_callers_after_a_time_out(model: EmbeddingModel) -> None:
    """The thread may compute for a while, and must not write what it has then."""
    texts = [LONG] * 4
    out = np.zeros((4, 32), dtype=np.float32)
    for timeout in (0.03, 0.1, 0.2, 0.3):
        with pytest.raises(OperationTimeoutError):
            model.embed_batch([*texts, f"{timeout}"], out=np.zeros((5, 32), np.float32), timeout=0)
        with pytest.raises(OperationTimeoutError):
            model.embed_batch([text + str(timeout) for text in texts], out=out, timeout=timeout)
        out[:] = 7
        time.sleep(0.3)
        assert (out == 7).all()


def test_unload_after_a_time_out(tmp_path: Path) -> None:
    """It waits for what the threads still do with the weights."""
    path = write_tiny_model(tmp_path / "m.gguf", "bert", context_length=8192)
    for timeout in (0.02, 0.1, 0.2):
        config = ModelConfig(path, n_threads=2, truncate=True, instruction_set="llama.cpp")
        with EmbeddingModel(config) as model, pytest.raises(OperationTimeoutError):
            model.embed_batch([LONG] * 100, timeout=timeout)


def test_the_process_ends_while_a_daemon_threads_loop_computes(minilm_path: Path) -> None:
    program = """
    import asyncio, threading, time, embellama
    model = embellama.EmbeddingModel(path)
    texts = ["word " * 500] * 50_000
    main = lambda: asyncio.run(model.aembed_batch(texts))
    threading.Thread(target=main, daemon=True).start()
    time.sleep(0.5)
    """
    child_process.run(program, path=str(minilm_path))


@pytest.mark.parametrize("text", ["'word ' * 100_000", "'a b c d ' * 1_000"])
def test_the_process_ends_after_ctrl_c(path: Path, text: str) -> None:
    """While it tokenizes, and while it computes."""
    program = """
    import os, signal, threading, embellama
    config = embellama.ModelConfig(path, truncate=True, n_threads=1)
    model = embellama.EmbeddingModel(config)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        model.embed_batch([eval(text)] * 30_000)
    except KeyboardInterrupt:
        print("stopped")
    assert model.embed("works on").shape == (32,)
    """
    assert child_process.run(program, path=str(path), text=text) == "stopped\n"
