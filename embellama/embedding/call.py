# SPDX-License-Identifier: Apache-2.0
"""What holds for all parts of one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from embellama.embedding.deadline import Deadline
from embellama.errors import EmbellamaError

__all__ = ["Call"]


def _no_deadline() -> Deadline:
    return Deadline(None)


@dataclasses.dataclass(frozen=True)
class Call:
    """How long a call may take, who hears of its progress, and where errors go.

    Attributes
    ----------
    deadline : Deadline
        Default: none.
    progress : callable or None
        Called as ``progress(done, total)``, in texts.
    errors : dict of int to EmbellamaError, or None
        Receives the error of each text that has no vector, by the text's index. None, the default:
        such a text raises.
    truncate : bool, int or None
        As :class:`embellama.ModelConfig` takes it. None, the default: as configured.
    """

    deadline: Deadline = dataclasses.field(default_factory=_no_deadline)
    progress: Callable[[int, int], None] | None = None
    errors: dict[int, EmbellamaError] | None = None
    truncate: bool | int | None = None
