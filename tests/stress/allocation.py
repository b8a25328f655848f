# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out at every point of a model's life: an exception, and a process that goes on.

A forked child loads a model, or uses one that is loaded, while memory is short; then it does so
once more with memory enough. A signal, a hang, or an exception that is neither ours nor a
MemoryError is a finding. Memory is short in two ways: by a limit of the address space, one after
the other; and by allocations that fail (glibc), the n-th or all from the n-th on, which is
everywhere at once but for stacks and files::

    python tests/stress/allocation.py --step-kb 500 --cases 1000

With ``--contexts`` the last allocations of opening a context fail in turn, with all after them.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.checkpoints import write_checkpoint
from support.tiny_model import write_tiny_model

import embellama
from embellama import CacheConfig, EmbeddingModel, EmbellamaError, ModelConfig, core
from embellama.convert import convert_checkpoint

TEXTS = ["hello world", "a b c d e f", "hello " * 20] * 10
N_THREADS = 4
# Beyond what the process has: the stacks of the workers, contexts, and something left.
MOST_MB = 64 * N_THREADS + 120
# Of a case that takes a fraction of a second on an idle machine.
TIME_LIMIT = 120
# How numpy's reductions and threading.Lock() say that there is no memory.
WORDS_OF_OTHERS = (
    "error return without exception set",
    "returned NULL without setting an exception",
    "can't allocate lock",
)
PRELOADED = "FAILING_ALLOCATION"

Use = Callable[[EmbeddingModel], object]


def embed(model: EmbeddingModel) -> object:
    model.embed(TEXTS[2])
    return model.embed_batch(TEXTS)


def compute_in_a_context(model: EmbeddingModel) -> object:
    context = core.Context(core.Model(str(model.path)))
    return context.token_vectors([1, 2, 3])


def convert_a_checkpoint(model: EmbeddingModel) -> object:
    """A failed conversion leaves nothing where its file would be."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return convert_checkpoint(
                model.path.parent / "checkpoint", Path(folder) / "new.gguf", file_type="Q8_0"
            )
        except BaseException:
            left = os.listdir(folder)
            if left:
                raise AssertionError(f"left behind: {left}") from None
            raise


# Architecture, settings, and what is done with the model.
KINDS: dict[str, tuple[str, dict[str, Any], Use]] = {
    "bert": ("bert", {}, embed),
    "bert by llama.cpp": ("bert", {"instruction_set": "llama.cpp"}, embed),
    "nomic-bert": ("nomic-bert", {}, embed),
    "llama": ("llama", {"truncate": True}, embed),
    "tokens": ("bert", {}, lambda model: model.embed_batch_multi(TEXTS)),
    "cached": ("bert", {"cache": CacheConfig(token_cache_size=100)}, embed),
    "ranks": ("reranker", {"pooling": "rank"}, lambda model: model.rerank("hello", TEXTS)),
    "context": ("bert", {}, compute_in_a_context),
    "convert": ("bert", {}, convert_a_checkpoint),
}


def write_model(folder: Path, architecture: str) -> Path:
    path = folder / f"{architecture}.gguf"
    if architecture != "reranker":
        return write_tiny_model(path, architecture)
    random = np.random.default_rng(0)
    head = {
        "cls.weight": random.standard_normal((32, 32), np.float32),
        "cls.bias": np.zeros(32, np.float32),
        "cls.output.weight": random.standard_normal((1, 32), np.float32),
        "cls.output.bias": np.zeros(1, np.float32),
    }
    return write_tiny_model(path, "bert", metadata={"bert.pooling_type": 4}, tensors=head)


def attempt(
    config: ModelConfig,
    use: Use,
    loaded: bool,
    scarce: Callable[[], None],
    enough: Callable[[], Any],
) -> str:
    """Load and use a model while memory is scarce, then while it is not; what happened."""
    model = EmbeddingModel(config) if loaded else None
    foreign: Exception | None = None
    try:
        scarce()
        model = model or EmbeddingModel(config)
        use(model)
        outcome = "enough"
    except (EmbellamaError, MemoryError) as error:
        outcome = type(error).__name__
    except (SystemError, RuntimeError) as error:
        foreign = error
    finally:
        enough()
    if foreign is not None:
        if not any(words in str(foreign) for words in WORDS_OF_OTHERS):
            raise foreign
        outcome = "words of others"
    use(model or EmbeddingModel(config))
    return outcome


def in_child(work: Callable[[], str]) -> str:
    """What `work` says in a process of its own, or how that ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(TIME_LIMIT)
            os.write(writer, work().encode())
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc()[-3000:].encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said if code == 0 else f"finding: ended with {code} {said}"


def limit_address_space(n_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + n_bytes, hard))


def lift_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def limits(step_kb: int, run: Callable[..., str]) -> Iterator[tuple[str, str]]:
    for limit in range(0, MOST_MB * 1000, step_kb):
        scarce = functools.partial(limit_address_space, limit * 1000)
        yield f"{limit} kB", in_child(lambda scarce=scarce: run(scarce, lift_limit))


def failing_allocation() -> tuple[Callable[[int, int], None], Callable[[], int]]:
    """Return what makes allocations fail from a number on, how many, and what ends that."""
    library = ctypes.CDLL(os.environ[PRELOADED])
    arm, stop = library.fail_allocations, library.stop_failing
    arm.argtypes, stop.restype = [ctypes.c_long] * 2, ctypes.c_long
    return arm, stop


def open_contexts(path: Path) -> collections.Counter[str]:
    """Open contexts, and with each one more allocation than before, until there are enough.

    The first nine tenths are left out, which would take minutes. Most are llama.cpp's, in one call
    that may throw.
    """
    arm, stop = failing_allocation()
    model = core.Model(str(path), architecture="bert")
    arm(2**62, 0)
    core.Context(model).token_vectors([1, 2, 3])
    number = stop() * 9 // 10
    outcomes: collections.Counter[str] = collections.Counter()
    while not outcomes["enough"]:
        context = core.Context(model)
        arm(number, -1)
        try:
            context.token_vectors([1, 2, 3])
            outcome = "enough"
        except (EmbellamaError, MemoryError) as error:
            outcome = type(error).__name__
        except (SystemError, RuntimeError) as error:
            if not any(words in str(error) for words in WORDS_OF_OTHERS):
                raise
            outcome = "words of others"
        finally:
            stop()
        outcomes[outcome] += 1
        number += 1
        context.token_vectors([1, 2, 3])
    return outcomes


def failures(n_cases: int, run: Callable[..., str]) -> Iterator[tuple[str, str]]:
    arm, stop = failing_allocation()

    def count() -> str:
        counted = []
        run(lambda: arm(2**62, 0), lambda: counted.append(stop()))
        return str(counted[0])

    n_allocations = int(in_child(count))
    for case in range(n_cases):
        number = case * n_allocations // n_cases
        n_failing = -1 if case % 2 == 0 else 1
        scarce = functools.partial(arm, number, n_failing)
        yield (
            f"allocation {number}, {n_failing} failing",
            in_child(lambda scarce=scarce: run(scarce, stop)),
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step-kb", type=int, default=2000)
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--contexts", action="store_true")
    options = parser.parse_args()
    if (options.cases or options.contexts) and PRELOADED not in os.environ:
        return preloaded()
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "checkpoint", "XLMRobertaModel", "Unigram")
        if options.contexts:
            outcomes += open_contexts(write_model(Path(folder), "bert"))
        for kind in options.kinds:
            architecture, settings, use = KINDS[kind]
            path = write_model(Path(folder), architecture)
            config = ModelConfig(path, n_threads=N_THREADS, **settings)
            # What is imported on first use is, before memory is short.
            use(EmbeddingModel(config))
            for loaded in (False, True):
                run = functools.partial(attempt, config, use, loaded)
                ways = []
                if options.step_kb:
                    ways.append(limits(options.step_kb, run))
                # safetensors, in Rust, ends the process where one of its own allocations fails.
                if options.cases and use is not convert_a_checkpoint:
                    ways.append(failures(options.cases, run))
                for way in ways:
                    for where, outcome in way:
                        if outcome.startswith("finding"):
                            print(f"{kind}, loaded={loaded}, {where}: {outcome}", flush=True)
                        outcomes[outcome.split(":")[0]] += 1
    print(dict(outcomes))
    return int(outcomes["finding"] > 0 or len(outcomes) < 2)


def preloaded() -> int:
    """This program once more, with allocations that can be told to fail."""
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "failing_allocation.so")
        source = Path(__file__).with_name("failing_allocation.c")
        compiler = shutil.which("cc") or "gcc"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        before = [os.environ["LD_PRELOAD"]] if "LD_PRELOAD" in os.environ else []
        environment = os.environ | {"LD_PRELOAD": ":".join([library, *before]), PRELOADED: library}
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


if __name__ == "__main__":
    # Imported before memory is short.
    embellama.backend_info()
    sys.exit(main())
