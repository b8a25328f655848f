# SPDX-License-Identifier: Apache-2.0
"""One loaded model: texts in, vectors out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from embellama import batch, catalog
from embellama.config import ModelConfig, NormalizationMode, PNorm, PoolingStrategy
from embellama.core import Model
from embellama.errors import (
    ConfigurationError,
    EmbeddingGenerationError,
    InvalidInputError,
    ModelLoadError,
)
from embellama.gguf_check import check_model
from embellama.gguf_header import GGUFHeader, read_header
from embellama.workers import Failure, Workers

__all__ = ["EmbeddingModel", "EmbeddingResult"]

Progress = bool | Callable[[int, int], None]

# llama_pooling_type, llama.h
_FILE_POOLING = {1: PoolingStrategy.MEAN, 2: PoolingStrategy.CLS, 3: PoolingStrategy.LAST}

# Measured best for MiniLM on two cores: attention in llama.cpp runs over the whole micro-batch,
# so its cost grows with the square of this.
_MICRO_BATCH_TOKENS = 256
_MAX_TEXTS = 256
# Texts embed_iter takes from its source at a time: enough for well-packed micro-batches.
_WINDOW_TEXTS = 2048


@dataclasses.dataclass(frozen=True)
class EmbeddingResult:
    """Vectors with what happened to each text.

    Attributes
    ----------
    embeddings : numpy.ndarray, shape (N, D)
        One row per text, in input order.
    token_counts : numpy.ndarray of int32, shape (N,)
        Tokens computed for each text, special ones included.
    truncated : numpy.ndarray of bool, shape (N,)
        Which texts were cut.
    """

    embeddings: NDArray[Any]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class _Tokens:
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    truncated: NDArray[np.bool_]

    @property
    def counts(self) -> NDArray[np.int32]:
        return np.diff(self.offsets).astype(np.int32)


class EmbeddingModel:
    """A loaded model.

    Any method may be called from any thread; callers share the model's workers.

    Parameters
    ----------
    config : ModelConfig, str or os.PathLike
        Settings, or just what :class:`ModelConfig` takes as `model_path`.

    Raises
    ------
    ModelNotFoundError
        If there is no such file or name.
    ModelLoadError
        If the file is no usable model.
    ConfigurationError
        If a setting does not fit the model or the build.

    Examples
    --------
    >>> import embellama
    >>> with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
    ...     vector = model.embed("Hello, world!")
    >>> vector.shape, vector.dtype
    ((384,), dtype('float32'))
    """

    def __init__(self, config: ModelConfig | str | os.PathLike[str]) -> None:
        self._config = config if isinstance(config, ModelConfig) else ModelConfig(config)
        self._lock = threading.Lock()
        self._workers: Workers | None = None
        self._path = catalog.resolve(os.fspath(self._config.model_path))
        self._header = read_header(self._path)
        check_model(self._header)
        self._pooling = self._config.pooling or self._default_pooling()
        self._check_context()
        self.load()

    def _default_pooling(self) -> PoolingStrategy:
        kind = self._hyper_parameter("pooling_type")
        if kind in _FILE_POOLING:
            return _FILE_POOLING[kind]
        # llama-hparams.h: attention is causal unless the file says otherwise.
        causal = self._hyper_parameter("attention.causal", True)
        return PoolingStrategy.LAST if causal else PoolingStrategy.MEAN

    def _hyper_parameter(self, name: str, default: Any = None) -> Any:
        return self._header.metadata.get(f"{self._header.architecture}.{name}", default)

    def _check_context(self) -> None:
        longest = self._hyper_parameter("context_length")
        asked = self._config.n_ctx
        if asked is not None and asked > longest:
            raise ConfigurationError(
                f"{self.name}: n_ctx={asked}, but the model was trained for texts of at most "
                f"{longest} tokens: use n_ctx={longest} or less"
            )

    def load(self) -> None:
        """Load the weights, unless they are loaded.

        Raises
        ------
        ModelNotFoundError
            If the file is gone.
        ModelLoadError
            If the file is no usable model.
        """
        with self._lock:
            if self._workers is not None:
                return
            config = self._config
            model = Model(
                str(self._path),
                use_mmap=config.use_mmap,
                use_mlock=config.use_mlock,
                n_gpu_layers=config.n_gpu_layers,
            )
            self._vocabulary = model.vocabulary
            self._embedding_dimensions = model.n_dimensions
            self._workers = Workers(
                model,
                n_threads=config.n_threads or usable_cores(),
                micro_batch_tokens=self._micro_batch_tokens,
                n_sequences=config.n_seq_max or _MAX_TEXTS,
            )

    def unload(self) -> None:
        """Free the weights and stop the threads; :meth:`load` brings them back.

        Waits for calls under way. Calling it twice is fine.
        """
        with self._lock:
            workers, self._workers = self._workers, None
            if workers is not None:
                workers.close()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._workers is not None

    def __enter__(self) -> EmbeddingModel:
        self.load()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unload()

    def __repr__(self) -> str:
        state = "" if self.is_loaded else ", unloaded"
        return f"<EmbeddingModel {self.name!r}: {self._header.architecture}{state}>"

    @property
    def config(self) -> ModelConfig:
        """The settings the model was made with."""
        return self._config

    @property
    def name(self) -> str:
        """What messages call the model: ``model_name``, or the file's name without suffix."""
        return self._config.model_name or Path(self._config.model_path).stem

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return self._path

    @property
    def header(self) -> GGUFHeader:
        """The file's key-values and tensor table."""
        return self._header

    @property
    def pooling(self) -> PoolingStrategy:
        """How token vectors become a text's vector."""
        return self._pooling

    @property
    def embedding_dimensions(self) -> int:
        """Length D of a vector."""
        return self._embedding_dimensions

    @property
    def max_sequence_length(self) -> int:
        """The longest text in tokens, special ones included."""
        return self._config.n_ctx or int(self._hyper_parameter("context_length"))

    @property
    def effective_max_tokens(self) -> int:
        """Tokens of a text's own that fit: the longest text less the special tokens around it."""
        return self.max_sequence_length - self._vocabulary.n_prefix - self._vocabulary.n_suffix

    @property
    def _micro_batch_tokens(self) -> int:
        return self._config.micro_batch_tokens or _MICRO_BATCH_TOKENS

    def tokenize(self, text: str) -> NDArray[np.int32]:
        """Turn a text into the token ids that :meth:`embed` computes with.

        Parameters
        ----------
        text : str
            Any text, also an empty one.

        Returns
        -------
        numpy.ndarray of int32, shape (T,)
            Special tokens included; not cut.

        Raises
        ------
        InvalidInputError
            If the text holds lone surrogates.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.tokenize("Hello, world!")
        array([ 101, 7592, 1010, 2088,  999,  102], dtype=int32)
        """
        return self._tokenize((_checked_text(text, None),), limit=0).ids

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, special ones included.

        Parameters
        ----------
        text : str

        Returns
        -------
        int

        Raises
        ------
        InvalidInputError
            If the text holds lone surrogates.
        """
        return len(self.tokenize(text))

    def embed(self, text: str) -> NDArray[np.float32]:
        """Turn one text into a vector.

        Parameters
        ----------
        text : str
            Not empty, and not white space only.

        Returns
        -------
        numpy.ndarray of float32, shape (D,)

        Raises
        ------
        InvalidInputError
            If the text is empty, too long, or holds lone surrogates.
        EmbeddingGenerationError
            If the computation fails.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> model.embed("Hello, world!").shape
        (384,)
        """
        vector: NDArray[np.float32] = self._embed((_checked_text(text, None),)).embeddings[0]
        return vector

    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        progress: Progress = ...,
        timeout: float | None = ...,
        details: Literal[False] = ...,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        progress: Progress = ...,
        timeout: float | None = ...,
        details: Literal[True],
    ) -> EmbeddingResult: ...
    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        progress: Progress = False,
        timeout: float | None = None,
        details: bool = False,
    ) -> NDArray[np.float32] | EmbeddingResult:
        """Turn texts into vectors, all cores at work.

        Every text is checked before anything is computed.

        Parameters
        ----------
        texts : iterable of str
            None of them empty.
        progress : bool or callable, optional
            True shows a bar on standard error; a callable is called as ``progress(done, total)``,
            counted in texts. Default False.
        timeout : float, optional
            Seconds the call may take. Default: any.
        details : bool, optional
            Return an EmbeddingResult instead of the bare array (default False).

        Returns
        -------
        numpy.ndarray of float32, shape (N, D), or EmbeddingResult
            Rows in the order of `texts`.

        Raises
        ------
        InvalidInputError
            If a text is empty, too long, or holds lone surrogates; its ``index`` says which.
        EmbeddingGenerationError
            If the computation fails.
        OperationTimeoutError
            If `timeout` passes.
        TypeError
            If `texts` is a str, or holds something else than str.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> vectors = model.embed_batch(["a cat", "a dog", "a quarterly report"])
        >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
        True
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError(
                f"texts must be an iterable of str, not one {type(texts).__name__}: "
                "use embed() or pass [text]"
            )
        checked = tuple(_checked_text(text, index) for index, text in enumerate(texts))
        with _progress_callback(progress, len(checked)) as callback:
            result = self._embed(checked, progress=callback, timeout=timeout)
        return result if details else result.embeddings

    def embed_iter(self, texts: Iterable[str]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Turn any number of texts into vectors, a window at a time, in bounded memory.

        Parameters
        ----------
        texts : iterable of str
            Read as the vectors are consumed; may be endless.

        Yields
        ------
        start : int
            Index of the window's first text.
        rows : numpy.ndarray of float32, shape (n, D)
            Vectors of the texts ``start`` to ``start + n - 1``.

        Raises
        ------
        InvalidInputError
            As :meth:`embed_batch`, when the window that holds the text is reached.

        Examples
        --------
        >>> import embellama
        >>> model = embellama.EmbeddingModel("all-MiniLM-L6-v2")
        >>> [(start, rows.shape) for start, rows in model.embed_iter(["a cat", "a dog"])]
        [(0, (2, 384))]
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError(f"texts must be an iterable of str, not one {type(texts).__name__}")
        source = enumerate(texts)
        start = 0
        while window := tuple(_checked_text(t, i) for i, t in islice(source, _WINDOW_TEXTS)):
            yield start, self._embed(window, first_index=start).embeddings
            start += len(window)

    def _loaded(self) -> Workers:
        workers = self._workers
        if workers is None:
            raise ModelLoadError(f"{self.name}: the model is unloaded; load() it again")
        return workers

    def _tokenize(self, texts: tuple[str, ...], *, limit: int) -> _Tokens:
        final_id = -1
        if self._pooling is PoolingStrategy.LAST:
            # Causal embedders are trained to gather the text's meaning in its last token, EOS.
            final_id = self._vocabulary.eos
        return _Tokens(
            *self._loaded().tokenize(
                texts,
                parse_special=self._config.parse_special,
                limit=limit,
                final_id=final_id,
            )
        )

    def _embed(
        self,
        texts: tuple[str, ...],
        *,
        progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
        first_index: int = 0,
    ) -> EmbeddingResult:
        workers = self._loaded()
        truncate = self._config.truncate
        longest = self.max_sequence_length
        limit = 0
        if truncate:
            limit = longest if truncate is True else min(truncate, longest)
        tokens = self._tokenize(texts, limit=limit)
        counts = tokens.counts
        if not limit and len(counts) and counts.max() > longest:
            index = int(np.argmax(counts > longest))
            raise InvalidInputError(
                f"{self.name}: text {index + first_index} has {counts[index]} tokens, "
                f"{longest} is the limit: split it, or use truncate=True",
                index=index + first_index,
            )
        order, bounds = batch.plan(
            counts,
            max_tokens=self._micro_batch_tokens,
            max_texts=self._config.n_seq_max or _MAX_TEXTS,
            n_workers=workers.n_threads,
        )
        out = np.empty((len(texts), self._embedding_dimensions), dtype=np.float32)
        norm, p = _norm(self._config.normalization)
        failures, reason = workers.embed(
            tokens.ids,
            tokens.offsets,
            order,
            bounds,
            out,
            pooling=self._pooling.value,
            norm=norm,
            p=p,
            timeout=timeout,
            progress=progress,
        )
        if failures.any():
            index = int(np.argmax(failures != Failure.DONE))
            if failures[index] == Failure.NOT_FINITE:
                raise EmbeddingGenerationError(
                    f"{self.name}: text {index + first_index} gave a NaN or an infinity; "
                    "the weights may be damaged, or overflow in this type: try an F32 file"
                )
            raise reason or EmbeddingGenerationError(f"{self.name}: text {index} failed")
        return EmbeddingResult(out, counts, tokens.truncated)


def usable_cores() -> int:
    """Return how many processor cores this process may use: its affinity and cgroup quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, round(int(quota) / int(period))))


@contextlib.contextmanager
def _progress_callback(
    progress: Progress, total: int
) -> Iterator[Callable[[int, int], None] | None]:
    if progress is not True:
        yield progress or None
        return
    # Imported here: most programs show no bar, and tqdm takes a while.
    from tqdm.auto import tqdm

    with tqdm(total=total, unit=" texts") as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        yield show


def _norm(normalization: NormalizationMode | PNorm) -> tuple[str, float]:
    if isinstance(normalization, PNorm):
        return "p", normalization.p
    return normalization.value, 2.0


def _checked_text(text: object, index: int | None) -> str:
    where = "the text" if index is None else f"text {index}"
    if not isinstance(text, str):
        raise TypeError(f"{where} must be a str, not {type(text).__name__}")
    if not text or text.isspace():
        kind = "is white space only" if text else "is empty"
        raise InvalidInputError(f"{where} {kind}: leave it out", index=index)
    # Cython takes exact str objects only; numpy.str_ is a subclass.
    return text if type(text) is str else str.__str__(text)
