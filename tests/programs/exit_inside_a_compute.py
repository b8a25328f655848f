# SPDX-License-Identifier: Apache-2.0
"""A process ends while its daemon threads are inside calls.

Arguments: a model file, and how the process ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from embellama import EmbeddingModel, ModelConfig

begun = threading.Event()


def wait_for_ever(done: int, total: int) -> None:
    begun.set()
    threading.Event().wait()


def main() -> None:
    path, ending = sys.argv[1:]
    model = EmbeddingModel(ModelConfig(path, n_threads=2))
    calls = [
        lambda: model.embed_batch(["word " * 400] * 2000),
        lambda: model.embed_batch_multi(["word " * 400] * 2000),
        lambda: [model.embed("a cat") for _ in range(10**6)],
        lambda: model.tokenize("word " * 10**6),
        lambda: model.embed_batch(["word " * 400] * 2000, progress=wait_for_ever),
    ]
    for call in calls:
        threading.Thread(target=call, daemon=True).start()
    begun.wait()
    time.sleep(0.2)
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "raise":
        raise KeyError
    if ending == "os._exit":
        os._exit(3)


if __name__ == "__main__":
    main()
