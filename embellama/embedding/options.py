# SPDX-License-Identifier: Apache-2.0
"""What a caller may ask of one call."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from embellama.config import truncation
from embellama.errors import ConfigurationError, safe_repr
from embellama.progress import Progress
from embellama.quantization import DType, dtype_name

__all__ = ["EmbedOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EmbedOptions:
    """The keywords of the methods that embed.

    Parameters
    ----------
    details : bool, optional
        Also return the tokens of each text and whether it was cut: an EmbeddingResult, for one
        text too, and in each RerankResult. Default False.
    dtype : str or numpy type, optional
        ``"float32"`` (default), ``"float16"``, ``"int8"``, ``"uint8"``, ``"binary"`` or
        ``"ubinary"``; also ``numpy.float16`` and the like. See :func:`embellama.quantize`.
    truncate_dim : int, optional
        Keep the first dimensions only, for models trained for it (Matryoshka); they are normalised
        after the cut. Default: all.
    truncate : bool or int, optional
        What to do with a text that is too long, as :class:`embellama.ModelConfig` takes it, for
        this call. Default: as configured.
    ranges : array_like of float32, shape (2, D), optional
        For the int8 and uint8 types: what :func:`embellama.calibrate` returns.
    on_error : {"raise", "nan"}, optional
        ``"nan"`` gives a bad text, a missing one too, a row of NaN, and the result's ``errors`` the
        reason. For float types only. Default: ``"raise"``.
    out : numpy.ndarray, optional
        A writable array or memmap of the result's shape and type to write into.
    progress : bool or callable, optional
        True shows a bar on standard error; a callable is called as ``progress(done, total)``,
        counted in texts. Default False.
    timeout : float, optional
        Seconds the call may take. Default: no limit.

    Raises
    ------
    ConfigurationError
        If `dtype` or `on_error` is unknown, or `truncate` out of its range.
    TypeError
        If a value has the wrong type.
    """

    details: bool = False
    dtype: DType = "float32"
    truncate_dim: int | None = None
    truncate: bool | int | None = None
    ranges: ArrayLike | None = None
    on_error: Literal["raise", "nan"] = "raise"
    out: NDArray[Any] | None = None
    progress: Progress = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dtype_name(self.dtype))
        if not isinstance(self.progress, bool) and not callable(self.progress):
            raise TypeError(
                "progress must be True, False or a function of (done, total), not "
                f"{type(self.progress).__name__}"
            )
        if self.truncate is not None:
            object.__setattr__(self, "truncate", truncation(self.truncate))
        if self.on_error not in ("raise", "nan"):
            raise ConfigurationError(
                f'on_error must be "raise" or "nan", not {safe_repr(self.on_error)}'
            )
