# SPDX-License-Identifier: Apache-2.0
"""Texts as they come from a caller, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView, Mapping, Set
from decimal import Decimal

import numpy as np

from embellama.embedding.deadline import Deadline
from embellama.errors import (
    EmbellamaError,
    InvalidInputError,
    TextTypeError,
    lone_surrogate,
)

__all__ = ["check_str", "check_text", "check_texts", "each_text", "is_one_text"]


def is_one_text(texts: object) -> bool:
    """Whether this stands for one text, if a wrong one, and not for several.

    Bytes do, and so does a scalar of another library that holds a str, or one that is missing.
    """
    if isinstance(texts, (str, bytes, bytearray)) or not hasattr(type(texts), "__iter__"):
        return True
    return hasattr(texts, "as_py") and not isinstance(texts.as_py(), list)  # a scalar of pyarrow


def each_text(texts: Iterable[str], model: str) -> Iterator[object]:
    """Iterate over texts, which a list, a column of a table or any other iterable holds.

    Each of them is still to be checked by :func:`check_text`.

    Raises
    ------
    TypeError
        If `texts` is one str, a table, a mapping, a set, or an array that is not one-dimensional:
        Python iterates over all of these, but not over their texts in order.
    """
    kind = type(texts).__name__
    if isinstance(texts, str):
        problem = "one str: pass [text]"
    elif isinstance(texts, (bytes, bytearray)):
        problem = f"one {kind}: pass [text.decode()]"
    elif isinstance(texts, Mapping):
        problem = f"a {kind}, whose keys would be embedded: pass one column, {_column_of(texts)}"
    elif _is_table(texts):
        problem = f"a {kind}: pass one column, {_column_of(texts)}"
    elif isinstance(texts, Set) and not isinstance(texts, KeysView):
        problem = f"a {kind}, which has no order: pass a list, such as sorted(texts)"
    elif (n_dims := getattr(texts, "ndim", 1)) != 1:
        part = "one column of it, such as array[:, 0]" if n_dims == 2 else "array.ravel()"
        problem = f"an array of {n_dims} dimensions: pass {part}"
    else:
        return iter(texts)
    raise TypeError(f"{model}: texts must be an iterable of str, not {problem}")


def _is_table(texts: object) -> bool:
    """Whether this is a data frame of any library, a table, or an array of records.

    This looks at the class, not at the object: some libraries warn when the columns of a query are
    looked at before it has run.
    """
    if isinstance(texts, np.ndarray):
        return texts.dtype.names is not None
    return any(hasattr(type(texts), name) for name in ("columns", "column_names"))


def _column_of(texts: object) -> str:
    """How to write the column of texts, as an example."""
    names: list[object] = []
    if isinstance(texts, Mapping):
        names = list(texts)
    elif isinstance(texts, np.ndarray):
        names = list(texts.dtype.names or ())
    elif not hasattr(type(texts), "collect"):
        for name in ("column_names", "columns"):
            names = names or list(getattr(texts, name, ()))
    column = "text" if "text" in names or not names else names[0]
    name = "data" if isinstance(texts, Mapping) else "df"
    if type(texts).__name__ == "LazyFrame":  # of polars, a query that has not run
        name = "df.collect()"
    return f"such as {name}[{column!r}]".replace("'", '"')


def check_str(text: object, model: str, index: int | None = None) -> str:
    """Return `text` as an exact str, also where a scalar of another library holds it.

    Raises
    ------
    TextTypeError
        If it is not a str, or missing.
    """
    # Cython takes exact str objects only; numpy.str_ is a subclass.
    if type(text) is str:
        return text
    if hasattr(text, "as_py"):  # a scalar of pyarrow
        text = text.as_py()
    if isinstance(text, str):
        return str.__str__(text)
    what = f"not {type(text).__name__}"
    if _is_missing(text):
        # str() alone: a repr names the type too, such as np.float64(nan).
        what = f"and it is missing ({text!s}): leave it out"
    elif isinstance(text, bytes):
        what += ": decode it, for example with text.decode('utf-8')"
    raise TextTypeError(f"{_where(model, index)} must be a str, {what}", index=index)


def _is_missing(value: object) -> bool:
    # pandas has NAType and NaTType; numpy's StringDType may hold the former too.
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    # NaN is what does not equal itself.
    return isinstance(value, (float, np.generic, Decimal)) and bool(value != value)


def _where(model: str, index: int | None) -> str:
    return f"{model}: the text" if index is None else f"{model}: text {index}"


def check_text(text: object, model: str, index: int | None = None) -> str:
    """Return `text` if a vector can be computed for it.

    Raises
    ------
    InvalidInputError
        If it is empty, white space only, or holds lone surrogates.
    TextTypeError
        If it is not a str, or missing.
    """
    checked = check_str(text, model, index)
    if not checked or checked.isspace():
        kind = "is white space only" if checked else "is empty"
        raise InvalidInputError(f"{_where(model, index)} {kind}: leave it out", index=index)
    if not checked.isascii():
        _check_surrogates(checked, _where(model, index), index)
    return checked


def _check_surrogates(text: str, where: str, index: int | None) -> None:
    try:
        text.encode("utf-8")
        return
    except UnicodeEncodeError as error:
        at = error.start
    # Raised outside `except`, so that __context__ stays empty: the traceback of a chained exception
    # would form a reference cycle.
    raise InvalidInputError(lone_surrogate(where, text, at), index=index)


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
    InvalidInputError
        At the first bad text, with ``on_error="raise"``.
    OperationTimeoutError
        If `deadline` passes.
    TypeError
        If `texts` is not an iterable of texts, as :func:`each_text` says; TextTypeError if one of
        them is not a str.
    """
    source = each_text(texts, model)
    good = []
    errors: dict[int, EmbellamaError] = {}
    for index, text in enumerate(source, first_index):
        if deadline is not None:
            deadline.check(model)
        try:
            good.append(prompt + check_text(text, model, index))
        except InvalidInputError as error:
            if on_error == "raise":
                raise
            # Without its traceback: that holds this frame, which holds `errors`, a cycle that keeps
            # all texts alive until the next garbage collection.
            errors[index] = error.with_traceback(None)
    return good, errors
