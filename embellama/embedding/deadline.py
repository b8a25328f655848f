# SPDX-License-Identifier: Apache-2.0
"""When a call has to end: after its time, or once nobody waits for it."""

from __future__ import annotations

import math
import sys
import time

from embellama.errors import ConfigurationError, OperationTimeoutError, safe_repr

__all__ = ["Deadline"]


class Deadline:
    """A point in time that the parts of one call share.

    Parameters
    ----------
    seconds : float or None
        From now; None for never.

    Raises
    ------
    ConfigurationError
        If `seconds` is negative or NaN.
    TypeError
        If it is not a number.

    Examples
    --------
    >>> from embellama.embedding.deadline import Deadline
    >>> Deadline(None).end
    inf
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is None:
            seconds = math.inf
        elif isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"timeout must be a number of seconds, not {type(seconds).__name__}")
        elif not seconds >= 0:
            raise ConfigurationError(f"timeout must not be negative: {safe_repr(seconds)}")
        elif seconds > sys.float_info.max:
            seconds = math.inf  # an int that no float holds
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def check(self, model: str) -> None:
        """Raise OperationTimeoutError, which names `model`, if the call has to end."""
        if time.monotonic() >= self.end:
            raise OperationTimeoutError(
                f"{model}: not finished within {self.seconds:g} seconds: give it more time or "
                "fewer texts"
            )

    def cancel(self) -> None:
        """End the call now; from any thread."""
        self.end = -math.inf
