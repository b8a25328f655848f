# SPDX-License-Identifier: Apache-2.0
"""Calls as the documentation shows them, for mypy and pyright; nothing here is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import embellama
from embellama import EmbeddingEngine, EmbeddingModel, EmbeddingResult, EngineConfig, ModelConfig
from embellama.quantization import DType

Multi = EmbeddingResult[list[NDArray[np.float32]]]


def settings() -> None:
    ModelConfig("m.gguf", pooling="cls", normalization="none", accuracy="exact", truncate=3)
    ModelConfig(Path("m.gguf"), pooling=embellama.PoolingStrategy.CLS).replace(pooling="mean")
    assert_type(ModelConfig("m.gguf").pooling, embellama.PoolingStrategy | None)
    EmbeddingModel("m.gguf", truncate=True, pooling="cls", normalization=embellama.PNorm(1))
    EmbeddingModel(ModelConfig("m.gguf"))
    EmbeddingEngine("m.gguf", memory_limit_mb=500, use_gpu=False, pooling="cls")
    EmbeddingEngine(EngineConfig("m.gguf", memory_limit_mb=500).replace(model_config="n.gguf"))
    EmbeddingEngine.get_or_init("m.gguf", n_threads=1).load_model("n.gguf", truncate=True)


def vectors(model: EmbeddingModel, texts: list[str]) -> None:
    assert_type(model.embed("a"), NDArray[np.float32])
    assert_type(model.embed(["a", "b"]), NDArray[np.float32])
    assert_type(model.embed("a", dtype=np.float16), NDArray[np.float16])
    assert_type(model.embed_batch(texts, dtype="float16"), NDArray[np.float16])
    assert_type(model.embed_batch(texts, dtype=np.dtype("float32")), NDArray[np.float32])
    assert_type(model.embed_query("a", dtype="int8"), NDArray[np.int8])
    assert_type(model.embed_queries(texts, dtype="binary"), NDArray[np.int8])
    assert_type(model.embed_documents(texts, dtype="ubinary"), NDArray[np.uint8])
    assert_type(model.embed_batch(texts, dtype=np.uint8, ranges=[[0.0], [1.0]]), NDArray[np.uint8])
    assert_type(model.embed_batch(texts, details=True, dtype="int8"), EmbeddingResult)
    assert_type(model.embed("a", details=True).embeddings, NDArray[Any])
    assert_type(model.embed_tokens([101, 102], truncate_dim=3), NDArray[np.float32])
    windows = model.embed_iter(texts, dtype="int8", progress=True)
    for _, rows in windows:
        assert_type(rows, NDArray[np.int8])
    for _, result in model.embed_iter(texts, details=True):
        assert_type(result, EmbeddingResult)


def per_token(model: EmbeddingModel, texts: list[str]) -> None:
    assert_type(model.embed_multi("a", truncate=True), NDArray[np.float32])
    assert_type(model.embed_multi("a", details=True), Multi)
    assert_type(model.embed_batch_multi(texts), list[NDArray[np.float32]])
    assert_type(model.embed_batch_multi(texts, details=True), Multi)


def scores(model: EmbeddingModel, texts: list[str]) -> None:
    assert_type(model.rerank("a", texts, top_n=3, details=True), list[embellama.RerankResult])
    embellama.similarity([1.0], [1.0], kind="dot")


async def asynchronous(model: EmbeddingModel, texts: list[str]) -> None:
    assert_type(await model.aembed("a"), NDArray[np.float32])
    assert_type(await model.aembed_batch(texts, dtype="float16"), NDArray[np.float16])
    assert_type(await model.aembed_query("a", details=True), EmbeddingResult)


def engines(engine: EmbeddingEngine, texts: list[str]) -> None:
    assert_type(engine.embed("a", "name"), NDArray[np.float32])
    assert_type(engine.embed_batch(texts, model="name", dtype="int8"), NDArray[np.int8])
    assert_type(engine.embed_documents(texts, details=True), EmbeddingResult)
    assert_type(engine.embed_multi("a", "name", details=True), Multi)
    assert_type(engine.count_tokens("a"), int)


def chosen_later(model: EmbeddingModel, details: bool) -> None:
    dtypes: tuple[DType, ...] = ("float32", np.float16)
    for dtype in dtypes:
        assert_type(model.embed("a", dtype=dtype), NDArray[Any])
        assert_type(embellama.quantize([[1.0]], dtype), NDArray[Any])
    assert_type(model.embed("a", details=details), NDArray[Any] | EmbeddingResult)
    assert_type(embellama.quantize([[1.0]], "ubinary"), NDArray[np.uint8])
    assert_type(embellama.quantize([[1.0]], np.float16), NDArray[np.float16])
