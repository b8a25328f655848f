# SPDX-License-Identifier: Apache-2.0
# Written by tests/support/stubs.py.
from collections.abc import Iterable, Iterator
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.embedding.cache import CacheStats
from embellama.progress import Progress
from embellama.quantization import DType, Float16, Float32, Int8, UInt8
from embellama.results import EmbeddingResult, RerankResult

__all__ = ["EngineMethods"]

class EngineMethods:
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    def embed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    def embed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    def embed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    def embed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    def embed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    async def aembed(
        self,
        text: str | Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    async def aembed_query(
        self,
        text: str,
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    async def aembed_batch(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    async def aembed_queries(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    async def aembed_documents(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        out: NDArray[Any] | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, NDArray[np.float16]]]: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, NDArray[np.float32]]]: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, NDArray[np.int8]]]: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, NDArray[Any]]]: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, EmbeddingResult]]: ...
    @overload
    def embed_iter(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        window: int = 2048,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        ranges: ArrayLike | None = None,
        on_error: Literal["raise", "nan"] = "raise",
        progress: Progress = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, NDArray[Any] | EmbeddingResult]]: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float16,
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Float32 = "float32",
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: Int8,
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: UInt8,
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.uint8]: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: Literal[False] = False,
        dtype: DType,
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: Literal[True],
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> EmbeddingResult: ...
    @overload
    def embed_tokens(
        self,
        ids: ArrayLike,
        model: str | None = None,
        *,
        details: bool,
        dtype: DType = "float32",
        truncate_dim: int | None = None,
        ranges: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any] | EmbeddingResult: ...
    @overload
    def embed_multi(
        self,
        text: str,
        model: str | None = None,
        *,
        special_tokens: bool = True,
        details: Literal[False] = False,
        truncate: bool | int | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed_multi(
        self,
        text: str,
        model: str | None = None,
        *,
        special_tokens: bool = True,
        details: Literal[True],
        truncate: bool | int | None = None,
        timeout: float | None = None,
    ) -> EmbeddingResult[list[NDArray[np.float32]]]: ...
    @overload
    def embed_multi(
        self,
        text: str,
        model: str | None = None,
        *,
        special_tokens: bool = True,
        details: bool,
        truncate: bool | int | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32] | EmbeddingResult[list[NDArray[np.float32]]]: ...
    @overload
    def embed_batch_multi(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        special_tokens: bool = True,
        details: Literal[False] = False,
        truncate: bool | int | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> list[NDArray[np.float32]]: ...
    @overload
    def embed_batch_multi(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        special_tokens: bool = True,
        details: Literal[True],
        truncate: bool | int | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> EmbeddingResult[list[NDArray[np.float32]]]: ...
    @overload
    def embed_batch_multi(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        special_tokens: bool = True,
        details: bool,
        truncate: bool | int | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> list[NDArray[np.float32]] | EmbeddingResult[list[NDArray[np.float32]]]: ...
    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        model: str | None = None,
        *,
        top_n: int | None = None,
        details: bool = False,
        truncate: bool | int | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> list[RerankResult]: ...
    def tokenize(self, text: str, model: str | None = None) -> NDArray[np.int32]: ...
    def count_tokens(self, text: str, model: str | None = None) -> int: ...
    def similarity(self, a: ArrayLike, b: ArrayLike, model: str | None = None) -> NDArray[Any]: ...
    def pairwise_similarity(
        self, a: ArrayLike, b: ArrayLike, model: str | None = None
    ) -> NDArray[Any]: ...
    def cache_stats(self, model: str | None = None) -> dict[str, CacheStats]: ...
    def clear_cache(self, model: str | None = None) -> None: ...
    def warm_cache(
        self,
        texts: Iterable[str],
        model: str | None = None,
        *,
        truncate_dim: int | None = None,
        truncate: bool | int | None = None,
        progress: Progress = False,
        timeout: float | None = None,
    ) -> None: ...
    def verify(self, model: str | None = None) -> None: ...
