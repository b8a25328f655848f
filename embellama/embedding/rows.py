# SPDX-License-Identifier: Apache-2.0
"""Where vectors go, and as what."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embellama.config import as_integer
from embellama.embedding.options import EmbedOptions
from embellama.errors import ConfigurationError, DimensionMismatchError, safe_repr
from embellama.quantization import (
    DTYPES,
    DTypeName,
    dtype_name,
    quantization_levels,
    quantized_width,
)

__all__ = ["Output", "Rows"]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows that the threads write vectors to.

    Attributes
    ----------
    array : numpy.ndarray
        A row per text, or per token with `per_token`. The values of a row lie side by side.
    n_dims : int
        Dimensions to keep; fewer than the model has are cut before they are normalised.
    row_of_text : numpy.ndarray of int64, shape (N,)
        The row of each text, with `per_token` that of its first token.
    dtype : str
        See :func:`embellama.quantize`.
    levels : numpy.ndarray of float32, shape (2, n_dims), or None
        See :func:`embellama.kernels.quantize_rows`.
    per_token : bool
        Write every token's vector instead of pooling.

    Raises
    ------
    ValueError
        If `array` has not the type or width that `dtype` and `n_dims` ask for, lacks a row, or
        can't be written to.
    """

    array: NDArray[Any]
    n_dims: int
    row_of_text: NDArray[np.int64]
    dtype: DTypeName = "float32"
    levels: NDArray[np.float32] | None = None
    per_token: bool = False

    def __post_init__(self) -> None:
        array, width = self.array, quantized_width(self.n_dims, self.dtype)
        if array.ndim != 2 or array.shape[1] != width or array.dtype != DTYPES[self.dtype][0]:
            raise ValueError(f"rows of {width} {self.dtype} are not {array.dtype} {array.shape}")
        if not (array.flags.writeable and _is_direct(array)):
            raise ValueError("the values of a row must be writable, aligned and side by side")
        if len(self.row_of_text) and not (
            self.row_of_text.min() >= 0 and self.row_of_text.max() < len(array)
        ):
            raise ValueError(f"a text has a row beyond the {len(array)} that there are")
        if self.levels is not None and self.levels.shape != (2, self.n_dims):
            raise ValueError(f"levels of {self.n_dims} dimensions are not {self.levels.shape}")

    def of_texts(self, positions: NDArray[np.intp]) -> Rows:
        """Return the rows of some of the texts."""
        return dataclasses.replace(self, row_of_text=self.row_of_text[positions])


def _is_direct(array: NDArray[Any]) -> bool:
    """Whether threads can write the rows of an array."""
    adjacent = array.shape[1] < 2 or array.strides[1] == array.itemsize
    return array.size == 0 or (array.flags.aligned and adjacent)


class Output:
    """What a caller asks the vectors of texts to be.

    Parameters
    ----------
    model : str
        For messages.
    n_dimensions : int
        Of the model's vectors.
    options : EmbedOptions
    lone : bool, optional
        Whether the caller gets the vector of one text, not rows (default False).

    Raises
    ------
    ConfigurationError
        If the type has no NaN for `on_error`, or `ranges` is missing or not wanted.
    DimensionMismatchError
        If `truncate_dim` or `ranges` does not fit.
    TypeError
        If `truncate_dim` is not an integer.
    """

    def __init__(
        self, model: str, n_dimensions: int, options: EmbedOptions, *, lone: bool = False
    ) -> None:
        self._model = model
        self._out = options.out
        self._dtype = dtype = dtype_name(options.dtype)
        self._n_dims = n_dimensions
        self._lone = lone
        if options.truncate_dim is not None:
            self._n_dims = as_integer("truncate_dim", options.truncate_dim)
            if not 1 <= self._n_dims <= n_dimensions:
                raise DimensionMismatchError(
                    f"{model}: truncate_dim must be from 1 to {n_dimensions}, "
                    f"not {safe_repr(self._n_dims)}"
                )
        self._width = quantized_width(self._n_dims, dtype)
        if options.on_error == "nan" and not dtype.startswith("float"):
            raise ConfigurationError(f'on_error="nan" needs a float dtype: {dtype} has no NaN')
        self._levels = quantization_levels(dtype, self._n_dims, options.ranges)

    def rows(self, n_texts: int, row_of_text: NDArray[np.int64]) -> Rows:
        """Return the rows to write, in the caller's array where the threads can write that.

        Parameters
        ----------
        n_texts : int
            Of the call.
        row_of_text : numpy.ndarray of int64
            The row of each text that may have a vector.

        Raises
        ------
        TypeError
            If `out` is not an array.
        DimensionMismatchError
            If it does not fit.
        """
        array = self._array(n_texts)
        if not _is_direct(array):
            array = np.empty_like(array, order="C")
        return Rows(array, self._n_dims, row_of_text, self._dtype, self._levels)

    def _array(self, n_texts: int) -> NDArray[Any]:
        """Return the caller's array, or a new one, with a row per text."""
        rows, kind = (n_texts, self._width), DTYPES[self._dtype][0]
        if self._out is None:
            return np.empty(rows, dtype=kind)
        if not isinstance(self._out, np.ndarray):
            raise TypeError(f"out must be a numpy array, not {type(self._out).__name__}")
        shape = (self._width,) if self._lone else rows
        # As a plain array: a subclass may report another shape or type than it has.
        array: NDArray[Any] = np.asarray(self._out)
        if array.shape != shape or array.dtype != kind or not array.flags.writeable:
            raise DimensionMismatchError(
                f"{self._model}: out must be a writable array of {np.dtype(kind)} {shape}, not "
                f"{'a read-only ' if not array.flags.writeable else ''}"
                f"{array.dtype} {array.shape}"
            )
        return array[np.newaxis] if self._lone else array

    def finished(self, rows: Rows) -> NDArray[Any]:
        """Return what the caller gets once the rows are written: its own array if it gave one."""
        if self._out is None:
            return rows.array[0] if self._lone else rows.array
        array = self._array(len(rows.array))
        if not _is_direct(array):
            array[...] = rows.array
        return self._out
