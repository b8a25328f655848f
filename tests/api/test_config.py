# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embellama import (
    CacheConfig,
    ConfigurationError,
    EngineConfig,
    ModelConfig,
    NormalizationMode,
    PNorm,
    PoolingStrategy,
    similarity,
)
from embellama.batch import plan
from embellama.embedding.deadline import Deadline
from embellama.quantization import dtype_name


def test_enums_accept_lower_case_names() -> None:
    config = ModelConfig("m.gguf", pooling="Mean_Sqrt", normalization="max_abs")
    assert config.pooling is PoolingStrategy.MEAN_SQRT
    assert config.normalization is NormalizationMode.MAX_ABS


def test_paths_become_text() -> None:
    assert ModelConfig(Path("a") / "b.gguf").model_path == "a/b.gguf"


def test_replace_validates() -> None:
    config = ModelConfig("m.gguf")
    assert config.replace(n_threads=3).n_threads == 3
    assert config.n_threads is None
    with pytest.raises(ConfigurationError, match="n_threads must be from 1 to 512, not 0"):
        config.replace(n_threads=0)
    with pytest.raises(TypeError):
        config.replace(threads=1)


def test_a_config_is_frozen_and_survives_pickling() -> None:
    config = ModelConfig("m.gguf", truncate=7, normalization=PNorm(3))
    with pytest.raises(AttributeError):
        config.truncate = True  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("name", ["n_ctx", "n_threads", "n_seq_max", "micro_batch_tokens"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ConfigurationError),
        (-1, ConfigurationError),
        (2**31, ConfigurationError),
        (10**30, ConfigurationError),
        (1.0, TypeError),
        (math.nan, TypeError),
        (True, TypeError),
        ("1", TypeError),
    ],
)
def test_counts(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        ModelConfig("m.gguf", **{name: value})


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"n_seq_max": 257}, ConfigurationError),
        ({"n_gpu_layers": -2}, ConfigurationError),
        ({"truncate": 0}, ConfigurationError),
        ({"truncate": None}, TypeError),
        ({"pooling": "median"}, ConfigurationError),
        ({"pooling": 1}, TypeError),
        ({"normalization": "l3"}, ConfigurationError),
        ({"normalization": 2}, TypeError),
        ({"use_mmap": 1}, TypeError),
        ({"parse_special": "yes"}, TypeError),
        ({"model_name": ""}, ConfigurationError),
        ({"model_name": 3}, TypeError),
    ],
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        ModelConfig("m.gguf", **settings)


# Python writes no more than 4300 digits: sys.set_int_max_str_digits().
UNSPEAKABLE = 10**5000


@pytest.mark.parametrize(
    "refuse",
    [
        lambda value: ModelConfig("m.gguf", n_ctx=value),
        lambda value: ModelConfig("m.gguf", n_threads=value),
        lambda value: ModelConfig("m.gguf", truncate=value),
        lambda value: CacheConfig(embedding_cache_size=value),
        lambda value: CacheConfig(max_memory_mb=value),
        lambda value: PNorm(value),
        lambda value: EngineConfig("m.gguf", memory_limit_mb=-abs(value)),
        lambda value: Deadline(-abs(value)),
        lambda value: plan(np.array([1]), max_tokens=8, max_texts=-abs(value)),
        lambda value: dtype_name(value),
        lambda value: similarity([1.0], [1.0], kind=value),
    ],
)
def test_numbers_too_long_for_a_message(refuse: Callable[[int], object]) -> None:
    for value in (UNSPEAKABLE, -UNSPEAKABLE):
        with pytest.raises(ConfigurationError, match=" must "):
            refuse(value)


def test_a_limit_beyond_every_float_is_none() -> None:
    config = EngineConfig("m.gguf", memory_limit_mb=UNSPEAKABLE)
    assert config.memory_limit_mb == math.inf
    assert "inf" in repr(config)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", ConfigurationError),
        ("a\0b", ConfigurationError),
        (b"m.gguf", TypeError),
        (3, TypeError),
    ],
)
def test_bad_model_paths(path: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ModelConfig(path)


@pytest.mark.parametrize("p", [0.5, 0, -1, math.nan, math.inf])
def test_p_norm_range(p: float) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        PNorm(p)


@pytest.mark.parametrize("p", ["2", None, True])
def test_p_norm_type(p: Any) -> None:
    with pytest.raises(TypeError):
        PNorm(p)
