# SPDX-License-Identifier: Apache-2.0
"""The registry of named models."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from embellama.batch import MICRO_BATCH_TOKENS
from embellama.config import (
    EngineConfig,
    ModelConfig,
    engine_config,
)
from embellama.engine_methods import EngineMethods
from embellama.errors import ConfigurationError, ModelNotFoundError, ResourceLimitError
from embellama.file_info import ModelInfo, model_info
from embellama.gguf.memory import context_bytes
from embellama.keywords import keywords_of, nearest
from embellama.machine.cores import usable_cores
from embellama.machine.forking import renew_after_fork
from embellama.model import EmbeddingModel
from embellama.settings import AllSettings, ModelSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["EmbeddingEngine"]


@keywords_of(EngineConfig, ModelConfig, types=AllSettings)
class EmbeddingEngine(EngineMethods):
    """Models by name: the first is the default and loads at once, others on first use.

    Any method may be called from any thread. One that computes raises ModelNotFoundError if no
    model of that name is registered, and what the constructor raises if it loads the model first.

    Parameters
    ----------
    config : EngineConfig, ModelConfig, str or os.PathLike
        Settings, or those of the first model, or its `model_path`, with settings by name.
    **settings
        As :class:`EngineConfig` and :class:`ModelConfig` take them.

    Raises
    ------
    ModelNotFoundError, ModelLoadError, ConfigurationError, TypeError
        As :class:`EmbeddingModel`.
    ResourceLimitError
        If the model would pass `memory_limit_mb`.

    Examples
    --------
    >>> import embellama
    >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
    >>> engine.embed("Hello, world!").shape
    (384,)
    >>> engine.list_models()
    ['all-MiniLM-L6-v2']
    """

    def __init__(
        self,
        config: EngineConfig | ModelConfig | str | os.PathLike[str],
        **settings: Unpack[AllSettings],
    ) -> None:
        self._config = engine_config(config, settings)
        self._renew_after_fork()
        renew_after_fork(self)
        self._configs: dict[str, ModelConfig] = {}
        self._models: dict[str, EmbeddingModel] = {}
        self.load_model(self._config.model_config)
        self._loaded(None)

    def _renew_after_fork(self) -> None:
        # Reentrant, as others here: a signal handler may unload what its thread is loading.
        self._lock = threading.RLock()

    @classmethod
    @keywords_of(EngineConfig, ModelConfig, types=AllSettings)
    def get_or_init(
        cls,
        config: EngineConfig | ModelConfig | str | os.PathLike[str],
        **settings: Unpack[AllSettings],
    ) -> EmbeddingEngine:
        """Return the shared engine, made as by the constructor if there is none yet.

        Arguments are ignored if there is one.

        Parameters
        ----------
        config : EngineConfig, ModelConfig, str or os.PathLike
            Settings, or those of the first model, or its `model_path`, with settings by name.
        **settings
            As :class:`EngineConfig` and :class:`ModelConfig` take them.

        Returns
        -------
        EmbeddingEngine

        Raises
        ------
        ModelNotFoundError, ModelLoadError, ConfigurationError, ResourceLimitError
            As the constructor.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine.get_or_init("all-MiniLM-L6-v2")
        >>> embellama.EmbeddingEngine.get_or_init("all-MiniLM-L6-v2") is engine
        True
        >>> embellama.EmbeddingEngine.reset()
        """
        with _shared.lock:
            if _shared.engine is None:
                _shared.engine = cls(config, **settings)
            return _shared.engine

    @classmethod
    def instance(cls) -> EmbeddingEngine | None:
        """Return the shared engine, or None if :meth:`get_or_init` was not called yet.

        Returns
        -------
        EmbeddingEngine or None

        Examples
        --------
        >>> import embellama
        >>> embellama.EmbeddingEngine.instance() is None
        True
        """
        return _shared.engine

    @classmethod
    def reset(cls) -> None:
        """Unload and forget the shared engine.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine.get_or_init("all-MiniLM-L6-v2")
        >>> embellama.EmbeddingEngine.reset()
        >>> embellama.EmbeddingEngine.instance() is None
        True
        """
        with _shared.lock:
            engine, _shared.engine = _shared.engine, None
        if engine is not None:
            for name in engine.list_models():
                engine.drop_model(name)

    def __reduce__(self) -> Any:
        raise TypeError("an engine can't be pickled: pass its config and make one in each process")

    def __repr__(self) -> str:
        models = [
            f"{name!r} (loaded)" if self.is_model_loaded(name) else repr(name)
            for name in self.list_models()
        ]
        return f"<EmbeddingEngine: {', '.join(models) or 'no models'}>"

    @keywords_of(ModelConfig, types=ModelSettings)
    def load_model(
        self,
        config: EngineConfig | ModelConfig | str | os.PathLike[str],
        **settings: Unpack[ModelSettings],
    ) -> None:
        """Register a model under its name; it is loaded on first use.

        Parameters
        ----------
        config : EngineConfig, ModelConfig, str or os.PathLike
            Settings, or the model's `model_path`, with settings by name. Of an EngineConfig, the
            model's settings.
        **settings
            As :class:`ModelConfig` takes them.

        Raises
        ------
        ConfigurationError
            If another model has that name, or settings stand beside a configuration.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.load_model("all-MiniLM-L6-v2", model_name="cutting", truncate=16)
        >>> engine.list_models()
        ['all-MiniLM-L6-v2', 'cutting']
        """
        model_config = engine_config(config, settings).model_config
        if self._config.use_gpu and model_config.n_gpu_layers == 0:
            model_config = model_config.replace(n_gpu_layers=-1)
        name = model_config.name
        with self._lock:
            if self._configs.setdefault(name, model_config) != model_config:
                raise ConfigurationError(
                    f"a model named {name!r} with other settings is registered: choose another "
                    "model_name, or unload_model() that one first"
                )

    def drop_model(self, name: str) -> None:
        """Free a model's weights; it stays registered and loads again on next use.

        Parameters
        ----------
        name : str

        Raises
        ------
        ModelNotFoundError
            If no such model is registered.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.drop_model("all-MiniLM-L6-v2")
        >>> engine.is_model_loaded("all-MiniLM-L6-v2"), engine.list_models()
        (False, ['all-MiniLM-L6-v2'])
        """
        with self._lock:
            self._registered(name)
            model = self._models.pop(name, None)
        if model is not None:
            model.unload()

    def unregister_model(self, name: str) -> None:
        """Forget a model's name; whoever holds the model itself may go on using it.

        Parameters
        ----------
        name : str

        Raises
        ------
        ModelNotFoundError
            If no such model is registered.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.unregister_model("all-MiniLM-L6-v2")
        >>> engine.list_models()
        []
        """
        with self._lock:
            self._registered(name)
            del self._configs[name]
            self._models.pop(name, None)

    def unload_model(self, name: str) -> None:
        """Free a model's weights and forget its name.

        Parameters
        ----------
        name : str

        Raises
        ------
        ModelNotFoundError
            If no such model is registered.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.unload_model("all-MiniLM-L6-v2")
        >>> engine.embed("a cat", model="all-MiniLM-L6-v2")
        Traceback (most recent call last):
        embellama.errors.ModelNotFoundError: no model named 'all-MiniLM-L6-v2' is registered: ...
        """
        with self._lock:
            model = self._models.get(name)
            self.unregister_model(name)
        if model is not None:
            model.unload()

    def list_models(self) -> list[str]:
        """Return the names of the registered models, the default first.

        Returns
        -------
        list of str

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.list_models()
        ['all-MiniLM-L6-v2']
        """
        with self._lock:
            return list(self._configs)

    def is_model_registered(self, name: str) -> bool:
        """Return whether there is a model of that name.

        Parameters
        ----------
        name : str

        Returns
        -------
        bool

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.is_model_registered("no such name")
        False
        """
        return name in self._configs

    def is_model_loaded(self, name: str) -> bool:
        """Return whether the weights of that model are in memory.

        Parameters
        ----------
        name : str

        Returns
        -------
        bool

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.is_model_loaded("all-MiniLM-L6-v2")
        True
        """
        model = self._models.get(name)
        return model is not None and model.is_loaded

    @property
    def default_model(self) -> str | None:
        """The model used when a call names none: the first one registered."""
        # list() first: another thread may register a model between two steps of an iterator.
        return next(iter(list(self._configs)), None)

    def model_info(self, name: str | None = None) -> ModelInfo:
        """Return what a model's file says, without loading the weights.

        Parameters
        ----------
        name : str, optional
            Default: the default model.

        Returns
        -------
        ModelInfo

        Raises
        ------
        ModelNotFoundError
            If no such model is registered, or its file is gone.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.model_info().context_length
        512
        """
        return model_info(self._registered(name).model_path)

    def model(self, name: str | None = None) -> EmbeddingModel:
        """Return a model itself, loaded, for what the engine has no method for.

        Parameters
        ----------
        name : str, optional
            Default: the default model.

        Returns
        -------
        EmbeddingModel

        Raises
        ------
        ModelNotFoundError
            If no such model is registered.
        ModelLoadError, ConfigurationError, ResourceLimitError
            If it has to be loaded first: as the constructor.

        Examples
        --------
        >>> import embellama
        >>> engine = embellama.EmbeddingEngine("all-MiniLM-L6-v2")
        >>> engine.model().count_tokens("Hello, world!")
        6
        """
        return self._loaded(name)

    def warmup_model(self, name: str | None = None, *, tune: bool = False) -> None:
        """See :meth:`EmbeddingModel.warmup`. `name` is the model's; default: the default model."""
        self._loaded(name).warmup(tune=tune)

    def _registered(self, name: str | None) -> ModelConfig:
        names = self.list_models()
        if name is None:
            name = next(iter(names), None)
        config = self._configs.get(name) if name is not None else None
        if config is not None:
            return config
        if name is None:
            raise ModelNotFoundError("no model is registered: load_model() one first")
        near = nearest(name, names) if isinstance(name, str) else None
        raise ModelNotFoundError(
            f"no model named {name!r} is registered: "
            + (f"did you mean {near!r}? " if near else "")
            + (f"there are {', '.join(map(repr, names))}" if names else "there is none")
        )

    def _loaded(self, name: str | None) -> EmbeddingModel:
        config = self._registered(name)
        model = self._models.get(config.name)
        if model is not None and model.is_loaded:
            return model
        with self._lock:
            # Another thread may have unregistered it, or given its name to another model.
            config = self._registered(config.name)
            model = self._models.get(config.name)
            if model is None:
                self._check_memory(config)
                model = self._models[config.name] = EmbeddingModel(config)
            # Who got it from model() may have unloaded it.
            model.load()
            return model

    def _check_memory(self, config: ModelConfig) -> None:
        limit = self._config.memory_limit_mb
        if limit is None:
            return
        wanted = _memory_mb(config, model_info(config.model_path))
        in_use = sum(_memory_mb(model.config, model.info) for model in self._models.values())
        if in_use + wanted > limit:
            raise ResourceLimitError(
                f"{config.name} needs about {wanted:.0f} MB and {in_use:.0f} MB are in use, "
                f"{in_use + wanted - limit:.0f} MB more than memory_limit_mb={limit:g}: "
                + ("drop_model() another one, " if self._models else "")
                + "use a smaller file type, or make the engine with a higher limit"
            )


class _Shared:
    """The engine that a process shares, if it has one."""

    def __init__(self) -> None:
        self.engine: EmbeddingEngine | None = None
        self._renew_after_fork()
        renew_after_fork(self)

    def _renew_after_fork(self) -> None:
        self.lock = threading.RLock()


_shared = _Shared()


def _memory_mb(config: ModelConfig, info: ModelInfo) -> float:
    """Weights, caches, a context for each core, and one for all cores together."""
    n_contexts = (config.n_threads or usable_cores()) + 1
    n_tokens = max(config.micro_batch_tokens or 0, MICRO_BATCH_TOKENS)
    contexts = n_contexts * context_bytes(info.header, info.hyper_parameters, n_tokens)
    cache = config.cache.max_memory_mb if config.cache else 0
    return cache + (info.file_size + contexts) / 1e6
