# SPDX-License-Identifier: Apache-2.0
"""Callables that take the fields of a dataclass as keywords.

The dataclass is the only place where a keyword has its name, default, type and description.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from inspect import Parameter, Signature
from typing import Any, TypeVar

__all__ = ["configuration", "keywords_of", "nearest", "with_signature"]

_Target = TypeVar("_Target", bound=Callable[..., Any])
_Kind = TypeVar("_Kind")
# The variadic parameter of a function, as its docstring lists it.
_ENTRY = re.compile(r"^( *)\*\*\w+\n(?:\1 +\S.*\n)*", re.MULTILINE)


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that another one is a slip of, if there is one.

    Examples
    --------
    >>> from embellama.keywords import nearest
    >>> nearest("trunkate", ["truncate", "timeout"])
    'truncate'
    >>> nearest("device", ["truncate", "timeout"])
    """
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), None)


def keywords_of(
    *kinds: type, types: type | None = None, without: Collection[str] = ()
) -> Callable[[_Target], _Target]:
    """Replace the ``**keywords`` of a function, or of a class's constructor, by named ones.

    They show up in the signature and, in place of the entry ``**keywords``, in the docstring. Wrong
    arguments raise TypeError, which names the callable as its caller knows it.

    Parameters
    ----------
    *kinds : type
        Dataclasses. Their keyword-only fields are the keywords.
    types : type, optional
        Has the types of the keywords as its annotations. Default: those of the fields.
    without : collection of str, optional
        Fields that are no keywords.
    """

    def decorate(target: Any) -> Any:
        keywords = [each for kind in kinds for each in _keywords(kind, types or kind, without)]
        described: Any
        if isinstance(target, type):
            described = target
            described.__init__ = _with_keywords(described.__init__, keywords)
        else:
            described = _with_keywords(target, keywords)
        described.__doc__ = _described(target.__doc__ or "", kinds, keywords)
        return described

    return decorate


def configuration(types: type | None = None) -> Callable[[type[_Kind]], type[_Kind]]:
    """Have a dataclass, and its method ``replace(**changes)``, show and check their keywords.

    Parameters
    ----------
    types : type, optional
        Has the types that are accepted as its annotations. Default: those of the attributes.
    """

    def decorate(kind: Any) -> Any:
        own = inspect.signature(kind.__init__)
        parameters = [
            each if name == "self" else each.replace(annotation=_annotation(types or kind, name))
            for name, each in own.parameters.items()
        ]
        kind.__init__ = with_signature(kind.__init__, own.replace(parameters=parameters))
        if hasattr(kind, "replace"):
            changes = [
                each.replace(kind=Parameter.KEYWORD_ONLY, default=_UNCHANGED)
                for each in parameters[1:]
            ]
            documentation = _described(kind.replace.__doc__, (kind,), changes)
            kind.replace = _with_keywords(kind.replace, changes)
            kind.replace.__doc__ = documentation
        return kind

    return decorate


class _Unchanged:
    """The default of a change that is not asked for."""

    def __repr__(self) -> str:
        return "<unchanged>"


_UNCHANGED = _Unchanged()


def _keywords(kind: type, types: type, without: Collection[str]) -> list[Parameter]:
    """Return the keyword-only fields of a dataclass as parameters."""
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_annotation(types, field.name),
        )
        for field in dataclasses.fields(kind)
        if field.kw_only and field.name not in without
    ]


def _annotation(types: type, name: str) -> Any:
    found = types.__annotations__[name]
    # A TypedDict makes a ForwardRef of a string.
    return getattr(found, "__forward_arg__", found)


def _described(text: str, kinds: Collection[type], keywords: Collection[Parameter]) -> str:
    """Replace the entry of the variadic keywords in a docstring by what the dataclasses say."""
    names = {keyword.name for keyword in keywords}
    entries = "".join(entry for kind in kinds for entry in _entries(kind, names))
    return _ENTRY.sub(
        lambda match: "".join(
            match[1] + line if line.strip() else line for line in entries.splitlines(keepends=True)
        ),
        text,
    )


def _entries(kind: type, names: Collection[str]) -> Iterator[str]:
    """Yield what the docstring of a dataclass says of each of the fields named."""
    _, _, text = inspect.cleandoc(kind.__doc__ or "").partition("Parameters\n----------\n")
    section = re.split(r"^\w[\w ]*\n-{3,}\n", text, flags=re.MULTILINE)[0]
    for entry in re.findall(r"^\S.*\n(?: +\S.*\n)*", section.rstrip() + "\n", re.MULTILINE):
        if set(entry.split(" : ")[0].split(", ")) <= set(names):
            yield entry


def _with_keywords(function: Callable[..., Any], keywords: list[Parameter]) -> Any:
    own = inspect.signature(function)
    kept = [each for each in own.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    return with_signature(function, own.replace(parameters=[*kept, *keywords]))


def with_signature(function: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    """Have a function show a signature and refuse what does not fit it."""
    kinds = {name: each.kind for name, each in signature.parameters.items()}
    known = frozenset(name for name, kind in kinds.items() if kind is Parameter.KEYWORD_ONLY)
    positional = [each for name, each in signature.parameters.items() if name not in known]
    n_required = sum(each.default is Parameter.empty for each in positional)

    def check(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        # Nearly every call ends here: binding takes some 10 microseconds.
        if n_required <= len(arguments) <= len(positional) and known.issuperset(keywords):
            return
        try:
            signature.bind(*arguments, **keywords)
        except TypeError as error:
            unknown = [key for key in keywords if key not in signature.parameters]
            near = nearest(unknown[0], known) if unknown else None
            hint = f"; did you mean {near!r}?" if near else ""
            raise TypeError(f"{_called(function, arguments)}() {error}{hint}") from None

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call(*arguments: Any, **keywords: Any) -> Any:
            check(arguments, keywords)
            return await function(*arguments, **keywords)

    else:

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            check(arguments, keywords)
            return function(*arguments, **keywords)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Return what a caller calls a method: it may stand in a base class that is not public."""
    first = arguments[0] if arguments else None
    owner = first.__name__ if isinstance(first, type) else type(first).__name__
    return owner if function.__name__ == "__init__" else f"{owner}.{function.__name__}"
