# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out at every point of a model's life: an exception, and a process that goes on.

For one limit of the address space after the other, a forked child loads a model and embeds with
it, then without the limit once more. A signal, a hang, or an exception that is neither ours nor a
MemoryError is a finding::

    python tests/stress/allocation.py --step-kb 500
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_model import write_tiny_model

import embellama
from embellama import EmbeddingModel, EmbellamaError, ModelConfig

TEXTS = ["hello world", "a b c d e f", "hello " * 20] * 60
N_THREADS = 4
# Beyond what the process has: the stacks of the workers, contexts, and something left.
MOST_MB = 64 * N_THREADS + 120
TIME_LIMIT = 20


def attempt(path: Path, limit: int, *, loaded: bool) -> str:
    """Load and embed within the limit, then without it; what happened."""
    config = ModelConfig(path, n_threads=N_THREADS)
    model = EmbeddingModel(config) if loaded else None
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit, hard))
    try:
        model = model or EmbeddingModel(config)
        model.embed(TEXTS[0])
        model.embed_batch(TEXTS)
        outcome = "enough"
    except (EmbellamaError, MemoryError) as error:
        outcome = f"{type(error).__name__}"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    model = model or EmbeddingModel(config)
    if model.embed_batch(TEXTS).shape != (len(TEXTS), model.embedding_dimensions):
        raise AssertionError("the model does not work on")
    return outcome


def in_child(path: Path, limit: int, loaded: bool) -> str:
    """What :func:`attempt` says, or how the child ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(TIME_LIMIT)
            os.write(writer, attempt(path, limit, loaded=loaded).encode())
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said if code == 0 else f"finding: ended with {code} {said}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step-kb", type=int, default=2000)
    options = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ("bert", "nomic-bert", "llama"):
            path = write_tiny_model(Path(folder) / f"{architecture}.gguf", architecture)
            for loaded in (False, True):
                for limit in range(0, MOST_MB * 1000, options.step_kb):
                    outcome = in_child(path, limit * 1000, loaded)
                    if outcome.startswith("finding"):
                        print(f"{architecture}, loaded={loaded}, {limit} kB: {outcome}", flush=True)
                    outcomes[outcome.split(":")[0]] += 1
    print(dict(outcomes))
    return int(outcomes["finding"] > 0 or outcomes["enough"] == 0)


if __name__ == "__main__":
    # Imported before memory is short.
    embellama.backend_info()
    sys.exit(main())
