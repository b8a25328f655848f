# SPDX-License-Identifier: Apache-2.0
"""Settings are keywords of whatever loads a model, and a slip of the pen is told."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embellama import (
    ConfigurationError,
    EmbeddingEngine,
    EmbeddingModel,
    EngineConfig,
    ModelConfig,
    PoolingStrategy,
)
from embellama.settings import AllSettings, ModelChanges

MODEL_SETTINGS = [field.name for field in dataclasses.fields(ModelConfig)][1:]
ENGINE_SETTINGS = [field.name for field in dataclasses.fields(EngineConfig)][1:]
TAKES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "EmbeddingModel": (EmbeddingModel, MODEL_SETTINGS),
    "EmbeddingEngine": (EmbeddingEngine, [*ENGINE_SETTINGS, *MODEL_SETTINGS]),
    "get_or_init": (EmbeddingEngine.get_or_init, [*ENGINE_SETTINGS, *MODEL_SETTINGS]),
    "load_model": (EmbeddingEngine.load_model, MODEL_SETTINGS),
    "ModelConfig": (ModelConfig, MODEL_SETTINGS),
    "ModelConfig.replace": (ModelConfig.replace, ["model_path", *MODEL_SETTINGS]),
    "EngineConfig.replace": (EngineConfig.replace, ["model_config", *ENGINE_SETTINGS]),
}


@pytest.mark.parametrize("name", TAKES)
def test_every_setting_is_in_the_signature_and_the_docstring(name: str) -> None:
    function, expected = TAKES[name]
    keywords = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert keywords == expected
    for setting in set(expected) - {"query_prompt", "document_prompt"}:
        assert f"\n{setting} : " in (inspect.getdoc(function) or ""), setting


def test_type_checkers_know_the_same_settings() -> None:
    assert set(ModelChanges.__annotations__) == {"model_path", *MODEL_SETTINGS}
    assert set(AllSettings.__annotations__) == {*ENGINE_SETTINGS, *MODEL_SETTINGS}


def test_settings_by_name_are_those_of_a_configuration(minilm_path: Path) -> None:
    with EmbeddingModel(minilm_path, truncate=4, pooling="cls", n_threads=1) as model:
        assert model.config == ModelConfig(minilm_path, truncate=4, pooling="cls", n_threads=1)
        by_name = model.embed("the quick brown fox")
    with EmbeddingModel(ModelConfig(minilm_path, truncate=4, pooling="cls")) as model:
        np.testing.assert_allclose(by_name, model.embed("the quick brown fox"), atol=1e-6)


def test_an_engine_takes_settings_by_name(minilm_path: Path) -> None:
    engine = EmbeddingEngine(minilm_path, model_name="first", pooling="cls", memory_limit_mb=500)
    engine.load_model(minilm_path, model_name="second", truncate=True)
    assert engine.list_models() == ["first", "second"]
    assert engine.model("first").pooling is PoolingStrategy.CLS
    assert engine.model("second").config.truncate is True
    for name in engine.list_models():
        engine.unload_model(name)
    EmbeddingEngine.reset()
    shared = EmbeddingEngine.get_or_init(minilm_path, model_name="shared")
    assert shared.list_models() == ["shared"]
    EmbeddingEngine.reset()


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (
            lambda config: EmbeddingModel(config, truncate=3),
            lambda config: EmbeddingModel(config.replace(truncate=3)).config.truncate == 3,
        ),
        (
            lambda config: EmbeddingEngine(EngineConfig(config), use_gpu=False, n_threads=1),
            lambda config: EmbeddingEngine(
                EngineConfig(config).replace(
                    use_gpu=False,
                    model_config=EngineConfig(config).model_config.replace(n_threads=1),
                )
            ),
        ),
    ],
)
def test_settings_given_twice(
    call: Callable[[ModelConfig], object],
    remedy: Callable[[ModelConfig], object],
    minilm_path: Path,
) -> None:
    config = ModelConfig(minilm_path)
    with pytest.raises(ConfigurationError, match=r"beside it: .* config\.replace\(\w+="):
        call(config)
    assert remedy(config)


def test_settings_of_an_engine_go_with_those_of_a_model(minilm_path: Path) -> None:
    engine = EmbeddingEngine(ModelConfig(minilm_path, model_name="one"), memory_limit_mb=500)
    assert engine.list_models() == ["one"]
    engine.unload_model("one")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: EmbeddingModel("m.gguf", trunkate=True),  # type: ignore[call-arg]
            r"EmbeddingModel\(\) .* 'trunkate'; did you mean 'truncate'\?",
        ),
        (
            lambda: EmbeddingModel("m.gguf", device="cpu"),  # type: ignore[call-arg]
            r"EmbeddingModel\(\) got an unexpected keyword argument 'device'$",
        ),
        (
            lambda: EmbeddingEngine.get_or_init("m.gguf", n_thread=1),  # type: ignore[call-arg]
            r"EmbeddingEngine\.get_or_init\(\) .*'n_thread'; did you mean 'n_threads'\?",
        ),
        (
            lambda: ModelConfig("m.gguf").replace(pool="cls"),  # type: ignore[call-arg]
            r"ModelConfig\.replace\(\) got an unexpected keyword argument 'pool'",
        ),
        (lambda: EmbeddingModel(), r"^EmbeddingModel\(\) missing a required argument: 'config'$"),  # type: ignore[call-arg]
        (lambda: ModelConfig("a", "b"), r"^ModelConfig\(\) too many positional arguments$"),  # type: ignore[call-arg,misc]
    ],
)
def test_arguments_that_do_not_fit(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
