# SPDX-License-Identifier: Apache-2.0
"""What a message tells the caller to do works in that call.

Each case runs a call that is refused, and then what the message names. The last test looks through
the sources for messages that name something and are in no case.
"""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from support.folders import REPOSITORY
from support.tiny_model import write_tiny_bert

import embellama
from embellama import (
    CacheConfig,
    EmbeddingEngine,
    EmbeddingModel,
    EngineConfig,
    ModelConfig,
    calibrate,
    quantize,
    similarity,
)

LONG = "word " * 600


class Models:
    """What the cases call: tiny models, and MiniLM where one has to be large."""

    def __init__(self, folder: Path, large: EmbeddingModel) -> None:
        self.large = large
        self.path = write_tiny_bert(folder / "tiny.gguf", context_length=512)
        generator = np.random.default_rng(0)
        head = {
            "cls.weight": generator.standard_normal((32, 32), np.float32),
            "cls.bias": np.zeros(32, np.float32),
            "cls.output.weight": generator.standard_normal((1, 32), np.float32),
            "cls.output.bias": np.zeros(1, np.float32),
        }
        self.reranker_path = write_tiny_bert(
            folder / "reranker.gguf",
            context_length=512,
            metadata={"bert.pooling_type": 4},
            tensors=head,
        )
        self.model = EmbeddingModel(self.path)
        self.reranker = EmbeddingModel(self.reranker_path)
        self.unpooled = EmbeddingModel(self.path, pooling="none")
        self.short = EmbeddingModel(self.reranker_path, n_ctx=16)
        self.engine = EmbeddingEngine(self.path, model_name="one")
        self.limited = EmbeddingEngine(large.path, model_name="one", memory_limit_mb=120)
        self.limited.load_model(large.path, model_name="two")


@pytest.fixture(scope="module")
def models(minilm: EmbeddingModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    models = Models(tmp_path_factory.mktemp("remedies"), minilm)
    yield models
    for model in (models.model, models.reranker, models.unpooled, models.short):
        model.unload()
    models.engine.unload_model("one")
    models.limited.unload_model("two")


def unloaded(models: Models) -> EmbeddingModel:
    model = EmbeddingModel(models.path)
    model.unload()
    return model


def drop_one(models: Models) -> object:
    models.limited.drop_model("one")
    return models.limited.embed("a cat", "two")


def load_again(models: Models) -> object:
    model = unloaded(models)
    model.load()
    return model.embed("a cat")


def empty_engine(models: Models) -> EmbeddingEngine:
    engine = EmbeddingEngine(models.path, model_name="one")
    engine.unload_model("one")
    return engine


def load_one(models: Models) -> object:
    engine = empty_engine(models)
    engine.load_model(models.path)
    return engine.embed("a cat")


def forget_the_first(models: Models) -> object:
    engine = EmbeddingEngine(models.path, model_name="one")
    engine.unload_model("one")
    engine.load_model(models.path, model_name="one", truncate=True)
    return engine.embed("a cat")


FRAME = polars.DataFrame({"text": ["a cat"], "n": [1]})
ARRAY = np.array([["a cat"], ["a dog"]])
SURROGATE = "a \ud800 cat"
Call = Callable[[Models], Any]

# A message, the call that it refuses, and what the message names.
CASES: list[tuple[str, Call, list[Call]]] = [
    (
        "split it, or use truncate=True",
        lambda m: m.model.embed(LONG),
        [lambda m: m.model.embed(LONG, truncate=True), lambda m: m.model.embed(LONG[:500])],
    ),
    (
        "split it, or use truncate=True",
        lambda m: m.engine.embed_queries([LONG]),
        [lambda m: m.engine.embed_queries([LONG], truncate=True)],
    ),
    (
        "split it, or use truncate=True",
        lambda m: m.model.embed_batch_multi([LONG]),
        [lambda m: m.model.embed_batch_multi([LONG], truncate=True)],
    ),
    (
        "split it, or use truncate=True",
        lambda m: next(m.model.embed_iter([LONG])),
        [lambda m: next(m.model.embed_iter([LONG], truncate=True))],
    ),
    (
        "split it, or use truncate=True",
        lambda m: EmbeddingModel(m.path, cache=CacheConfig()).warm_cache([LONG]),
        [
            lambda m: EmbeddingModel(m.path, cache=CacheConfig()).warm_cache([LONG], truncate=True),
        ],
    ),
    (
        "split it, or use truncate=True",
        lambda m: m.reranker.rerank("a cat", [LONG]),
        [lambda m: m.reranker.rerank("a cat", [LONG], truncate=True)],
    ),
    (
        "shorten the query, or load the model with n_ctx=512",
        lambda m: m.short.rerank("word " * 20, ["a cat"], truncate=True),
        [
            lambda m: m.short.rerank("word", ["a cat"], truncate=True),
            lambda m: EmbeddingModel(m.reranker_path, n_ctx=512).rerank("word " * 20, ["a cat"]),
        ],
    ),
    (
        "shorten the query, or use truncate=512",
        lambda m: m.reranker.rerank("word " * 20, ["a cat"], truncate=16),
        [lambda m: m.reranker.rerank("word " * 20, ["a cat"], truncate=512)],
    ),
    ("use rerank()", lambda m: m.reranker.embed("a"), [lambda m: m.reranker.rerank("a", ["b"])]),
    (
        "use rerank()",
        lambda m: m.reranker.embed_multi("a"),
        [lambda m: m.reranker.rerank("a", ["b"])],
    ),
    (
        'load it with pooling="rank"',
        lambda m: EmbeddingModel(m.reranker_path, pooling="mean").rerank("a", ["b"]),
        [lambda m: EmbeddingModel(m.reranker_path, pooling="rank").rerank("a", ["b"])],
    ),
    (
        "load a model with a classification head",
        lambda m: m.model.rerank("a", ["b"]),
        [lambda m: m.reranker.rerank("a", ["b"])],
    ),
    (
        "use embed_multi()",
        lambda m: m.unpooled.embed("a"),
        [lambda m: m.unpooled.embed_multi("a")],
    ),
    (
        "use embed_multi()",
        lambda m: m.unpooled.embed_query("a", dtype="int8"),
        [lambda m: m.unpooled.embed_multi("a")],
    ),
    (
        "use embed_batch_multi()",
        lambda m: m.unpooled.embed(["a"]),
        [lambda m: m.unpooled.embed_batch_multi(["a"])],
    ),
    (
        "load the model with another pooling",
        lambda m: m.unpooled.embed_tokens([2, 3]),
        [lambda m: EmbeddingModel(m.path, pooling="cls").embed_tokens([2, 3])],
    ),
    ("load() it again", lambda m: unloaded(m).embed("a"), [load_again]),
    (
        "load it with cache=CacheConfig()",
        lambda m: m.model.warm_cache(["a"]),
        [lambda m: EmbeddingModel(m.path, cache=CacheConfig()).warm_cache(["a"])],
    ),
    (
        "pass its config and load it in each process",
        lambda m: pickle.dumps(m.model),
        [lambda m: EmbeddingModel(pickle.loads(pickle.dumps(m.model.config))).embed("a")],
    ),
    (
        "pass its config and make one in each process",
        lambda m: pickle.dumps(m.engine),
        [lambda m: EmbeddingEngine(pickle.loads(pickle.dumps(EngineConfig(m.path))))],
    ),
    ("load_model() one first", lambda m: empty_engine(m).embed("a"), [load_one]),
    (
        "did you mean 'one'?",
        lambda m: m.engine.embed("a", "ones"),
        [lambda m: m.engine.embed("a", "one")],
    ),
    (
        "choose another model_name, or unload_model() that one first",
        lambda m: m.engine.load_model(m.path, model_name="one", truncate=True),
        [
            lambda m: m.engine.load_model(m.path, model_name="another", truncate=True),
            forget_the_first,
        ],
    ),
    (
        "drop_model() another one, use a smaller file type, or make the engine with a higher limit",
        lambda m: m.limited.embed("a", "two"),
        [drop_one, lambda m: EmbeddingEngine(m.path, memory_limit_mb=1000)],
    ),
    (
        "leave n_gpu_layers at 0, and an engine's use_gpu at False",
        lambda m: EmbeddingEngine(m.path, use_gpu=True),
        [lambda m: EmbeddingEngine(m.path, use_gpu=False, n_gpu_layers=0)],
    ),
    (
        "use n_ctx=512 or less",
        lambda m: EmbeddingModel(m.path, n_ctx=600),
        [lambda m: EmbeddingModel(m.path, n_ctx=512)],
    ),
    (
        "use a reranker, or another pooling",
        lambda m: EmbeddingModel(m.path, pooling="rank"),
        [
            lambda m: EmbeddingModel(m.reranker_path, pooling="rank"),
            lambda m: EmbeddingModel(m.path, pooling="cls"),
        ],
    ),
    (
        "use one way, such as config.replace(truncate=3)",
        lambda m: EmbeddingModel(ModelConfig(m.path), truncate=3),
        [lambda m: EmbeddingModel(ModelConfig(m.path).replace(truncate=3))],
    ),
    (
        "name a GGUF file or a known model",
        lambda m: EmbeddingModel(""),
        [lambda m: EmbeddingModel(m.path), lambda m: EmbeddingModel("all-MiniLM-L6-v2")],
    ),
    (
        "leave it out or name the model",
        lambda m: EmbeddingModel(m.path, model_name=""),
        [lambda m: EmbeddingModel(m.path), lambda m: EmbeddingModel(m.path, model_name="mine")],
    ),
    (
        "did you mean 'truncate'?",
        lambda m: m.model.embed(LONG, truncated=True),
        [lambda m: m.model.embed(LONG, truncate=True)],
    ),
    ("one str: pass [text]", lambda m: m.model.embed_batch("a"), [lambda m: m.model.embed(["a"])]),
    (
        "pass [text.decode()]",
        lambda m: m.model.embed_batch(b"a"),
        [lambda m: m.model.embed_batch([b"a".decode()])],
    ),
    (
        'pass one column, such as df["text"]',
        lambda m: m.model.embed(FRAME),
        [lambda m: m.model.embed(FRAME["text"])],
    ),
    (
        'pass one column, such as df.collect()["text"]',
        lambda m: m.model.embed_batch(FRAME.lazy()),
        [lambda m: m.model.embed_batch(FRAME.lazy().collect()["text"])],
    ),
    (
        'whose keys would be embedded: pass one column, such as data["text"]',
        lambda m: m.model.embed({"text": ["a cat"]}),
        [lambda m: m.model.embed({"text": ["a cat"]}["text"])],
    ),
    (
        "pass a list, such as sorted(texts)",
        lambda m: m.model.embed({"a", "b"}),
        [lambda m: m.model.embed(sorted({"a", "b"}))],
    ),
    (
        "pass one column of it, such as array[:, 0]",
        lambda m: m.model.embed(ARRAY),
        [lambda m: m.model.embed(ARRAY[:, 0])],
    ),
    (
        "pass array.ravel()",
        lambda m: m.model.embed_batch(np.array("a")),
        [lambda m: m.model.embed_batch(np.array("a").ravel())],
    ),
    (
        "pass array.ravel()",
        lambda m: m.model.embed_batch(ARRAY[None]),
        [lambda m: m.model.embed_batch(ARRAY[None].ravel())],
    ),
    (
        "decode it, for example with text.decode('utf-8')",
        lambda m: m.model.embed([b"a"]),
        [lambda m: m.model.embed([b"a".decode("utf-8")])],
    ),
    (
        "it is missing (None): leave it out",
        lambda m: m.model.embed(["a", None]),
        [lambda m: m.model.embed(["a"])],
    ),
    (
        "is empty: leave it out",
        lambda m: m.model.embed(["a", ""]),
        [lambda m: m.model.embed(["a"])],
    ),
    (
        "decode its source properly, or use text.encode('utf-8', 'replace').decode()",
        lambda m: m.model.embed(SURROGATE),
        [lambda m: m.model.embed(SURROGATE.encode("utf-8", "replace").decode())],
    ),
    (
        "give it more time or fewer texts",
        lambda m: m.large.embed_batch(["word " * 400] * 100, timeout=0.01),
        [lambda m: m.large.embed_batch(["a"], timeout=600)],
    ),
    (
        "embellama.calibrate() makes them of a sample's vectors",
        lambda m: m.model.embed("a", dtype="uint8"),
        [
            lambda m: m.model.embed(
                "a", dtype="uint8", ranges=embellama.calibrate(m.model.embed(["a", "b"]))
            )
        ],
    ),
    (
        "ranges need a sample of some",
        lambda m: calibrate(m.model.embed([])),
        [lambda m: calibrate(m.model.embed(["a", "b"]))],
    ),
    (
        "row 1 of vectors is not finite: leave it out",
        lambda m: calibrate(m.model.embed(["a", ""], on_error="nan")),
        [lambda m: calibrate(np.delete(m.model.embed(["a", ""], on_error="nan"), 1, axis=0))],
    ),
    (
        "compare vectors of one model, one truncate_dim and one dtype",
        lambda m: m.model.similarity(m.model.embed("a"), m.model.embed("a", truncate_dim=8)),
        [
            lambda m: m.model.similarity(
                m.model.embed("a", truncate_dim=8), m.model.embed("a", truncate_dim=8)
            )
        ],
    ),
    (
        "make them with dtype='ubinary'",
        lambda m: similarity(m.model.embed("a"), m.model.embed("a"), kind="hamming"),
        [
            lambda m: similarity(
                m.model.embed("a", dtype="ubinary"),
                quantize(m.model.embed(["a"]), dtype="ubinary"),
                kind="hamming",
            )
        ],
    ),
]


@pytest.mark.parametrize(
    ("message", "refused", "remedies"),
    CASES,
    ids=[case[0][:40] for case in CASES],
)
def test_the_remedy_works(
    message: str, refused: Call, remedies: list[Call], models: Models
) -> None:
    with pytest.raises((embellama.EmbellamaError, TypeError)) as info:
        refused(models)
    assert message in str(info.value)
    for remedy in remedies:
        remedy(models)


SOURCE = REPOSITORY / "embellama"
MODULES = [
    *(
        SOURCE / f"{name}.py"
        for name in (
            *("config", "engine", "engine_methods", "errors", "keywords", "model"),
            *("model_methods", "quantization", "token_ids", "vector_similarity"),
        )
    ),
    *(SOURCE / "embedding").glob("*.py"),
]
# How a part of a message begins that tells what to do.
REMEDY = re.compile(
    r"(?:^|[:;,?] |\bor |\band )((?:use|pass|load|load\(\)|name|set|leave|choose|unload_model\(\)|"
    r"drop_model\(\)|load_model\(\)|make|compare|try|give|split|shorten|decode|delete|report|"
    r"convert|did you mean|embellama\.\w+\(\)) .*)"
)
# What can't be run here.
NOT_RUN = {
    "try an F32 file": "a file of weights that overflow as F16 is in no cache",
    "split the text, use truncate, or load the model with keys_in_float16=True": "takes more "
    "memory than the machine has",
    "delete it, then obtain it again": "tests/files/test_catalog.py",
    "report this, with what embellama.backend_info() says": "a fault of the machine",
    "set it to a GGUF file or a known model": "tests/api/test_engine.py, of the environment",
    "use another model": "a prompt as long as the model's limit",
}


def messages(path: Path) -> Iterator[str]:
    """Yield the texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in statements:
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_remedy_is_walked(path: Path) -> None:
    walked = [message for message, _, _ in CASES] + list(NOT_RUN)
    for text in messages(path):
        for remedy in REMEDY.findall(text):
            assert any(remedy.strip() in message for message in walked), remedy
