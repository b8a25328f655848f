# SPDX-License-Identifier: Apache-2.0
"""New locks for a forked child, in which the threads that hold the parent's locks do not exist."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Renewable(Protocol):
    def _renew_after_fork(self) -> None: ...


# The keys are ids, because an owner need not be hashable.
_live: weakref.WeakValueDictionary[int, _Renewable] = weakref.WeakValueDictionary()


def renew_after_fork(owner: _Renewable) -> None:
    """Have ``owner._renew_after_fork()`` called in every child process forked from now on.

    Parameters
    ----------
    owner : object
        An object that has locks, and replaces them in the child. It is not kept alive.
    """
    _live[id(owner)] = owner


def _renew_all() -> None:
    for reference in _live.valuerefs():
        owner = reference()
        if owner is not None:
            owner._renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
