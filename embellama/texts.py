# SPDX-License-Identifier: Apache-2.0
"""Texts as they come from a caller, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embellama.deadline import Deadline
from embellama.errors import ConfigurationError, EmbellamaError, InvalidInputError, spelled

__all__ = ["check_text", "check_texts", "token_ids"]


def check_text(text: object, model: str, index: int | None = None) -> str:
    """Return `text` if a vector can be computed for it.

    Raises
    ------
    InvalidInputError
        If it is empty, white space only, or holds lone surrogates.
    TypeError
        If it is no str.
    """
    where = f"{model}: the text" if index is None else f"{model}: text {index}"
    if not isinstance(text, str):
        raise TypeError(f"{where} must be a str, not {type(text).__name__}")
    if not text or text.isspace():
        kind = "is white space only" if text else "is empty"
        raise InvalidInputError(f"{where} {kind}: leave it out", index=index)
    if not text.isascii():
        _check_surrogates(text, where, index)
    # Cython takes exact str objects only; numpy.str_ is a subclass.
    return text if type(text) is str else str.__str__(text)


def _check_surrogates(text: str, where: str, index: int | None) -> None:
    try:
        text.encode("utf-8")
        return
    except UnicodeEncodeError as error:
        at = error.start
    # Out here it has no context, whose traceback would make a cycle of it as its own would.
    raise InvalidInputError(
        f"{where} holds a lone surrogate (U+{ord(text[at]):04X} at character {at}), which has no "
        "UTF-8 form: decode its source properly, or use text.encode('utf-8', 'replace').decode()",
        index=index,
    )


def check_texts(
    texts: Iterable[str],
    model: str,
    *,
    prompt: str = "",
    first_index: int = 0,
    on_error: str = "raise",
    deadline: Deadline | None = None,
) -> tuple[list[str], dict[int, EmbellamaError]]:
    """Return the good texts, `prompt` before each, and why the others are not.

    Parameters
    ----------
    texts : iterable of str
    model : str
        For messages.
    prompt : str, optional
    first_index : int, optional
        Index of the first text, for messages and keys.
    on_error : {"raise", "nan"}, optional
        Raise at the first bad text (default), or go on.
    deadline : Deadline, optional
        When to give up, between two texts: they may come slowly.

    Returns
    -------
    good : list of str
    errors : dict of int to EmbellamaError

    Raises
    ------
    ConfigurationError
        If `on_error` is unknown.
    InvalidInputError
        At the first bad text, with ``on_error="raise"``.
    OperationTimeoutError
        If `deadline` passes.
    TypeError
        If `texts` is one str, or holds something else than str.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            f"{model}: texts must be an iterable of str, not one {type(texts).__name__}: "
            "pass [text], or use embed()"
        )
    if on_error not in ("raise", "nan"):
        raise ConfigurationError(f'on_error must be "raise" or "nan", not {spelled(on_error)}')
    good = []
    errors: dict[int, EmbellamaError] = {}
    for index, text in enumerate(texts, first_index):
        if deadline is not None:
            deadline.check(model)
        try:
            good.append(prompt + check_text(text, model, index))
        except InvalidInputError as error:
            if on_error == "raise":
                raise
            # Its traceback has this frame, and this frame has `errors`: a cycle with all texts.
            errors[index] = error.with_traceback(None)
    return good, errors


def token_ids(ids: ArrayLike, model: str, n_vocabulary: int) -> NDArray[np.int32]:
    """Return the token ids of one text, if the vocabulary has them all.

    Raises
    ------
    InvalidInputError
        If they are no integers of shape (T,), or the vocabulary lacks one.
    """
    try:
        array = np.asarray(ids)
    except ValueError as error:
        raise InvalidInputError(f"{model}: ids must be integers: {error}") from None
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InvalidInputError(
            f"{model}: ids must be integers of shape (T,), not {array.dtype} {array.shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= n_vocabulary):
        raise InvalidInputError(f"{model}: token ids go from 0 to {n_vocabulary - 1}")
    return np.ascontiguousarray(array, dtype=np.int32)
