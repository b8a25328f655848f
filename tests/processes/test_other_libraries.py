# SPDX-License-Identifier: Apache-2.0
"""What other libraries do to a thread before and after we compute on it changes nothing, nor we.

The floating-point environment (MXCSR on x86-64) and the AMX tiles belong to a thread; a new thread
inherits the former from the one that starts it.
"""

from __future__ import annotations

import platform
import textwrap
from pathlib import Path

import numpy as np
import pytest
from support import child_process

from embellama import EmbeddingModel

# glibc's fenv_t on x86-64 ends with MXCSR, at byte 28 of 32 (bits/fenv.h).
ENVIRONMENT = """
import ctypes
libm = ctypes.CDLL("libm.so.6")

def environment():
    state = ctypes.create_string_buffer(64)
    libm.fegetenv(state)
    return state

def mxcsr():
    return int.from_bytes(environment()[28:32], "little")

def set_mxcsr(value):
    state = environment()
    state[28:32] = value.to_bytes(4, "little")
    libm.fesetenv(state)

PLAIN = 0x1F80
SETTINGS = {
    "down, no denormals": PLAIN | 0x2000 | 0x8040,
    "up, traps": (PLAIN | 0x4000) & ~(0x80 | 0x200 | 0x400 | 0x800),
}
"""

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="sets MXCSR")


@x86_64_only
@pytest.mark.parametrize("instruction_set", ["", "llama.cpp"])
def test_the_callers_floating_point_environment(minilm_path: Path, instruction_set: str) -> None:
    """It changes no bit of a vector, traps nowhere, and is afterwards what it was."""
    program = """
    import numpy as np
    from embellama import EmbeddingModel, ModelConfig
    from embellama.core import Context

    config = ModelConfig(path, n_threads=2, instruction_set=instruction_set or None)
    texts = ["hello world", "a cat sat on the mat " * 10, "word " * 100]

    def compute():
        with EmbeddingModel(config) as model:
            ids = model.tokenize(texts[1])
            contexts = [Context(model.core_model, n_threads=n) for n in (1, 2)]
            return [model.embed(texts[0]), model.embed(texts[2]), model.embed_batch(texts),
                    *(context.token_vectors(ids) for context in contexts)]

    set_mxcsr(PLAIN)
    expected = compute()
    for name, setting in SETTINGS.items():
        set_mxcsr(setting)
        found = compute()
        after = mxcsr()
        set_mxcsr(PLAIN)
        assert after & ~0x3F == setting, (name, hex(after))
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other), (name, np.abs(one - other).max())
    print("well")
    """
    values = {"path": str(minilm_path), "instruction_set": instruction_set}
    assert child_process.run(ENVIRONMENT + textwrap.dedent(program), **values) == "well\n"


@x86_64_only
def test_numpy_between_our_calls(minilm: EmbeddingModel) -> None:
    """Its warnings come from its own work, and its products are the same."""
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((2, 300, 300)).astype(np.float32)
    texts = ["hello world", "word " * 100] * 3
    product, vectors = left @ right, minilm.embed_batch(texts)
    with np.errstate(all="raise"):
        for _ in range(3):
            np.testing.assert_array_equal(minilm.embed_batch(texts), vectors)
            np.testing.assert_array_equal(minilm.embed(texts[0]), vectors[0])
            np.testing.assert_array_equal(left @ right, product)
            with pytest.raises(FloatingPointError):
                np.float32(1) / np.zeros(1, np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(minilm.embed_batch(texts), vectors)


def test_torch_between_our_calls(minilm_path: Path) -> None:
    """Not among the test requirements; `pip install torch` has it run."""
    pytest.importorskip("torch")
    program = """
    import threading
    import torch
    import numpy as np
    from embellama import EmbeddingModel, ModelConfig
    from embellama.core import Context

    torch.manual_seed(0)
    left, right = torch.randn(2, 384, 384)
    layer = torch.nn.TransformerEncoderLayer(64, 4, batch_first=True).eval()
    texts = ["hello world", "a cat sat on the mat " * 10, "word " * 300] * 10

    def theirs():
        # oneDNN computes bfloat16 and int8 on AMX tiles where there are any.
        with torch.inference_mode():
            lower = left.bfloat16() @ right.bfloat16()
            integers = torch._int_mm((left * 10).char(), (right * 10).char())
            return [left @ right, lower.float(), integers, layer(left.reshape(1, -1, 64))]

    def ours():
        with EmbeddingModel(ModelConfig(path, n_threads=2)) as fresh:
            context = Context(fresh.core_model)
            return [model.embed(texts[1]), model.embed_batch(texts), fresh.embed_batch(texts),
                    context.token_vectors(fresh.tokenize(texts[0]))]

    model = EmbeddingModel(ModelConfig(path, n_threads=2))
    expected = ours()
    before = theirs()
    differences = []

    def alternate():
        for flush in (False, True, False):
            torch.set_flush_denormal(flush)
            for one, other in zip(ours(), expected, strict=True):
                if not np.array_equal(one, other):
                    differences.append(("ours", flush, float(np.abs(one - other).max())))
            for one, other in zip(theirs(), before, strict=True):
                if not torch.equal(one, other):
                    differences.append(("theirs", flush, float((one - other).abs().max())))
            denormal = (torch.tensor([1e-39]) * 0.5).item()
            if (denormal == 0) != flush:
                differences.append(("flush", flush, denormal))

    for n_threads in (1, 2, 4):
        torch.set_num_threads(n_threads)
        before = theirs()
        alternate()
        other_thread = threading.Thread(target=alternate)
        other_thread.start()
        other_thread.join()
    print(differences)
    """
    assert child_process.run(program, path=str(minilm_path)) == "[]\n"
