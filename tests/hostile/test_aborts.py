# SPDX-License-Identifier: Apache-2.0
"""Whatever would have llama.cpp call abort(): our exception, and a model that works on.

docs/aborts.md lists the triggers; they run in processes of their own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import child_process
from support.child_process import TIMEOUT
from support.gguf_draft import draft_of
from support.tiny_model import SIZES, write_tiny_bert, write_tiny_model

from embellama.gguf.reader import read_header

PROLOGUE = """
import numpy as np
import embellama
from embellama import EmbeddingModel, ModelConfig, core
from support.tiny_model import TINY_TOKENS, write_tiny_model

def model(architecture="bert", **settings):
    path = write_tiny_model(f"{folder}/{architecture}.gguf", architecture)
    return EmbeddingModel(ModelConfig(path, **settings))

def attempt(call):
    try:
        result = call()
    except embellama.EmbellamaError as error:
        print(type(error).__name__, " ".join(str(error).replace(folder, "").split()))
    else:
        print("well", np.shape(result))

bert = model()
"""
EPILOGUE = """
for architecture in ("bert", "llama"):
    with model(architecture) as other:
        assert np.isfinite(other.embed("hello")).all()
assert np.isfinite(bert.embed("hello")).all()
print("works on")
"""

# (what llama.cpp asserts, what a user does, what comes of it)
INPUTS = {
    "more tokens than a micro-batch holds": (
        "attempt(lambda: model(micro_batch_tokens=1).embed('hello ' * 60))",
        r"well \(32,\)",
    ),
    "more tokens than the model's limit": (
        "attempt(lambda: bert.embed('hello ' * 63))",
        "InvalidInputError .* has 65 tokens, 64 is the limit",
    ),
    "positions beyond the learned table": (
        "attempt(lambda: bert.embed_tokens([5] * 65))",
        "InvalidInputError .*64",
    ),
    "positions beyond the learned table, of a bare context": (
        "bare = core.Model(str(bert.path))\n"
        "attempt(lambda: core.Context(bare).token_vectors([5] * 65))",
        "InvalidInputError .*64",
    ),
    "a decoder's micro-batch": (
        "attempt(lambda: model('llama', micro_batch_tokens=2).embed_batch(['hello', 'he'] * 300))",
        r"well \(600, 32\)",
    ),
    "more texts than tokens in a micro-batch": (
        "attempt(lambda: model(micro_batch_tokens=1, n_seq_max=256).embed_batch(['a'] * 300))",
        r"well \(300, 32\)",
    ),
    "n_batch of 0": (
        "attempt(lambda: model(micro_batch_tokens=0))",
        "ConfigurationError micro_batch_tokens must be from 1",
    ),
    "more sequences than LLAMA_MAX_SEQ": (
        "attempt(lambda: model(n_seq_max=257))",
        "ConfigurationError n_seq_max must be from 1 to 256",
    ),
    "no text": ("attempt(lambda: bert.embed_batch([]))", r"well \(0, 32\)"),
    "no token": ("attempt(lambda: bert.embed_tokens([]))", "InvalidInputError"),
    "token ids the vocabulary lacks": (
        "for id in (-1, 63, 2**31 - 1, -2**31):\n    attempt(lambda: bert.embed_tokens([2, id]))",
        "(InvalidInputError .*\n){4}",
    ),
    "a decoder wants decode": (
        "attempt(lambda: model('qwen3').embed_batch(['hello'] * 40))",
        r"well \(40, 32\)",
    ),
    "an encoder of T5 wants encode": (
        "attempt(lambda: model('t5encoder').embed_batch(['hello'] * 40))",
        r"well \(40, 32\)",
    ),
    "a pooling outside the enum": (
        "attempt(lambda: model(pooling='middle'))",
        "ConfigurationError pooling must be one of",
    ),
    "RANK without a classification head": (
        "attempt(lambda: model(pooling='rank'))",
        "ConfigurationError .*classification head",
    ),
    "rerank() without a classification head": (
        "attempt(lambda: bert.rerank('a', ['b']))",
        "ConfigurationError",
    ),
    "token vectors of a pooled context": (
        "attempt(lambda: bert.embed_multi('hello'))",
        r"well \(3, 32\)",
    ),
    "one vector from a context that pools nothing": (
        "attempt(lambda: model(pooling='none').embed('hello'))",
        "ConfigurationError .*embed_multi",
    ),
    "a GPU this build lacks": (
        "attempt(lambda: model(n_gpu_layers=1))",
        "ConfigurationError .*GPU",
    ),
    # std::regex recurses for each character.
    "an unbroken run of characters": (
        "decoder = model('llama', truncate=True)\n"
        "for unit in ('a', '1', ' ', '\\u0301', '\\n', '\\0', '\\u3042'):\n"
        "    attempt(lambda: decoder.embed('he' + unit * 300_000))\n"
        "    attempt(lambda: bert.tokenize(unit * 300_000)[:1])",
        r"(well .*\n){14}",
    ),
    "an unbroken run, on a thread with a small stack": (
        "import threading\n"
        "threading.stack_size(1 << 16)\n"
        "decoder = model('llama', truncate=True)\n"
        "def calls():\n"
        "    attempt(lambda: decoder.embed('a' * 4000))\n"
        "    attempt(lambda: decoder.tokenize('b' * 400_000)[:1])\n"
        "    attempt(lambda: decoder.embed_batch(['c' * 4000] * 3))\n"
        "thread = threading.Thread(target=calls)\n"
        "thread.start()\n"
        "thread.join()",
        r"(well .*\n){3}",
    ),
}

# What a file says: {metadata} that the check refuses before llama.cpp sees it.
FILES = {
    "no vocabulary": ("bert", {"tokenizer.ggml.model": "none"}),
    "duplicate tokens": ("bert", {"tokenizer.ggml.tokens": ["a"] * 63}),
    # llama.cpp then takes BERT's own, 101 and 102, which 63 tokens do not reach.
    "no first token": ("bert", {"tokenizer.ggml.bos_token_id": None}),
    "no separator": ("bert", {"tokenizer.ggml.seperator_token_id": None}),
    "no layer": ("bert", {"bert.block_count": 0}),
    "600 layers": ("bert", {"bert.block_count": 600}),
    "more positions than the table has": ("bert", {"bert.context_length": 1_000_000}),
    "heads that do not divide the width": ("bert", {"bert.attention.head_count": 5}),
    "a pooling outside the enum": ("bert", {"bert.pooling_type": 77}),
    "an unknown rope scaling": ("llama", {"llama.rope.scaling.type": "spiral"}),
    "a negative epsilon": ("llama", {"llama.attention.layer_norm_rms_epsilon": -1.0}),
    "more used experts than there are": ("nomic-bert-moe", {"nomic-bert-moe.expert_used_count": 9}),
    "an unknown classifier activation": ("bert", {"bert.classifier.activation": "sinus"}),
}


def test_inputs(tmp_path: Path) -> None:
    program = "".join(f"print('==', {name!r})\n{INPUTS[name][0]}\n" for name in INPUTS)
    # Where the process dies, what it printed last is the culprit.
    printed = child_process.run(PROLOGUE + program + EPILOGUE, folder=str(tmp_path))
    _, *parts = printed.removesuffix("works on\n").split("== ")
    for part, (name, (_, expected)) in zip(parts, INPUTS.items(), strict=True):
        assert re.fullmatch(f"{re.escape(name)}\n(?:{expected}.*\n?)", part), part
    assert printed.endswith("works on\n")


def test_files(tmp_path: Path) -> None:
    for name, (architecture, metadata) in FILES.items():
        write_tiny_model(tmp_path / f"{name}.gguf", architecture, metadata=metadata)
    program = """
for name in names:
    attempt(lambda: EmbeddingModel(f"{folder}/{name}.gguf"))
"""
    printed = child_process.run(
        PROLOGUE + program + EPILOGUE, folder=str(tmp_path), names=list(FILES)
    )
    *answers, last = printed.splitlines()
    assert last == "works on"
    for name, answer in zip(FILES, answers, strict=True):
        assert answer.startswith(f"ModelLoadError /{name}.gguf"), (name, answer)


@pytest.mark.parametrize(
    ("instruction_set", "n_threads"),
    [("llama.cpp", 1), ("llama.cpp", 3), ("", 1), ("", 4), ("generic", 2)],
)
def test_the_last_net(tmp_path: Path, instruction_set: str, n_threads: int) -> None:
    """Files that nothing has checked: ggml's assertions, at load and in a compute, raise."""
    write_tiny_bert(tmp_path / "tokens.gguf", metadata={"tokenizer.ggml.tokens": ["a"] * 63})
    write_tiny_bert(tmp_path / "layers.gguf", metadata={"bert.block_count": 600})
    draft = draft_of(read_header(write_tiny_bert(tmp_path / "bert.gguf")), SIZES)
    # ggml has no sum of these types (binary-ops.cpp).
    bias = next(tensor for tensor in draft.tensors if tensor.name == b"blk.1.ffn_up.bias")
    bias.kind, bias.data = 30, bytes(2 * bias.shape[0])
    (tmp_path / "bias.gguf").write_bytes(draft.encoded())
    program = """
def load(name):
    return core.Model(f"{folder}/{name}.gguf", architecture="bert", instruction_set=instruction_set)

for attempts in range(3):
    attempt(lambda: load("tokens"))
    attempt(lambda: load("layers"))
    context = core.Context(load("bias"), n_threads=n_threads)
    for again in range(2):
        attempt(lambda: context.token_vectors([5] * 60))
"""
    printed = child_process.run(
        PROLOGUE + program + EPILOGUE,
        folder=str(tmp_path),
        instruction_set=instruction_set,
        n_threads=n_threads,
    )
    *answers, last = printed.splitlines()
    assert last == "works on"
    for number, answer in enumerate(answers):
        kind = "EmbeddingGenerationError" if number % 4 > 1 else "ModelLoadError"
        assert answer.startswith(kind), answer
        assert instruction_set != "llama.cpp" or re.search("GGML_ASSERT|ggml.*cpp", answer), answer


@pytest.mark.slow
def test_a_text_of_more_than_2_gigabytes(tmp_path: Path) -> None:
    program = """
text = "a" * 2**31
attempt(lambda: bert.embed(text))
attempt(lambda: bert.embed_batch(["a", text]))
attempt(lambda: bert.tokenize(text))
attempt(lambda: core.Vocabulary(core.Model(str(bert.path))).tokenize(text))
del text
"""
    printed = child_process.run(
        PROLOGUE + program + EPILOGUE, folder=str(tmp_path), timeout=3 * TIMEOUT
    )
    *answers, last = printed.splitlines()
    assert last == "works on"
    assert [answer.split()[0] for answer in answers] == ["InvalidInputError"] * 4


# Values of tokenizer.ggml.pre in llama-vocab.cpp whose expressions run on std::regex, one of each.
PRE_TOKENIZERS = """
default minicpm5 deepseek-llm deepseek-coder deepseek-v3 spark2_5 youtu falcon starcoder jais-2
kimi-k2 refact poro-chat viking tekken exaone-moe chameleon gpt-4o granite-embed-multi-97m tiny_aya
superbpe bailingmoe seed-coder ufakzeka afmoe laguna k2-horizon whitespace
""".split()


@pytest.mark.slow
def test_unbroken_runs_in_pre_tokenizers(tmp_path: Path) -> None:
    """std::regex needs a stack frame per character: some must be refused, none may crash."""
    program = """
for pre in names:
    path = write_tiny_model(f"{folder}/{pre}.gguf", "llama", metadata={"tokenizer.ggml.pre": pre})
    try:
        decoder = EmbeddingModel(ModelConfig(path, truncate=True))
    except embellama.ModelLoadError:
        assert pre in ("whitespace", "superbpe")
        continue
    bare = core.Vocabulary(core.Model(str(path)))
    for unit in ("a", "1", " ", "aB"):
        text = unit * (49_000 // len(unit)) + "e"
        assert min(len(bare.tokenize(text)), len(decoder.tokenize(text))) >= 1
        try:
            decoder.embed(100 * text)
        except embellama.TokenizationError as error:
            assert "without a break" in str(error), (pre, unit, error)
"""
    printed = child_process.run(
        PROLOGUE + program + EPILOGUE,
        folder=str(tmp_path),
        names=PRE_TOKENIZERS,
        timeout=3 * TIMEOUT,
    )
    assert printed == "works on\n"
