# SPDX-License-Identifier: Apache-2.0
"""Arguments that do not fit are told in names that a caller knows."""

from __future__ import annotations

import asyncio
import enum
import inspect
import re
from typing import Any

import pytest

import embellama


def public_callables() -> dict[str, Any]:
    """Everything public that takes arguments; methods with an object that was not made whole."""
    found: dict[str, Any] = {}
    for name in embellama.__all__:
        value = getattr(embellama, name)
        if isinstance(value, enum.EnumMeta):  # Python's own way to look a member up
            continue
        found[name] = value
        if not inspect.isclass(value):
            continue
        for member in inspect.classify_class_attrs(value):
            ours = member.defining_class.__module__.startswith("embellama.")
            if ours and not member.name.startswith("_") and "method" in member.kind:
                holder = value if member.kind == "class method" else object.__new__(value)
                found[f"{name}.{member.name}"] = getattr(holder, member.name)
    return found


CALLABLES = public_callables()
NAMES = {part for name in CALLABLES for part in name.split(".")}
NAMES |= {*embellama.errors.__all__, "__init__", "__new__"}


def refusals(function: Any) -> list[str]:
    """Return what a callable says to too many arguments and to a keyword that it has not."""
    messages = []
    for arguments, keywords in (([object()] * 40, {}), ([], {"no_such_keyword": 1}), ([], {})):
        try:
            result = function(*arguments, **keywords)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        except TypeError as error:
            messages.append(str(error))
        except Exception:  # it takes no argument, and this object can do nothing
            assert not arguments
            assert not keywords
    return messages


def test_there_are_callables_to_call() -> None:
    assert {"EmbeddingModel.aembed", "EmbeddingEngine.get_or_init", "quantize"} <= set(CALLABLES)
    assert len(CALLABLES) > 80


@pytest.mark.parametrize("name", CALLABLES)
def test_no_private_name(name: str) -> None:
    for message in refusals(CALLABLES[name]):
        for called in re.findall(r"([\w.]+)\(\)", message):
            assert set(called.split(".")) <= NAMES, message
        assert not re.search(r"\b_[a-zA-Z]", message), message
