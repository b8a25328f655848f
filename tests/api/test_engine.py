# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embellama import (
    ConfigurationError,
    EmbeddingEngine,
    EngineConfig,
    ModelConfig,
    ModelNotFoundError,
    NormalizationMode,
    OperationTimeoutError,
    PNorm,
    PoolingStrategy,
    ResourceLimitError,
)


@pytest.fixture
def engine(minilm_path: Path) -> Iterator[EmbeddingEngine]:
    engine = EmbeddingEngine(ModelConfig(minilm_path, model_name="first"))
    yield engine
    for name in engine.list_models():
        engine.unload_model(name)


def test_the_first_model_loads_at_once_and_is_the_default(engine: EmbeddingEngine) -> None:
    assert engine.default_model == "first"
    assert engine.is_model_loaded("first")
    np.testing.assert_array_equal(engine.embed("cats"), engine.embed("cats", model="first"))
    assert engine.embed_batch(["a", "b"], dtype="int8").dtype == np.int8
    assert engine.embed_batch(["a"], details=True).token_counts.tolist() == [3]
    assert engine.embed_multi("a").shape == (3, 384)
    assert engine.embed_multi("a", special_tokens=False).shape == (1, 384)
    assert engine.model_info().architecture == "bert"


def test_later_models_load_on_first_use(engine: EmbeddingEngine, minilm_path: Path) -> None:
    engine.load_model(ModelConfig(minilm_path, model_name="second", pooling="cls"))
    assert engine.list_models() == ["first", "second"]
    assert engine.is_model_registered("second")
    assert not engine.is_model_loaded("second")
    assert engine.model_info("second").context_length == 512
    assert not engine.is_model_loaded("second")
    assert not np.allclose(engine.embed("cats", "second"), engine.embed("cats"))
    assert engine.is_model_loaded("second")


def test_drop_unregister_unload(engine: EmbeddingEngine, minilm_path: Path) -> None:
    engine.drop_model("first")
    assert engine.is_model_registered("first")
    assert not engine.is_model_loaded("first")
    engine.drop_model("first")
    assert engine.embed("loads again").shape == (384,)

    held = engine.model("first")
    engine.unregister_model("first")
    assert engine.list_models() == []
    assert engine.default_model is None
    assert held.embed("still works").shape == (384,)
    held.unload()
    with pytest.raises(ModelNotFoundError, match="no model is registered"):
        engine.embed("x")

    engine.load_model(ModelConfig(minilm_path, model_name="again"))
    engine.warmup_model("again")
    held = engine.model("again")
    held.unload()
    assert engine.embed("loads again").shape == (384,)
    assert engine.model("again") is held
    engine.unload_model("again")
    assert not held.is_loaded
    for call in (engine.drop_model, engine.unregister_model, engine.unload_model):
        with pytest.raises(ModelNotFoundError, match="again"):
            call("again")


def test_one_name_one_configuration(engine: EmbeddingEngine, minilm_path: Path) -> None:
    engine.load_model(ModelConfig(minilm_path, model_name="first"))
    with pytest.raises(ConfigurationError, match="other settings"):
        engine.load_model(ModelConfig(minilm_path, model_name="first", n_threads=1))


def test_an_unknown_model_is_named(engine: EmbeddingEngine) -> None:
    with pytest.raises(ModelNotFoundError, match=r"'nope'.*'first'"):
        engine.embed("x", model="nope")


def test_memory_limit(minilm_path: Path) -> None:
    with pytest.raises(ResourceLimitError, match=r"MB more than memory_limit_mb=40"):
        EmbeddingEngine(EngineConfig(ModelConfig(minilm_path), memory_limit_mb=40))
    engine = EmbeddingEngine(EngineConfig(ModelConfig(minilm_path), memory_limit_mb=120))
    engine.load_model(ModelConfig(minilm_path, model_name="second"))
    with pytest.raises(ResourceLimitError, match="drop_model"):
        engine.embed("x", model="second")
    engine.drop_model(engine.list_models()[0])
    assert engine.embed("x", model="second").shape == (384,)
    engine.drop_model("second")


def test_gpu_is_refused_without_a_backend(minilm_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no GPU backend"):
        EmbeddingEngine(EngineConfig(ModelConfig(minilm_path), use_gpu=True))


def test_shared_instance(minilm_path: Path) -> None:
    EmbeddingEngine.reset()
    assert EmbeddingEngine.instance() is None
    found: list[EmbeddingEngine] = []
    threads = [
        threading.Thread(target=lambda: found.append(EmbeddingEngine.get_or_init(minilm_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert EmbeddingEngine.instance() is found[0]
    EmbeddingEngine.reset()
    EmbeddingEngine.reset()
    assert EmbeddingEngine.instance() is None


def test_rerank(reranker_path: Path) -> None:
    engine = EmbeddingEngine(reranker_path)
    assert len(engine.rerank("coffee", ["Espresso", "tea"], top_n=1)) == 1
    with pytest.raises(OperationTimeoutError):
        engine.rerank("coffee", ["Espresso", "tea"], timeout=0)
    engine.reset()
    engine.unload_model("reranker")


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "MODEL_PATH": "m.gguf",
        "N_THREADS": "3",
        "POOLING": "CLS",
        "NORMALIZATION": "none",
        "TRUNCATE": "yes",
        "USE_MMAP": "off",
        "N_CTX": "",
        "USE_GPU": "0",
        "MEMORY_LIMIT_MB": "512.5",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"EMBELLAMA_{name}", value)
    config = EngineConfig.from_env()
    assert config == EngineConfig(
        ModelConfig(
            "m.gguf",
            n_threads=3,
            pooling=PoolingStrategy.CLS,
            normalization=NormalizationMode.NONE,
            truncate=True,
            use_mmap=False,
        ),
        memory_limit_mb=512.5,
    )
    monkeypatch.setenv("EMBELLAMA_NORMALIZATION", "3")
    monkeypatch.setenv("EMBELLAMA_TRUNCATE", "128")
    again = EngineConfig.from_env().model_config
    assert (again.normalization, again.truncate) == (PNorm(3), 128)
    monkeypatch.setenv("EMBELLAMA_TRUNCATE", "1")
    assert EngineConfig.from_env().model_config.truncate == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("N_THREADS", "many"),
        ("N_THREADS", "1.5"),
        ("N_THREADS", "0"),
        ("USE_MMAP", "2"),
        ("TRUNCATE", "maybe"),
        ("POOLING", "median"),
        ("NORMALIZATION", "l3"),
        ("NORMALIZATION", "0.5"),
        ("MEMORY_LIMIT_MB", "-1"),
        ("MEMORY_LIMIT_MB", "x"),
        ("USE_GPU", "perhaps"),
    ],
)
def test_bad_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("EMBELLAMA_MODEL_PATH", "m.gguf")
    monkeypatch.setenv(f"EMBELLAMA_{name}", value)
    with pytest.raises(ConfigurationError):
        EngineConfig.from_env()


def test_no_model_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBELLAMA_MODEL_PATH", raising=False)
    with pytest.raises(ConfigurationError, match="EMBELLAMA_MODEL_PATH"):
        EngineConfig.from_env()


def test_engine_config_is_validated() -> None:
    assert EngineConfig("m.gguf").model_config == ModelConfig("m.gguf")
    assert EngineConfig("m.gguf").replace(memory_limit_mb=1).memory_limit_mb == 1
    for settings in ({"use_gpu": 1}, {"memory_limit_mb": "1"}, {"memory_limit_mb": True}):
        with pytest.raises(TypeError):
            EngineConfig("m.gguf", **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        EngineConfig("m.gguf", memory_limit_mb=0)
    with pytest.raises(ConfigurationError):
        EngineConfig("m.gguf", memory_limit_mb=float("nan"))
