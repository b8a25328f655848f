# SPDX-License-Identifier: Apache-2.0
"""The extension that links llama.cpp, used directly as other Cython projects would."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import child_process
from support.installation import needs_a_package
from support.tiny_model import write_tiny_model

import embellama
from embellama import (
    ConfigurationError,
    EmbeddingModel,
    InvalidInputError,
    ModelLoadError,
    ModelNotFoundError,
    core,
    kernels,
    workers,
)
from embellama.config import MAX_THREADS
from embellama.core import Context, Model, Vocabulary


@pytest.fixture(scope="module")
def model(minilm_path: Path) -> Model:
    return Model(str(minilm_path))


def test_model(model: Model) -> None:
    assert model.description == "bert 22M F16"
    assert (model.n_dimensions, model.n_context, model.n_scores) == (384, 512, 1)
    assert model.n_parameters == 22_565_376
    assert 45_000_000 < model.size < 46_000_000
    assert not model.has_encoder


def test_vocabulary(model: Model) -> None:
    vocabulary = Vocabulary(model)
    assert len(vocabulary) == 30522
    assert (vocabulary.bos, vocabulary.sep) == (101, 102)
    assert (vocabulary.n_prefix, vocabulary.n_suffix) == (1, 1)
    assert vocabulary.pair_frame == ([101], [102], [102])
    assert vocabulary.token(101) == "[CLS]"
    assert vocabulary.tokenize("a cat").tolist() == [101, 1037, 4937, 102]
    assert vocabulary.tokenize("a cat", add_special=False).tolist() == [1037, 4937]
    assert 102 not in vocabulary.tokenize("[SEP]", add_special=False, parse_special=False)
    assert len(vocabulary.tokenize("word " * 10000)) == 10002
    with pytest.raises(InvalidInputError, match="from 0 to 30521"):
        vocabulary.token(30522)
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        vocabulary.tokenize("\ud800")
    with pytest.raises(TypeError):
        vocabulary.tokenize(None)  # type: ignore[arg-type]


def test_context_computes_what_the_workers_do(model: Model, minilm: EmbeddingModel) -> None:
    context = Context(model)
    ids = Vocabulary(model).tokenize("context and workers agree")
    rows = context.token_vectors(ids)
    assert rows.shape == (len(ids), 384)
    vector = kernels.normalize_rows(kernels.pool_rows(rows, "mean")[None])[0]
    np.testing.assert_allclose(vector, minilm.embed("context and workers agree"), atol=2e-3)
    # It grows with what it is given, and opens again after it was closed.
    assert context.token_vectors([101] * 300).shape == (300, 384)
    assert context.n_tokens >= 300
    context.close()
    assert context.n_tokens == 0
    np.testing.assert_allclose(context.token_vectors(ids), rows, atol=2e-3)


@pytest.mark.parametrize("ids", [[], [101] * 513, [-1], [30522], [[101, 102]]])
def test_context_refuses_bad_ids(model: Model, ids: list[int]) -> None:
    context = Context(model)
    with pytest.raises(InvalidInputError):
        context.token_vectors(ids)
    assert context.token_vectors([101, 102]).shape == (2, 384)


def test_context_settings(model: Model) -> None:
    with pytest.raises(ConfigurationError, match="n_threads"):
        Context(model, n_threads=0)
    assert Context(model, n_threads=2).token_vectors([101, 102]).shape == (2, 384)


def test_closed_model(minilm_path: Path) -> None:
    model = Model(str(minilm_path))
    vocabulary = Vocabulary(model)
    model.close()
    model.close()
    for use in (
        lambda: model.description,
        lambda: Vocabulary(model),
        lambda: Context(model),
        lambda: vocabulary.tokenize("a"),
        lambda: len(vocabulary),
    ):
        with pytest.raises(ModelLoadError, match="closed"):
            use()


def test_no_model_is_closed_under_a_thread(minilm_path: Path) -> None:
    """Its vocabulary was freed while another thread tokenized with it."""
    model = Model(str(minilm_path))
    vocabulary, context = Vocabulary(model), Context(model)
    ids = np.resize(vocabulary.tokenize("some words of a text"), 512)
    text = "some words of a text " * 100_000
    calls: list[Callable[[], object]] = [
        lambda: vocabulary.tokenize(text),
        lambda: [context.token_vectors(ids) for _ in range(3)],
    ]
    for call in calls:
        started = threading.Event()

        def repeat(call: Callable[[], object] = call, started: threading.Event = started) -> None:
            started.set()
            for _ in range(4):
                call()

        with ThreadPoolExecutor() as pool:
            done = pool.submit(repeat)
            started.wait()
            time.sleep(0.05)
            refused = 0
            while not done.done():
                try:
                    model.close()
                except RuntimeError:
                    refused += 1
                    time.sleep(0.001)
                else:
                    break
            with contextlib.suppress(ModelLoadError):
                done.result()
        assert refused
        model = Model(str(minilm_path))
        vocabulary, context = Vocabulary(model), Context(model)
    model.close()
    with pytest.raises(ModelLoadError, match="closed"):
        vocabulary.tokenize("a")


def test_many_threads_close_a_model(minilm_path: Path) -> None:
    """Each of them once subtracted what says that it is closed: three were too much for 32 bits."""
    together = threading.Barrier(16)

    def close(model: Model) -> None:
        together.wait()
        model.close()

    with ThreadPoolExecutor(together.parties) as pool:
        for _ in range(20):
            loaded = EmbeddingModel(minilm_path)  # whose threads closing waits for
            model = loaded.core_model
            for closing in [pool.submit(close, model) for _ in range(together.parties)]:
                closing.result()
            with pytest.raises(ModelLoadError, match="closed"):
                Vocabulary(model)


def test_loading_errors_hold_what_llama_cpp_said(tmp_path: Path) -> None:
    """Without the header check: what llama.cpp logs as an error is in the message."""
    with pytest.raises(ModelNotFoundError):
        Model(str(tmp_path / "none.gguf"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(
        ModelLoadError, match=r"broken\.gguf: llama\.cpp can't load this file: .*gguf"
    ):
        Model(str(broken))


def test_nothing_is_initialised_twice(model: Model, minilm_path: Path) -> None:
    with pytest.raises(RuntimeError, match="once"):
        model.__init__(str(minilm_path))  # type: ignore[misc]
    context = Context(model)
    with pytest.raises(RuntimeError, match="once"):
        context.__init__(model)  # type: ignore[misc]


def test_quantize(minilm_f32_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "q8.gguf"
    core.quantize(str(minilm_f32_path), str(target), 7, 1)
    assert target.stat().st_size < 0.3 * minilm_f32_path.stat().st_size
    assert embellama.model_info(target).file_type == "Q8_0"
    with pytest.raises(ModelNotFoundError):
        core.quantize(str(tmp_path / "none"), str(target), 7)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no gguf")
    with pytest.raises(ModelLoadError, match="quantise"):
        core.quantize(str(broken), str(tmp_path / "x.gguf"), 7)


def test_quantize_refuses(minilm_f32_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(minilm_f32_path.read_bytes())
    link = tmp_path / "link.gguf"
    link.symlink_to(source)
    for destination, complaint in [
        (source, "is the source itself"),
        (link, "is the source itself"),
        (f"{tmp_path}/a\0b", "can't be a file's name"),
        (f"{tmp_path}/a\ud800b", "can't be a file's name"),
    ]:
        with pytest.raises(ConfigurationError, match=complaint):
            core.quantize(str(source), str(destination), 7)
    assert source.read_bytes() == minilm_f32_path.read_bytes()
    for file_type, n_threads in [(-1, 1), (2**40, 1), (7, -1), (7, 513), (7, 2**40)]:
        with pytest.raises(ConfigurationError, match=r"file_type|n_threads"):
            core.quantize(str(source), str(tmp_path / "new.gguf"), file_type, n_threads)


def test_quantize_damaged_files(tmp_path: Path) -> None:
    """What llama.cpp ends the process for, where EmbeddingModel's check has not looked first."""
    damages: list[tuple[str, dict[str, Any]]] = [
        ("bert", {"metadata": {"bert.block_count": 600}}),
        ("bert", {"metadata": {"bert.expert_group_count": 16}}),
        ("bert", {"metadata": {"bert.rope.scaling.type": "strange"}}),
        ("bert", {"tensors": {"empty.weight": np.zeros((0,), np.float32)}}),
    ]
    program = """
    from embellama import core
    try:
        core.quantize(path, path + ".new", 7)
    except core.ModelLoadError as error:
        print(str(error).startswith(path))
    """
    for number, (architecture, damage) in enumerate(damages):
        path = write_tiny_model(tmp_path / f"{number}.gguf", architecture, **damage)
        assert child_process.run(program, path=str(path)) == "True\n"


def test_the_most_threads_are_those_of_ggml() -> None:
    assert core.MAX_THREADS == MAX_THREADS


def test_quantize_where_threads_are_refused(minilm_path: Path, tmp_path: Path) -> None:
    program = """
    import os, resource
    from embellama import EmbellamaError, core

    def address_space():
        return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

    codes = []
    for extra in range(60, 360, 20):
        child = os.fork()
        if child == 0:
            limit = address_space() + extra * 1_000_000
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            try:
                core.quantize(path, target, 7, 16)
            except EmbellamaError:
                os._exit(1)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(sorted(set(codes)), codes == sorted(codes, reverse=True))
    """
    values = {"path": str(minilm_path), "target": str(tmp_path / "new.gguf")}
    assert child_process.run(program, **values) == "[0, 1] True\n"


def test_what_was_never_initialised(minilm_path: Path) -> None:
    program = """
    from embellama import core, workers
    from embellama.embedding.call import Call

    class Forgetful(core.Vocabulary):
        def __init__(self):
            pass

    def new(kind):
        return kind.__new__(kind)

    uses = [
        lambda: len(Forgetful()),
        lambda: Forgetful().token(0),
        lambda: Forgetful().tokenize("a"),
        lambda: new(core.Context).token_vectors([1]),
        lambda: new(core.Model).description,
        lambda: core.Vocabulary(new(core.Model)),
        lambda: new(workers.Workers).tokenize(("a",), Call()),
        lambda: new(workers.Workers).embed_short("a", n_dims=3, longest=5),
    ]
    for use in uses:
        try:
            use()
        except (AttributeError, core.ModelLoadError):
            print(end="ok ")
    new(core.Model).close(), new(core.Context).close(), new(workers.Workers).close()
    model = core.Model(path)
    vocabulary = core.Vocabulary(model)
    model.close()
    try:
        model.__init__(path)
    except RuntimeError as error:
        print(error)
    """
    said = child_process.run(program, path=str(minilm_path))
    assert said == "ok " * 8 + "a Model is initialised once\n"


def test_a_cycle_is_freed_in_order(minilm_path: Path) -> None:
    """The collector cleared a Context's model first, whose weights the context's end reads."""
    program = """
    import gc
    from embellama import core

    class Holder:
        pass

    freed = []

    class Watched(core.Model):
        def __del__(self):
            freed.append("model")

    model = Watched(path)
    holder = Holder()
    holder.itself, holder.context = holder, core.Context(model)
    holder.context.token_vectors([101, 102])
    del model, holder
    gc.collect()
    print(freed)
    """
    assert child_process.run(program, path=str(minilm_path)) == "['model']\n"


def test_backend_info() -> None:
    info = embellama.backend_info()
    assert any(device.startswith("CPU") for device in info["devices"])


@pytest.mark.parametrize("module", [core, kernels, workers])
def test_extensions_export_their_init_function_only(module: object) -> None:
    path = module.__file__  # type: ignore[attr-defined]
    listed = subprocess.run(
        ["nm", "--dynamic", "--defined-only", path], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = [line.split()[-1] for line in listed if line]
    assert names == [f"PyInit_{Path(path).name.split('.')[0]}"]


@needs_a_package
def test_the_package_is_small() -> None:
    folder = Path(core.__file__).parent
    size = sum(path.stat().st_size for path in folder.rglob("*.so"))
    assert size < 22e6


def test_import_starts_no_thread_and_needs_no_event_loop() -> None:
    program = (
        "import embellama, threading, sys\n"
        "print(threading.active_count(), 'asyncio' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
