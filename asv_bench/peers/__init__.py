# SPDX-License-Identifier: Apache-2.0
"""The libraries that are compared: a module for each, with all that is particular to it.

compare_peers.py also imports a module to read what to install, so a module imports its library only
in the functions that use it. A module has:

- ``REQUIREMENTS``: what pip installs, the library itself first;
- ``VARIANTS``: the names of the precisions or file types it is measured in;
- ``ISA_VARIABLES``: for each level of `ISA_LEVELS` the environment variables that limit the library
  to it; the library can't be limited to a level that is missing;
- ``Peer``: a subclass of `peers.Peer`.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib.metadata
import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

ISA_LEVELS = ("avx2", "avx512")
# Batch sizes to try, for libraries whose padded batches have a size that the caller sets.
PADDED_BATCH_SIZES = (1, 4, 16, 64)


class UnavailableError(Exception):
    """A peer, or this variant of it, can't run on this machine; the message says why."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that are the same for every peer."""

    checkpoint: Path
    """The model in Hugging Face's format."""
    gguf: dict[str, Path]
    """The same weights by file type."""
    exported: Path
    """The folder for files that are made from the checkpoint once."""
    n_threads: int
    isa: str | None
    """One of `ISA_LEVELS`; None for all instructions of the processor."""


class Peer(abc.ABC):
    """A loaded model."""

    batch_sizes: ClassVar[tuple[int, ...]] = ()
    """Batch sizes to try; empty if the library plans its batches itself."""

    @classmethod  # noqa: B027 - few need it
    def prepare(cls, settings: Settings, variant: str) -> None:
        """Make the files that `variant` needs, in a process of its own.

        Raises
        ------
        UnavailableError
            If this machine can't run it.
        """

    @abc.abstractmethod
    def __init__(self, settings: Settings, variant: str) -> None: ...

    @abc.abstractmethod
    def embed(self, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        """Return a row of unit length per text, in the order of the texts."""

    def time(self, texts: list[str], batch_size: int) -> float:
        """Seconds to embed all texts."""
        start = time.perf_counter()
        self.embed(texts, batch_size)
        return time.perf_counter() - start

    def time_one(self, texts: list[str]) -> float:
        """Median of the seconds that each text takes when it is embedded alone."""
        return float(np.median([self.time([text], 1) for text in texts]))

    @classmethod
    def versions(cls, requirements: tuple[str, ...]) -> dict[str, str]:
        """Return the versions of the library and of the packages it needs, from `requirements`."""
        names = [requirement.partition("==")[0] for requirement in requirements]
        return {name: importlib.metadata.version(name) for name in names}

    @property
    def process_id(self) -> int:
        """The process that holds the model."""
        return os.getpid()
