# SPDX-License-Identifier: Apache-2.0
"""The same library on every processor: what is chosen, by what right, and from where."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import child_process
from support.child_process import TIMEOUT
from support.folders import REPOSITORY, TESTS
from support.installation import needs_a_package

import embellama
from embellama import instruction_set

PACKAGE = Path(instruction_set.__file__).parent
GGML = sorted(PACKAGE.glob("ggml/*.so"))
EXTENSIONS = sorted(PACKAGE.glob("*.so"))
HERE = [name for name in instruction_set.NAMES if name not in instruction_set.left_out()]
VARIABLE = "EMBELLAMA_INSTRUCTION_SET"

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="about x86-64")

REPORT = """
import json, embellama
from embellama import EmbeddingModel
with EmbeddingModel(path) as model:
    vector = model.embed("The quick brown fox").tolist()
mapped = {line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
print(json.dumps([embellama.backend_info(), sorted(mapped), vector]))
"""


def report(path: Path, program: str = REPORT, **environment: str) -> tuple[Any, list[str], Any]:
    answer = child_process.run(program, path=str(path), environment=environment)
    information, mapped, vector = json.loads(answer)
    return information, mapped, np.array(vector)


def opened(mapped: list[str]) -> list[str]:
    return [name for name in mapped if "ggml" in Path(name).name]


def test_what_is_in_use_and_what_is_not() -> None:
    information = embellama.backend_info()
    names = instruction_set.NAMES
    assert information["instruction_set"] in names
    assert information["llama_cpp_instruction_set"] in names
    assert set(information["left_out"]) <= set(names) - set(information["instruction_sets"])
    assert all(information["left_out"].values())


@pytest.mark.parametrize("name", HERE)
def test_the_limit_holds_for_encoder_and_llama_cpp(minilm_path: Path, name: str) -> None:
    information, mapped, vector = report(minilm_path, **{VARIABLE: name})
    names = instruction_set.NAMES
    above = set(names[names.index(name) + 1 :])
    assert not above & {*information["instruction_sets"], information["llama_cpp_instruction_set"]}
    for each in above & set(HERE):
        assert information["left_out"][each] == f"{VARIABLE}={name}"
    if not name.startswith(("avx512", "amx")):
        assert not [each for each in information["cpu_features"] if each.startswith("AVX512")]
    (library,) = opened(mapped)
    if len(GGML) > 1:
        compiled_for = Path(library).stem.removeprefix("libembellama-ggml-")
        assert names.index(compiled_for) <= names.index(name)
    with embellama.EmbeddingModel(minilm_path) as model:
        # bfloat16 (encoder.md) or not.
        assert model.embed("The quick brown fox") @ vector > 0.9999


def test_a_limit_that_is_none() -> None:
    program = """
    try:
        import embellama
    except ValueError as error:
        print(error)
    """
    answer = child_process.run(program, environment={VARIABLE: "sse9"})
    assert answer.startswith(f"{VARIABLE}='sse9' must be one of generic, ")


def test_a_named_set_that_is_not_here(minilm_path: Path) -> None:
    program = """
    from embellama import ConfigurationError, EmbeddingModel, ModelConfig
    for name in ["avx512", "quick"]:
        try:
            EmbeddingModel(ModelConfig(path, instruction_set=name))
        except ConfigurationError as error:
            print(error)
    """
    answer = child_process.run(program, path=str(minilm_path), environment={VARIABLE: "generic"})
    first, second = answer.splitlines()
    if platform.machine() == "x86_64":
        assert f"{VARIABLE}=generic" in first or "the processor lacks" in first
    assert "there is none of this name" in second


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE[:2])
def test_the_numbers_of_lower_ones(name: str) -> None:
    """The tests of arithmetic, with nothing above this instruction set.

    `.ci/long instruction_sets` runs all tests with each.
    """
    folder = TESTS / "arithmetic"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [str(folder), str(TESTS / "core" / "test_core.py"), "--ignore", __file__]
    configuration = ["-c", str(REPOSITORY / "pyproject.toml")]
    done = subprocess.run(
        command + configuration,
        env=os.environ | {VARIABLE: name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]


# Processors as qemu knows them (qemu-x86_64 -cpu help), and what is to be used on them.
OLD_PROCESSORS = {"Nehalem": "generic", "SandyBridge": "generic", "Haswell": "avx2"}


@x86_64_only
@pytest.mark.slow
@pytest.mark.parametrize("processor", OLD_PROCESSORS)
def test_an_old_processor(minilm_path: Path, processor: str) -> None:
    """Emulated: an instruction that it lacks ends the process with SIGILL."""
    if not shutil.which("qemu-x86_64"):
        pytest.skip("needs qemu-x86_64, of Debian's qemu-user")
    program = """
    import json, sys
    import numpy as np
    import embellama
    from embellama import EmbeddingModel, ModelConfig
    path = sys.argv[1]
    texts = ["The quick brown fox", "A cat sat on the mat. " * 20]
    results = []
    for name in [None, "llama.cpp"]:
        with EmbeddingModel(ModelConfig(path, instruction_set=name, n_threads=2)) as model:
            results.append(model.embed_batch(texts).tolist())
    for dtype in ["float16", "int8", "ubinary"]:
        embellama.quantize(np.array(results[0], dtype=np.float32), dtype)
    print(json.dumps([embellama.backend_info(), results]))
    """
    # Variables that choose kernels of numpy's BLAS are not meant for an emulated processor.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")
    }
    done = subprocess.run(
        [
            *("qemu-x86_64", "-cpu", processor),
            sys.executable,
            "-c",
            textwrap.dedent(program),
            minilm_path,
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    information, results = json.loads(done.stdout)
    assert information["llama_cpp_instruction_set"] == OLD_PROCESSORS[processor]
    assert information["instruction_set"] == OLD_PROCESSORS[processor]
    assert "lacks" in information["left_out"]["avx512"]
    with embellama.EmbeddingModel(minilm_path) as model:
        expected = model.embed_batch(["The quick brown fox", "A cat sat on the mat. " * 20])
    for vectors in results:
        assert (np.array(vectors) * expected).sum(axis=1).min() > 0.9999


def test_libraries_lie_beside_the_extension_and_nowhere_else(
    minilm_path: Path, tmp_path: Path
) -> None:
    """None of these is opened: ggml would look for some of them, the linker for the others."""
    planted = [
        *("libggml-cpu.so", "libggml-cpu-x64.so", "libggml-cpu-haswell.so", "libggml-base.so"),
        *("libembellama-ggml.so", *(library.name for library in GGML)),
    ]
    for name in planted:
        shutil.copy(GGML[0], tmp_path / name)
    program = f"import os; os.chdir({str(tmp_path)!r})\n{REPORT}"
    _, mapped, _ = report(
        minilm_path,
        program,
        LD_LIBRARY_PATH=str(tmp_path),
        GGML_BACKEND_PATH=str(tmp_path / "libggml-cpu.so"),
    )
    assert [Path(name).parent for name in opened(mapped)] == [PACKAGE / "ggml"]


def elf(*arguments: str | Path) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def test_little_memory_of_each_thread() -> None:
    """What an extension needs of each thread is taken from what the process set aside at its start.

    glibc sets 1,664 bytes aside for all that is opened later (rtld.c, TLS_STATIC_SURPLUS).
    """
    segment = re.compile(r"^ *TLS +\S+ +\S+ +\S+ +\S+ +(\S+)", re.M)

    def size(library: Path) -> int:
        return sum(int(found, 16) for found in segment.findall(elf("readelf", "-lW", library)))

    ggml, extensions = [size(library) for library in GGML], [size(path) for path in EXTENSIONS]
    assert max(ggml + extensions) <= 128
    # A process opens one of the libraries of ggml.
    assert max(ggml) + sum(extensions) <= 256


def test_what_is_exported() -> None:
    """No name that another library could be bound to, or that could be bound to another's."""
    for library in [*GGML, *EXTENSIONS]:
        symbols = elf("nm", "-D", "--defined-only", library).splitlines()
        names = {line.split()[-1].partition("@")[0] for line in symbols if " A " not in line}
        own = f"PyInit_{library.name.partition('.')[0]}"
        if library in EXTENSIONS:
            assert names == {own}
        else:
            assert names
            assert all(name.startswith("embellama_") for name in names)
    wanted = elf("nm", "-D", "--undefined-only", next(PACKAGE.glob("core.*.so"))).split()
    assert not [name for name in wanted if name.startswith(("ggml", "gguf", "llama"))]


def test_libraries_have_one_name_for_the_linker() -> None:
    for library in GGML:
        assert "soname: [libembellama-ggml.so]" in elf("readelf", "-dW", library)


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_another_ggml_in_the_process(minilm_path: Path, tmp_path: Path, first: str) -> None:
    """Even where all that it exports is open to everyone, nothing of one is bound to the other.

    The C++ library's own functions are left out: wheels hold copies of the newer ones, and whoever
    opens such a wheel for everyone (RTLD_GLOBAL) has everyone use them.
    """
    pytest.importorskip("xllamacpp")
    program = """
    import os, sys
    def theirs():
        flags = sys.getdlopenflags()
        sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
        import xllamacpp
        sys.setdlopenflags(flags)
    def ours():
        from embellama import EmbeddingModel
        with EmbeddingModel(path) as model:
            print(model.embed("The quick brown fox").tolist())
    steps = {"ours": ours, "theirs": theirs}
    steps.pop(first)()
    [step] = steps.values()
    step()
    ours()
    """
    log = tmp_path / "bindings"
    environment = {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": str(log), "LD_BIND_NOW": "1"}
    answer = child_process.run(
        program, timeout=3 * TIMEOUT, path=str(minilm_path), first=first, environment=environment
    )
    with embellama.EmbeddingModel(minilm_path) as model:
        expected = model.embed("The quick brown fox")
    for line in answer.splitlines():
        np.testing.assert_array_equal(np.array(json.loads(line), dtype=np.float32), expected)
    crossing = set()
    n_bindings = 0
    for part in tmp_path.glob("bindings.*"):
        with part.open(errors="replace") as lines:
            for line in lines:
                found = re.search(r"binding file (\S+) \[0\] to (\S+) \[0\]: .*`(\w+)'", line)
                if found is None or not re.search("ggml|gguf|llama|quantize", found[3]):
                    continue
                source, target, symbol = found.groups()
                n_bindings += "/embellama/" in source
                if {"embellama", "xllamacpp"} == {
                    name
                    for name in ("embellama", "xllamacpp")
                    if f"/{name}" in source or f"/{name}" in target
                }:
                    crossing.add(symbol)
    assert n_bindings > 300
    assert not crossing


@pytest.mark.parametrize("package", ["llama_cpp", "onnxruntime", "openvino", "sklearn", "torch"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_beside_other_packages(minilm_path: Path, package: str, first: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    program = """
    import importlib
    if first == "theirs":
        importlib.import_module(package)
    from embellama import EmbeddingModel
    with EmbeddingModel(path) as model:
        before = model.embed("The quick brown fox")
        importlib.import_module(package)
        assert (model.embed("The quick brown fox") == before).all()
    with EmbeddingModel(path) as model:
        assert (model.embed("The quick brown fox") == before).all()
    """
    child_process.run(
        program, timeout=3 * TIMEOUT, path=str(minilm_path), package=package, first=first
    )


# Linux, uapi/linux/seccomp.h and filter.h: system call 158 (arch_prctl) answers EPERM.
DENY_ARCH_PRCTL = """
import ctypes, errno, struct
load_number, is_arch_prctl = (0x20, 0, 0, 0), (0x15, 0, 1, 158)
refuse, allow = (6, 0, 0, 0x50000 | errno.EPERM), (6, 0, 0, 0x7FFF0000)
instructions = [load_number, is_arch_prctl, refuse, allow]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) == 0
assert libc.syscall(158, 0x1022, 0) == -1 and ctypes.get_errno() == errno.EPERM
"""


@x86_64_only
@needs_a_package  # an editable one runs ninja amid the import, which the kernel then ends
def test_a_kernel_that_refuses_tiles(minilm_path: Path) -> None:
    information, _, vector = report(minilm_path, DENY_ARCH_PRCTL + REPORT)
    assert "amx" in information["left_out"]
    assert information["llama_cpp_instruction_set"] != "amx"
    with embellama.EmbeddingModel(minilm_path) as model:
        assert model.embed("The quick brown fox") @ vector > 0.9999


@x86_64_only
def test_a_thread_with_a_small_signal_stack(minilm_path: Path) -> None:
    """Linux refuses tiles where a signal's frame would not fit some thread's stack for signals."""
    program = """
    import ctypes, struct, threading
    libc = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(8192)
    ready, done = threading.Event(), threading.Event()
    def wait():
        stack = struct.pack("PixxxxN", ctypes.addressof(memory), 0, len(memory))
        assert libc.sigaltstack(stack, None) == 0
        ready.set()
        done.wait()
    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    """
    information, _, vector = report(
        minilm_path, textwrap.dedent(program) + REPORT + "\ndone.set(); thread.join()\n"
    )
    assert "amx" in information["left_out"]
    with embellama.EmbeddingModel(minilm_path) as model:
        assert model.embed("The quick brown fox") @ vector > 0.9999


@x86_64_only
def test_several_in_one_process_and_after_a_fork(minilm_path: Path) -> None:
    program = """
    import os, threading
    import numpy as np
    import embellama
    from embellama import EmbeddingModel, ModelConfig

    texts = ["hello world", "A cat sat on the mat. " * 10, "word " * 100]
    names = [*embellama.backend_info()["instruction_sets"], "llama.cpp"]
    configs = [ModelConfig(path, instruction_set=name, n_threads=2) for name in names]
    models = [EmbeddingModel(config) for config in configs]
    expected = [model.embed_batch(texts) for model in models]
    assert all((each * expected[0]).sum(axis=1).min() > 0.9999 for each in expected)
    wrong = []

    def compute(i):
        for _ in range(5):
            if not np.array_equal(models[i].embed_batch(texts), expected[i]):
                wrong.append(names[i])

    def compute_together():
        threads = [threading.Thread(target=compute, args=(i,)) for i in range(len(models))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    compute_together()
    child = os.fork()
    compute_together()
    if child == 0:
        os._exit(bool(wrong))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(wrong)
    """
    assert child_process.run(program, path=str(minilm_path)) == "[]\n"
