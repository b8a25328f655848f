# SPDX-License-Identifier: Apache-2.0
"""What a user may choose: frozen dataclasses and enums, validated on construction."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import operator
import os
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embellama.environment import settings_from_environment
from embellama.errors import ConfigurationError, safe_repr
from embellama.keywords import configuration
from embellama.settings import EngineChanges, EngineSettings, ModelChanges, ModelSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "Accuracy",
    "CacheConfig",
    "EngineConfig",
    "ModelConfig",
    "NormalizationMode",
    "PNorm",
    "PoolingStrategy",
    "engine_config",
    "model_config",
    "truncation",
]

# LLAMA_MAX_SEQ, llama.cpp src/llama-cparams.h: a context holds at most this many sequences.
MAX_SEQUENCES = 256

_Enum = TypeVar("_Enum", bound=enum.Enum)


class PoolingStrategy(enum.Enum):
    """How the vectors of a text's T tokens become the vector of the text.

    Wherever one is expected its lower-case name is accepted too: ``pooling="mean"``.

    Examples
    --------
    >>> import embellama
    >>> embellama.PoolingStrategy("mean")
    <PoolingStrategy.MEAN: 'mean'>
    """

    MEAN = "mean"
    """The mean over the tokens."""
    CLS = "cls"
    """The first token's vector."""
    LAST = "last"
    """The last token's vector; usual for causal models."""
    MAX = "max"
    """The largest value of each dimension."""
    MEAN_SQRT = "mean_sqrt"
    """The sum over the tokens divided by sqrt(T)."""
    NONE = "none"
    """No pooling: a vector per token, by ``embed_multi``."""
    RANK = "rank"
    """The scores of the model's classification head, by ``rerank``."""


class Accuracy(enum.Enum):
    """How the products of a network are computed.

    Wherever one is expected its lower-case name is accepted too: ``accuracy="exact"``.

    Examples
    --------
    >>> import embellama
    >>> embellama.Accuracy("exact")
    <Accuracy.EXACT: 'exact'>
    """

    FAST = "fast"
    """The BERT family: products of bfloat16 where the processor is faster with them. Against
    float32, MiniLM's least cosine was 0.9999; of multilingual-e5-small's texts one in a thousand
    was below, the least at 0.997. Other architectures: llama.cpp's products, which round the
    inputs of a product to 16 bits for F16 and BF16 weights and to 8 bits for quantised weights."""
    EXACT = "exact"
    """The file's weights are multiplied with float32, for every architecture. Weights take as
    much memory as in the file, and those of Q4_0 twice as much."""


class NormalizationMode(enum.Enum):
    """How a vector is scaled after pooling.

    Wherever one is expected its lower-case name is accepted too: ``normalization="l2"``.
    A zero vector stays zero under every mode.

    Examples
    --------
    >>> import embellama
    >>> embellama.NormalizationMode("l2")
    <NormalizationMode.L2: 'l2'>
    """

    NONE = "none"
    """As the model gave it."""
    MAX_ABS = "max_abs"
    """The largest absolute value becomes 32760, the int16 range llama.cpp uses
    (``common_embd_normalize`` with ``embd_norm = 0``)."""
    L2 = "l2"
    """The Euclidean length becomes 1."""


@dataclasses.dataclass(frozen=True)
class PNorm:
    """Scale vectors so that their p-norm, ``sum(abs(x) ** p) ** (1 / p)``, becomes 1.

    Parameters
    ----------
    p : float
        The order, finite and at least 1.

    Raises
    ------
    ConfigurationError
        If `p` is below 1 or not finite.

    Examples
    --------
    >>> import embellama
    >>> embellama.PNorm(1)
    PNorm(p=1.0)
    """

    p: float

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, (int, float)):
            raise TypeError(f"PNorm's p must be a number, not {type(self.p).__name__}")
        if not 1 <= self.p <= sys.float_info.max:
            raise ConfigurationError(
                f"PNorm's p must be finite and at least 1, not {safe_repr(self.p)}"
            )
        object.__setattr__(self, "p", float(self.p))


def parse_normalization(text: str) -> NormalizationMode | PNorm:
    """Return the normalisation that a text names, a number being the order of a p-norm."""
    try:
        with contextlib.suppress(ValueError):
            return NormalizationMode(text.lower())
        return PNorm(float(text))
    except ValueError:
        raise ConfigurationError(
            f"normalization {text!r} is neither none, max_abs or l2 nor a number from 1 up"
        ) from None


def as_integer(name: str, value: Any) -> int:
    """Return a value as an int; TypeError if it is not an integer."""
    # Truth values of NumPy before 2.3 count as integers, with a warning.
    if not isinstance(value, (bool, np.bool_)):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise TypeError(f"{name} must be an integer, not {type(value).__name__}")


def integer(name: str, value: Any, minimum: int, maximum: int) -> int:
    """Return a value as an int; TypeError if it is not one, ConfigurationError out of the range."""
    number = as_integer(name, value)
    if not minimum <= number <= maximum:
        raise ConfigurationError(
            f"{name} must be from {minimum} to {maximum}, not {safe_repr(number)}"
        )
    return number


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def _member(name: str, kind: type[_Enum], value: Any) -> _Enum:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be a {kind.__name__} or its lower-case name, not {type(value).__name__}"
        )
    try:
        return kind(value.lower())
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        raise ConfigurationError(f"{name} must be one of {known}, not {value!r}") from None


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not value > 0:
        raise ConfigurationError(f"{name} must be above 0, not {safe_repr(value)}")
    # An int above what a float holds counts as infinite: Python may refuse to write its digits.
    return value if value <= sys.float_info.max else math.inf


def _absolute(path: str) -> str:
    """Make a path independent of the working directory; a known model's name stays as it is."""
    expanded = os.path.expanduser(path)
    is_path = expanded != path or path.startswith((f".{os.sep}", f"..{os.sep}"))
    if is_path or (os.path.exists(expanded) and not os.path.isdir(expanded)):
        return os.path.abspath(expanded)
    return path


_INT32_MAX = 2**31 - 1
MAX_THREADS = 512  # GGML_MAX_N_THREADS, ggml.h


def truncation(value: Any) -> bool | int:
    """Return a value of ``truncate``: a truth value, or a number of tokens."""
    return value if isinstance(value, bool) else integer("truncate", value, 1, _INT32_MAX)


class _Settings:
    """A dataclass whose repr has the values that are not the defaults, as a call takes them."""

    def __repr__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value != field.default or type(value) is not type(field.default):
                shown = repr(value.value) if isinstance(value, enum.Enum) else safe_repr(value)
                parts.append(f"{field.name}={shown}" if field.kw_only else shown)
        return f"{type(self).__name__}({', '.join(parts)})"


@configuration()
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class CacheConfig(_Settings):
    """What a model remembers of the texts it has seen, for texts that come again.

    Entries are known by everything that changes them: the text with its prompt, the file, and the
    model's pooling, normalisation and truncation. The least recently used go first.

    Parameters
    ----------
    embedding_cache_size : int, optional
        Vectors to keep (default 10000); 0 for none.
    token_cache_size : int, optional
        Tokenized texts to keep (default 0, none). Vectors that are kept need no tokens: this is
        for programs that count tokens before they embed.
    max_memory_mb : float, optional
        MB (10**6 bytes) that all of it may take (default 64).

    Raises
    ------
    ConfigurationError
        If a value is out of its range.
    TypeError
        If a value has the wrong type.

    Examples
    --------
    >>> import embellama
    >>> cache = embellama.CacheConfig(embedding_cache_size=500)
    >>> embellama.ModelConfig("all-MiniLM-L6-v2", cache=cache).cache.max_memory_mb
    64
    """

    embedding_cache_size: int = 10_000
    token_cache_size: int = 0
    max_memory_mb: float = 64

    def __post_init__(self) -> None:
        for name in ("embedding_cache_size", "token_cache_size"):
            size = integer(name, getattr(self, name), 0, _INT32_MAX)
            object.__setattr__(self, name, size)
        if not _positive("max_memory_mb", self.max_memory_mb) <= 1e12:
            raise ConfigurationError("max_memory_mb must be at most 1e12")


@configuration(ModelChanges)
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ModelConfig(_Settings):
    """Which model to load and how to run it.

    Everything but the first argument is optional and must be named.

    Parameters
    ----------
    model_path : str or os.PathLike
        A GGUF file, a name from the catalog (``"all-MiniLM-L6-v2"``), a repository of the Hugging
        Face Hub (``"BAAI/bge-m3"``) or a file in it (``"org/repo/file.gguf"``), or a URL; see
        :func:`embellama.catalog.resolve`. ``~`` is the home directory. The path of a file is made
        absolute here, so that a later change of the working directory does not matter.
    model_name : str, optional
        What messages and an engine call the model. Default: derived from `model_path`.
    n_ctx : int, optional
        The longest text in tokens, special ones included. Default: the model's own limit. A
        larger value than the model was trained for is an error when the model loads.
    n_threads : int, optional
        CPU cores to use. Default: those this process may use.
    n_gpu_layers : int, optional
        Layers to put on a GPU; 0, the default, is none, -1 all. Anything else than 0 raises
        ConfigurationError when the model loads in a build without a GPU backend.
    use_mmap : bool, optional
        Map the file instead of reading it (default True). A mapped file must not change while
        the model is loaded: the process would end. Where it may change, use False.
    use_mlock : bool, optional
        Keep the weights from being swapped out (default False).
    pooling : PoolingStrategy or str, optional
        Default: what the file says; where it says nothing, RANK for a reranker, LAST for a
        causal model, else MEAN.
    normalization : NormalizationMode, PNorm or str, optional
        Default: L2.
    truncate : bool or int, optional
        What to do with a text that is too long: False (default) raises InvalidInputError, True
        cuts it to `n_ctx` tokens, or where the model's authors cut
        (`ModelInfo.max_seq_length`), a number cuts every text to that many tokens, special ones
        counted. The final special token is always kept.
    n_seq_max : int, optional
        The most texts in one micro-batch, 1 to 256. Default: 256.
    micro_batch_tokens : int, optional
        The token budget of one micro-batch; a longer text goes alone. Default: 256.
    parse_special : bool, optional
        Whether a text that spells a special token, such as ``[SEP]``, gets that token, as
        Hugging Face tokenizers do (default True). False treats it as ordinary text.
    accuracy : Accuracy or str, optional
        How products are computed: FAST, the default, or EXACT.
    instruction_set : str, optional
        What encoders of the BERT family are computed with: one of
        ``embellama.backend_info()["instruction_sets"]``, or ``"llama.cpp"`` for llama.cpp's own
        code. Default: the fastest that `accuracy` allows; one that is named is used whatever
        `accuracy` says. None may be above ``EMBELLAMA_INSTRUCTION_SET``.
    keys_in_float16 : bool, optional
        Keep the keys and values of a causal model's attention in float16. That halves their memory
        (3.8 GB instead of 7.5 GB for a text of 32,768 tokens with Qwen3-0.6B), and moves vectors by
        up to 1e-3, which then also depend on the other texts of a batch. Default False: float32.
        Models that are not causal keep none.
    query_prompt, document_prompt : str, optional
        What ``embed_query`` and ``embed_documents`` put before a text. Default: the catalog's
        for the model, else what the file says, else nothing.
    cache : CacheConfig, optional
        Keep the vectors or tokens of texts. Default: none are kept.

    Raises
    ------
    ConfigurationError
        If a value is out of its range.
    TypeError
        If a value has the wrong type.

    Examples
    --------
    >>> import embellama
    >>> config = embellama.ModelConfig("all-MiniLM-L6-v2", pooling="cls")
    >>> config.pooling
    <PoolingStrategy.CLS: 'cls'>
    >>> config.replace(truncate=128).truncate
    128
    """

    model_path: str | os.PathLike[str] = dataclasses.field(kw_only=False)
    model_name: str | None = None
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = 0
    use_mmap: bool = True
    use_mlock: bool = False
    pooling: PoolingStrategy | None = None
    normalization: NormalizationMode | PNorm = NormalizationMode.L2
    truncate: bool | int = False
    n_seq_max: int | None = None
    micro_batch_tokens: int | None = None
    parse_special: bool = True
    accuracy: Accuracy = Accuracy.FAST
    instruction_set: str | None = None
    keys_in_float16: bool = False
    query_prompt: str | None = None
    document_prompt: str | None = None
    cache: CacheConfig | None = None

    if TYPE_CHECKING:
        # More is accepted than the attributes are.
        def __init__(
            self, model_path: str | os.PathLike[str], **settings: Unpack[ModelSettings]
        ) -> None: ...

    def __post_init__(self) -> None:
        path = os.fspath(self.model_path)
        if not isinstance(path, str):
            raise TypeError(f"model_path must be a str or a path of str, not {type(path).__name__}")
        if not path:
            raise ConfigurationError("model_path is empty: name a GGUF file or a known model")
        if "\0" in path:
            raise ConfigurationError(f"model_path holds a NUL character: {path!r}")
        values: dict[str, Any] = {"model_path": _absolute(path)}
        if self.model_name is not None and not _text("model_name", self.model_name):
            raise ConfigurationError("model_name is empty: leave it out or name the model")
        for name in ("instruction_set", "query_prompt", "document_prompt"):
            if getattr(self, name) is not None:
                _text(name, getattr(self, name))
        for name, minimum, maximum in (
            ("n_ctx", 1, _INT32_MAX),
            ("n_threads", 1, MAX_THREADS),
            ("n_seq_max", 1, MAX_SEQUENCES),
            ("micro_batch_tokens", 1, _INT32_MAX),
        ):
            value = getattr(self, name)
            if value is not None:
                values[name] = integer(name, value, minimum, maximum)
        values["n_gpu_layers"] = integer("n_gpu_layers", self.n_gpu_layers, -1, _INT32_MAX)
        for name in ("use_mmap", "use_mlock", "parse_special", "keys_in_float16"):
            values[name] = _boolean(name, getattr(self, name))
        values["accuracy"] = _member("accuracy", Accuracy, self.accuracy)
        if self.pooling is not None:
            values["pooling"] = _member("pooling", PoolingStrategy, self.pooling)
        if not isinstance(self.normalization, PNorm):
            values["normalization"] = _member(
                "normalization", NormalizationMode, self.normalization
            )
        values["truncate"] = truncation(self.truncate)
        if self.cache is not None and not isinstance(self.cache, CacheConfig):
            raise TypeError(f"cache must be a CacheConfig, not {type(self.cache).__name__}")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """What messages and an engine call the model: `model_name`, else from `model_path`.

        A GGUF file gives its name without suffix.
        """
        if self.model_name is not None:
            return self.model_name
        name = PurePath(self.model_path).name
        return name.removesuffix(".gguf") or str(self.model_path)

    def replace(self, **changes: Unpack[ModelChanges]) -> ModelConfig:
        """Return a copy with some settings changed, validated like a new one.

        Parameters
        ----------
        **changes
            Settings by name.

        Returns
        -------
        ModelConfig

        Raises
        ------
        ConfigurationError
            If a value is out of its range.
        TypeError
            If a value has the wrong type or there is no such setting.

        Examples
        --------
        >>> import embellama
        >>> embellama.ModelConfig("model.gguf").replace(n_threads=1).n_threads
        1
        """
        accepted: dict[str, Any] = {**changes}
        return dataclasses.replace(self, **accepted)


@configuration(EngineChanges)
@dataclasses.dataclass(frozen=True, repr=False)
class EngineConfig(_Settings):
    """The first model of an engine, and what holds for all of its models.

    Parameters
    ----------
    model_config : ModelConfig, str or os.PathLike
        Settings of the model, or just its `model_path`.
    use_gpu : bool, optional
        Put all layers of every model on a GPU (default False). Raises ConfigurationError when a
        model loads in a build without a GPU backend.
    memory_limit_mb : float, optional
        Refuse to load a model whose weights and working memory would take the engine beyond
        this many MB (10**6 bytes). Default: no limit.

    Raises
    ------
    ConfigurationError
        If a value is out of its range.
    TypeError
        If a value has the wrong type.

    Examples
    --------
    >>> import embellama
    >>> config = embellama.EngineConfig("all-MiniLM-L6-v2", memory_limit_mb=500)
    >>> config.model_config.name
    'all-MiniLM-L6-v2'
    """

    model_config: ModelConfig
    _: dataclasses.KW_ONLY
    use_gpu: bool = False
    memory_limit_mb: float | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            model_config: ModelConfig | str | os.PathLike[str],
            **settings: Unpack[EngineSettings],
        ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.model_config, ModelConfig):
            object.__setattr__(self, "model_config", ModelConfig(self.model_config))
        _boolean("use_gpu", self.use_gpu)
        if self.memory_limit_mb is not None:
            limit = _positive("memory_limit_mb", self.memory_limit_mb)
            object.__setattr__(self, "memory_limit_mb", limit)

    def replace(self, **changes: Unpack[EngineChanges]) -> EngineConfig:
        """Return a copy with some settings changed, validated like a new one.

        Parameters
        ----------
        **changes
            Settings by name.

        Returns
        -------
        EngineConfig

        Raises
        ------
        ConfigurationError
            If a value is out of its range.
        TypeError
            If a value has the wrong type or there is no such setting.

        Examples
        --------
        >>> import embellama
        >>> config = embellama.EngineConfig("all-MiniLM-L6-v2")
        >>> config.replace(memory_limit_mb=500).memory_limit_mb
        500
        """
        accepted: dict[str, Any] = {**changes}
        return dataclasses.replace(self, **accepted)

    @classmethod
    def from_env(cls) -> EngineConfig:
        """Read the settings from environment variables.

        Each setting of :class:`ModelConfig`, of :class:`CacheConfig` (any of which turns the cache
        on) and of this class has a variable of its name in capitals after ``EMBELLAMA_``:
        ``EMBELLAMA_MODEL_PATH`` (required), ``EMBELLAMA_N_THREADS``,
        ``EMBELLAMA_MEMORY_LIMIT_MB``. ``instruction_set`` has none:
        ``EMBELLAMA_INSTRUCTION_SET`` limits the whole process (:func:`embellama.backend_info`).
        Truth values are ``1``, ``true``, ``yes``, ``on`` and ``0``, ``false``, ``no``, ``off``;
        empty variables count as unset. ``EMBELLAMA_TRUNCATE`` may be a number of tokens too, so
        that ``1`` is one token there, and ``true`` the truth.

        Returns
        -------
        EngineConfig

        Raises
        ------
        ConfigurationError
            If ``EMBELLAMA_MODEL_PATH`` is missing or a value can't be read.

        Examples
        --------
        >>> import os, embellama
        >>> os.environ["EMBELLAMA_MODEL_PATH"] = "all-MiniLM-L6-v2"
        >>> embellama.EngineConfig.from_env().model_config.model_path
        'all-MiniLM-L6-v2'
        >>> del os.environ["EMBELLAMA_MODEL_PATH"]
        """
        model = settings_from_environment(ModelConfig)
        if "model_path" not in model:
            raise ConfigurationError(
                "EMBELLAMA_MODEL_PATH is not set: set it to a GGUF file or a known model"
            )
        if "normalization" in model:
            model["normalization"] = parse_normalization(model["normalization"])
        cache = settings_from_environment(CacheConfig)
        if cache:
            model["cache"] = CacheConfig(**cache)
        return cls(ModelConfig(**model), **settings_from_environment(cls))


def model_config(
    config: ModelConfig | str | os.PathLike[str], settings: Mapping[str, Any]
) -> ModelConfig:
    """Return the settings of a model that a caller gives as a ModelConfig or by name.

    Raises
    ------
    ConfigurationError
        If they are given both ways.
    """
    if not isinstance(config, ModelConfig):
        return ModelConfig(config, **settings)
    if settings:
        raise _given_twice(f"config.replace({_written(settings)})")
    return config


def engine_config(
    config: EngineConfig | ModelConfig | str | os.PathLike[str], settings: Mapping[str, Any]
) -> EngineConfig:
    """Return the settings of an engine that a caller gives as a configuration or by name.

    Raises
    ------
    ConfigurationError
        If they are given both ways.
    """
    own = {name: settings[name] for name in EngineSettings.__annotations__ if name in settings}
    others = {name: value for name, value in settings.items() if name not in own}
    if not isinstance(config, EngineConfig):
        return EngineConfig(model_config(config, others), **own)
    if settings:
        changes = [_written(own)] if own else []
        if others:
            changes.append(f"model_config=config.model_config.replace({_written(others)})")
        raise _given_twice(f"config.replace({', '.join(changes)})")
    return config


def _given_twice(remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"settings are given in a configuration and beside it: use one way, such as {remedy}"
    )


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={safe_repr(value)}" for name, value in settings.items())
