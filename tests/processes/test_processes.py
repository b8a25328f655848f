# SPDX-License-Identifier: Apache-2.0
"""Forked and spawned children, pickling, and the ends of processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from support import child_process

from embellama import EmbeddingEngine, EmbeddingModel, EngineConfig, ModelConfig


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(minilm_path: Path, method: str) -> None:
    assert child_process.run_file("pool.py", str(minilm_path), method) == "well\n"


def test_a_prefork_server(minilm_path: Path) -> None:
    """The master loads, computes and forks workers, which answer many threads; one is replaced."""
    program = """
    import os, signal, threading
    import numpy as np, embellama

    engine = embellama.EmbeddingEngine.get_or_init(path)
    expected = engine.embed("hello world")

    def serve():
        answers = []
        def request():
            answers.append(embellama.EmbeddingEngine.instance().embed("hello world"))
        threads = [threading.Thread(target=request) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        good = all(np.abs(answer - expected).max() < 1e-5 for answer in answers)
        os._exit(0 if good and len(answers) == 8 else 1)

    for generation in range(3):
        workers = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                serve()
            workers.append(pid)
        os.kill(workers[0], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
        assert codes[0] in (0, -9) and codes[1:] == [0, 0], codes
        assert np.abs(engine.embed("hello world") - expected).max() < 1e-5
    print("well")
    """
    assert child_process.run(program, path=str(minilm_path)) == "well\n"


def test_a_fork_while_other_threads_work(minilm_path: Path) -> None:
    """Locks that other threads hold at that moment are free in the child."""
    program = """
    import os, signal, threading, time
    import numpy as np, embellama

    config = embellama.ModelConfig(path, cache=embellama.CacheConfig())
    model = embellama.EmbeddingModel(config)
    other = embellama.EmbeddingModel(path)
    stop = threading.Event()

    def load():
        while not stop.is_set():
            other.unload()
            other.load()
            other.embed("hello")

    def embed():
        number = 0
        while not stop.is_set():
            model.embed_batch([f"text {number} {i}" for i in range(30)])
            number += 1

    threads = [threading.Thread(target=load), *(threading.Thread(target=embed) for _ in range(3))]
    for thread in threads:
        thread.start()
    for n in range(8):
        time.sleep(0.03)
        child = os.fork()
        if child == 0:
            signal.alarm(20 * PATIENCE)
            model.embed("in the child")
            other.load()
            other.embed("in the child")
            model.unload()
            # One end goes through atexit, with what the other threads left; one does not.
            sys.exit(0) if n % 2 else os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    for thread in threads:
        thread.join()
    print("well")
    """
    assert child_process.run(program, path=str(minilm_path)) == "well\n"


def test_a_fork_inside_a_progress_function(minilm_path: Path) -> None:
    program = """
    import os, signal, embellama
    model = embellama.EmbeddingModel(path)
    child = None

    def progress(done, total):
        global child
        if child is None:
            child = os.fork()

    try:
        model.embed_batch(["word " * 300] * 30, progress=progress)
    except embellama.EmbeddingGenerationError as error:
        assert child == 0 and "forked" in str(error)
    if child == 0:
        signal.alarm(20 * PATIENCE)
        model.embed_batch(["works on"] * 10)
        model.unload()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), model.embed("works on").shape)
    """
    assert child_process.run(program, path=str(minilm_path)) == "7 (384,)\n"


def test_a_fork_inside_a_signal_handler(minilm_path: Path) -> None:
    """While a lone text is computed; the child counts its callers anew."""
    program = """
    import os, signal, threading, time, embellama
    model = embellama.EmbeddingModel(path)
    child = None

    def fork(*_):
        global child
        child = os.fork()

    signal.signal(signal.SIGALRM, fork)
    while child is None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            for _ in range(10):
                model.embed("word " * 400)
        except embellama.EmbeddingGenerationError as error:
            assert child == 0 and "forked" in str(error)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30 * PATIENCE)
        rows = []
        begun = threading.Event()

        def embed():
            rows.extend(model.embed_batch(["a cat"] * 3000, progress=lambda *_: begun.set()))

        caller = threading.Thread(target=embed)
        caller.start()
        begun.wait()
        model.unload()
        caller.join()
        os._exit(7 if len(rows) == 3000 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), model.embed("works on").shape)
    """
    assert child_process.run(program, path=str(minilm_path)) == "7 (384,)\n"


@pytest.mark.parametrize("instruction_set", [None, "llama.cpp"])
def test_contexts_after_a_fork(minilm_path: Path, instruction_set: str | None) -> None:
    """Those of the Cython API, with threads of their own, and while other threads compute."""
    program = """
    import os, signal, threading, time
    import numpy as np
    from embellama import EmbeddingModel, ModelConfig
    from embellama.core import Context

    model = EmbeddingModel(ModelConfig(path, instruction_set=instruction_set))
    contexts = [Context(model.core_model, n_threads=n) for n in (1, 3)]
    ids = model.tokenize("hello world")
    expected = [context.token_vectors(ids) for context in contexts]
    stop = threading.Event()

    def compute(context):
        while not stop.is_set():
            context.token_vectors([*ids] * 100)

    def fork():
        child = os.fork()
        if child == 0:
            signal.alarm(20 * PATIENCE)
            for context, rows in zip(contexts, expected, strict=True):
                assert np.abs(context.token_vectors(ids) - rows).max() < 1e-5
                context.close()
            sys.exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    codes = {fork()}
    threads = [threading.Thread(target=compute, args=(context,)) for context in contexts]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(0.03)
        codes.add(fork())
    stop.set()
    for thread in threads:
        thread.join()
    print(codes)
    """
    values = {"path": str(minilm_path), "instruction_set": instruction_set}
    assert child_process.run(program, **values) == "{7}\n"


def test_a_fork_without_memory(minilm_path: Path) -> None:
    """The child opens its workers when it first needs them, and has memory again by then."""
    program = """
    import os, resource
    from embellama import EmbeddingModel, ModelConfig, ResourceLimitError

    model = EmbeddingModel(ModelConfig(path, n_threads=512))
    other = EmbeddingModel(path)
    rows = model.embed("hello")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))
    child = os.fork()
    if child == 0:
        for _ in range(2):
            try:
                model.embed("hello")
            except (ResourceLimitError, MemoryError):
                refused = True
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert abs(model.embed("hello") - rows).max() < 1e-6
        assert other.embed("hello").shape == (384,)
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert child_process.run(program, path=str(minilm_path)) == "7\n"


def test_configs_pickle(minilm_path: Path) -> None:
    config = ModelConfig(minilm_path, pooling="cls", n_threads=2, truncate=True)
    assert pickle.loads(pickle.dumps(config)) == config
    engine_config = EngineConfig(config, memory_limit_mb=100.0)
    assert pickle.loads(pickle.dumps(engine_config)) == engine_config


def test_models_do_not_pickle(minilm: EmbeddingModel, minilm_path: Path) -> None:
    with pytest.raises(TypeError, match="can't be pickled: pass its config"):
        pickle.dumps(minilm)
    engine = EmbeddingEngine(minilm_path)
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(engine)
    for name in engine.list_models():
        engine.drop_model(name)


@pytest.mark.parametrize("ending", ["return", "sys.exit", "raise", "os._exit"])
def test_exit_inside_a_compute(minilm_path: Path, ending: str) -> None:
    """With other threads inside every kind of call, in any way a program may end."""
    status = {"return": 0, "sys.exit": 3, "raise": 1, "os._exit": 3}[ending]
    child_process.run_file("exit_inside_a_compute.py", str(minilm_path), ending, status=status)


def test_exit_while_models_come_and_go(
    minilm_path: Path, minilm_f32_path: Path, tmp_path: Path
) -> None:
    """With daemon threads inside loads, unloads, a conversion, and contexts of the Cython API."""
    paths = map(str, (minilm_path, minilm_f32_path, tmp_path / "quantised.gguf"))
    assert child_process.run_file("exit_while_models_come_and_go.py", *paths, status=1) == ""


def test_interrupt(minilm_path: Path) -> None:
    program = """
    import os, signal, threading, embellama
    # A shell has what runs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = embellama.EmbeddingModel(path)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        model.embed_batch(["word " * 400] * 50_000)
    except KeyboardInterrupt:
        print(model.embed("works on").shape)
    """
    assert child_process.run(program, path=str(minilm_path)) == "(384,)\n"


def test_an_idle_model_uses_no_processor(minilm_path: Path) -> None:
    program = """
    import time, embellama
    model = embellama.EmbeddingModel(path)
    model.embed("a cat")
    model.embed_batch(["a cat", "a dog"] * 20)
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(1.5)
    print(time.process_time() - before)
    """
    # One thread that spins would use all of 1.5 seconds.
    assert float(child_process.run(program, path=str(minilm_path))) < 0.05
