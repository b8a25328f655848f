# SPDX-License-Identifier: Apache-2.0
"""What other Cython projects build upon, from the installed package alone."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.child_process import TIMEOUT
from support.folders import DATA, REPOSITORY
from support.installation import needs_a_package
from support.tiny_model import write_tiny_bert

import embellama
from embellama import InvalidInputError, ModelLoadError, core, kernels
from embellama.core import Context, Model, Vocabulary

# Cython finds no declarations in an editable installation (its issue 7326).
pytestmark = needs_a_package

EXAMPLE = REPOSITORY / "examples" / "cython_consumer"
RECORD = DATA / "cython_api.json"

# Unoptimised: the builds take half the time, and what is computed is in embellama itself.
ENVIRONMENT = {
    **os.environ,
    "CFLAGS": "-O0",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def run(command: list[str | Path], folder: Path) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * TIMEOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build_by_setuptools(folder: Path, name: str, **options: Any) -> Path:
    program = (
        "from Cython.Build import cythonize\n"
        "from setuptools import setup\n"
        f"setup(name='test', ext_modules=cythonize(['{name}.pyx'], **{options!r}))\n"
    )
    (folder / "setup.py").write_text(program)
    run([sys.executable, "setup.py", "build_ext", "--inplace"], folder)
    return next(folder.glob(f"{name}.*.so"))


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("probe")
    shutil.copy(REPOSITORY / "tests" / "cython_api" / "probe.pyx", folder)
    path = build_by_setuptools(folder, "probe")
    spec = importlib.util.spec_from_file_location("probe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(minilm_path: Path) -> Model:
    return Model(str(minilm_path))


def assert_finds_the_nearest(folder: Path, minilm: embellama.EmbeddingModel) -> None:
    lines = run([sys.executable, "-W", "error", "find_nearest.py"], folder).splitlines()
    found = re.findall(r"^(0\.\d{3})  (.*)  ->  (The .*)$", "\n".join(lines), re.MULTILINE)
    assert len(found) == 3
    for (score, query, nearest), expected in zip(
        found,
        [
            "cat sleeps in .* in the evening",
            "(duck|hen|goose) eats near the river",
            "runs .*bridge",
        ],
        strict=True,
    ):
        assert re.search(expected, nearest)
        cosine = minilm.embed(query) @ minilm.embed(nearest)
        assert float(score) == pytest.approx(cosine, abs=2e-3)


def test_a_consumer_built_by_meson(minilm: embellama.EmbeddingModel, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "consumer")
    run(["meson", "setup", "build"], folder)
    run(["meson", "compile", "-C", "build"], folder)
    shutil.copy(next((folder / "build").glob("nearest.*.so")), folder)
    linked = run(["ldd", next(folder.glob("nearest.*.so"))], folder)
    assert "llama" not in linked
    assert_finds_the_nearest(folder, minilm)


def test_a_consumer_built_by_setuptools(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "consumer")
    run([sys.executable, "setup.py", "build_ext", "--inplace"], folder)
    program = (
        "import nearest, embellama\n"
        "from embellama.core import Context\n"
        "model = embellama.EmbeddingModel('all-MiniLM-L6-v2').core_model\n"
        "context = Context(model)\n"
        "print(nearest.embed(model, context, ['a cat', 'a dog']).shape)\n"
        "print(nearest.embed(model, context, []).shape)\n"
        "try:\n"
        "    nearest.embed(model, context, ['a cat', 'word ' * 600])\n"
        "except embellama.InvalidInputError as error:\n"
        "    print(error.index, error)\n"
    )
    lines = run([sys.executable, "-c", program], folder).splitlines()
    assert lines[:2] == ["(2, 384)", "(0, 384)"]
    assert re.fullmatch(r"1 .*\.gguf: text 1 has 602 tokens, and from 1 to 512 are .*", lines[2])


def test_another_version_of_the_api_is_noticed(tmp_path: Path) -> None:
    installed = Path(core.__file__).parent
    for path in [*installed.glob("*.pxd"), *installed.glob("libllama/*.pxd")]:
        copy = tmp_path / "declarations" / "embellama" / path.relative_to(installed)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        copy.write_text(re.sub(r"(#define EMBELLAMA_API_VERSION) \d+", r"\1 99", text))
    for package in ("embellama", "embellama/libllama"):
        (tmp_path / "declarations" / package / "__init__.py").touch()
    (tmp_path / "stale.pyx").write_text("from embellama cimport core\ncore.check_api_version()\n")
    build_by_setuptools(tmp_path, "stale", include_path=["declarations"])
    program = "try:\n    import stale\nexcept ImportError as error:\n    print(error)"
    assert run([sys.executable, "-c", program], tmp_path) == (
        "this module was built against version 99 of embellama's Cython API, and version "
        f"{core.API_VERSION} is installed: build it again\n"
    )


def public_api() -> dict[str, Any]:
    """The version, and what a consumer's compiled code holds of it."""
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    declarations = (Path(core.__file__).parent / "core.pxd").read_text()
    names = {
        core: re.findall(r"^cdef \w+ (\w+)\(", declarations, re.MULTILINE),
        kernels: list(kernels.__pyx_capi__),  # type: ignore[attr-defined]
    }
    signatures = {
        f"{module.__name__}.{name}": name_of(module.__pyx_capi__[name]).decode()  # type: ignore[attr-defined]
        for module in names
        for name in sorted(names[module])
    }
    sizes = {kind.__name__: kind.__basicsize__ for kind in (Model, Vocabulary, Context)}
    return {"version": core.API_VERSION, "signatures": signatures, "bytes": sizes}


def test_what_changes_has_a_new_version() -> None:
    """If this fails, raise EMBELLAMA_API_VERSION in core.pxd and write the record anew."""
    found = public_api()
    recorded = json.loads(RECORD.read_text())
    assert found == recorded


def test_tokenize(probe: ModuleType, model: Model) -> None:
    vocabulary = Vocabulary(model)
    n_ids, ids = probe.tokenize(vocabulary, b"a cat", 16)
    assert ids[:n_ids].tolist() == [101, 1037, 4937, 102]
    assert probe.tokenize(vocabulary, b"a cat", 4)[0] == 4
    assert probe.tokenize(vocabulary, b"a cat", 16, add_special=False)[0] == 2
    for capacity in (0, 3):
        n_ids, ids = probe.tokenize(vocabulary, b"a cat", capacity)
        assert n_ids == 4
        assert set(ids.tolist()) == {-1}, "nothing is written where not all fits"
    assert probe.tokenize(vocabulary, b"", 16)[0] == 2


def test_dense_modules_come_after_the_pooling(probe: ModuleType, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((48, 32), np.float32)
    path = write_tiny_bert(tmp_path / "tiny.gguf", tensors={"dense_2.weight": weights})
    model = Model(str(path))
    assert (model.n_dimensions, model.n_token_dimensions) == (48, 32)
    context = Context(model)
    ids = Vocabulary(model).tokenize("hello world")
    rows = context.token_vectors(ids)
    assert rows.shape == (len(ids), 32)
    found = probe.encode(context, [ids], norm=kernels.Norm.NORM_NONE)
    np.testing.assert_allclose(found, [weights @ rows.mean(0)], rtol=0, atol=1e-5)
    every = probe.encode(
        context, [ids], kernels.Pooling.POOL_NONE, kernels.Norm.NORM_NONE, n_rows=len(ids)
    )
    np.testing.assert_allclose(every, rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "mean_sqrt"])
@pytest.mark.parametrize("norm", ["none", "max_abs", "l2", "p"])
def test_encode_pools_and_normalizes(
    pooling: str, norm: str, probe: ModuleType, model: Model
) -> None:
    vocabulary, context = Vocabulary(model), Context(model)
    ids = vocabulary.tokenize("pooled in another way")
    rows = context.token_vectors(ids)
    expected = kernels.normalize_rows(
        kernels.pool_rows(rows, pooling)[None], 3.0 if norm == "p" else norm
    )
    kind = kernels.NORMS.get(norm, kernels.Norm.NORM_P)
    found = probe.encode(context, [ids], kernels.POOLINGS[pooling], kind, 3.0)
    np.testing.assert_array_equal(found, expected)


def test_encode_many_texts(
    probe: ModuleType, model: Model, minilm: embellama.EmbeddingModel
) -> None:
    """More than a micro-batch holds, of all lengths, with tokens before the first."""
    texts = [f"text number {i} " + "and more " * (7 * i % 60) for i in range(80)]
    vocabulary, context = Vocabulary(model), Context(model)
    ids = [vocabulary.tokenize(text) for text in texts]
    expected = minilm.embed_batch(texts)
    found = probe.encode(context, ids, first=5)
    # Other micro-batches, whose sums F16 rounds otherwise.
    np.testing.assert_allclose(found, expected, atol=2e-3)
    per_token = probe.encode(
        context,
        ids[:30],
        kernels.Pooling.POOL_NONE,
        n_rows=sum(map(len, ids[:30])),
        first=3,
    )
    parts = minilm.embed_batch_multi(texts[:30])
    np.testing.assert_allclose(per_token, np.concatenate(parts), atol=4e-3)
    untouched = probe.encode(context, [])
    assert np.isnan(untouched).all()


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ([], "text 2 has 0 tokens"),
        ([101] * 513, "text 2 has 513 tokens, and from 1 to 512"),
        ([101, -1], "text 2 has a token -1, and they go from 0 to 30521"),
        ([101, 30522], "text 2 has a token 30522"),
    ],
)
def test_encode_refuses(bad: list[int], complaint: str, probe: ModuleType, model: Model) -> None:
    context = Context(model)
    with pytest.raises(InvalidInputError, match=complaint) as caught:
        probe.encode(context, [[101, 102], [101], bad, [102]])
    assert caught.value.index == 2
    assert context.n_tokens == 0, "nothing was computed"
    assert np.isfinite(probe.encode(context, [[101, 102]])).all()


def test_a_closed_model(probe: ModuleType, minilm_path: Path) -> None:
    closing = Model(str(minilm_path))
    vocabulary, context = Vocabulary(closing), Context(closing)
    probe.encode(context, [[101, 102]])
    closing.close()
    assert context.n_tokens == 0, "its contexts are closed with it"
    with pytest.raises(ModelLoadError, match="closed"):
        probe.encode(context, [[101, 102]])
    with pytest.raises(ModelLoadError, match="closed"):
        context.token_vectors([101, 102])
    with pytest.raises(ModelLoadError, match="closed"):
        probe.tokenize(vocabulary, b"a cat", 16)


def test_a_model_that_others_compute_with(minilm_path: Path) -> None:
    loaded = embellama.EmbeddingModel(minilm_path)
    shared = loaded.core_model
    context = Context(shared)
    rows = context.token_vectors([101, 102])
    loaded.unload()
    np.testing.assert_array_equal(context.token_vectors([101, 102]), rows)
    with pytest.raises(ModelLoadError, match="unloaded"):
        loaded.core_model  # noqa: B018
    loaded.load()
    # Closed under its workers: they stop, and nothing crashes.
    loaded.core_model.close()
    with pytest.raises(ModelLoadError):
        loaded.embed("a cat")
    loaded.unload()
    loaded.load()
    assert loaded.embed("a cat").shape == (384,)


def test_a_context_serves_one_thread_at_a_time(probe: ModuleType, minilm_path: Path) -> None:
    shared = Model(str(minilm_path))
    context = Context(shared)
    started, stop = threading.Event(), np.zeros(1, dtype=np.int32)
    thread = threading.Thread(target=probe.encode_until, args=(context, started, stop))
    thread.start()
    started.wait()
    time.sleep(0.1)
    try:
        for use in (lambda: probe.encode(context, [[101]]), context.close):
            with pytest.raises(RuntimeError, match="give each thread its own"):
                use()
        with pytest.raises(RuntimeError, match="another call uses the model"):
            shared.close()
    finally:
        stop[0] = 1
        thread.join()
    assert np.isfinite(probe.encode(context, [[101, 102]])).all()
    shared.close()
