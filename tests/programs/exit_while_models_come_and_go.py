# SPDX-License-Identifier: Apache-2.0
"""A process ends while its daemon threads load, unload, compute and convert.

Arguments: a model file, one to quantise, and where to write the quantised one.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable

# Between the destructors of llama.cpp's static objects and the end of the threads lies the sleep of
# as many seconds as the exit code. What is registered before llama.cpp is loaded runs after them.
libc = ctypes.CDLL(None)
libc.on_exit(libc.sleep, None)

from embellama import EmbeddingModel, EmbellamaError, ModelConfig  # noqa: E402
from embellama.core import Context, Vocabulary, quantize  # noqa: E402

path, source, target = sys.argv[1:]
config = ModelConfig(path, n_threads=2)
model = EmbeddingModel(config)


def load() -> None:
    other = EmbeddingModel(config)
    other.embed_batch(["a cat"] * 20)
    other.unload()


def reload() -> None:
    model.unload()
    model.load()


def compute() -> None:
    core_model = model.core_model
    Context(core_model, n_threads=3).token_vectors([101] * 500)
    Vocabulary(core_model).tokenize("word " * 10**5)


def convert() -> None:
    quantize(source, target, 15, 1)


def repeat(call: Callable[[], None]) -> None:
    while True:
        with contextlib.suppress(EmbellamaError):
            call()


for call in (load, load, reload, compute, convert):
    threading.Thread(target=repeat, args=(call,), daemon=True).start()
time.sleep(0.5)
sys.exit(1)
