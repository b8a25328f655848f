# SPDX-License-Identifier: Apache-2.0
"""RoPE and its scaling as config.json describes them, and as llama.cpp takes them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from embellama.convert.config_json import Config
from embellama.convert.network import Value

__all__ = ["Rope", "read_rope"]

_LONGEST = "original_max_position_embeddings"
# What bears on the vectors, beside rope_type and rope_theta.
_SETTINGS = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _LONGEST),
    "yarn": ("factor", "attention_factor", "beta_fast", "beta_slow", "truncate", _LONGEST),
}
# The defaults of modeling_rope_utils.py. llama.cpp reads no keys for them in these architectures.
_FIXED = {"partial_rotary_factor": 1.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}


@dataclasses.dataclass(frozen=True)
class Rope:
    """RoPE of a network.

    Attributes
    ----------
    metadata : dict of str to value
        Keys of the GGUF, without the architecture's name.
    divisors : tuple of float
        What Llama 3.1 divides each frequency by; empty for other kinds of RoPE.
    """

    metadata: Mapping[str, Value]
    divisors: tuple[float, ...] = ()


def read_rope(config: Config, *, base: float, n_rotated: int, has_divisors: bool) -> Rope:
    """Read what transformers 4 or 5 writes about RoPE.

    Parameters
    ----------
    config : Config
    base : float
        Where config.json says no other.
    n_rotated : int
        Dimensions of a head.
    has_divisors : bool
        Whether llama.cpp has a tensor for them in the graph of this architecture.

    Returns
    -------
    Rope

    Raises
    ------
    ModelLoadError
        If llama.cpp does not compute it.
    """
    name, rope = "rope_parameters", {}
    for possible in ("rope_parameters", "rope_scaling"):
        if config.values.get(possible) is not None:
            name, rope = possible, config.values[possible]
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else None
    known = ["default", "linear", "yarn", *(["llama3"] if has_divisors else [])]
    if kind not in known:
        raise config.error(
            f"{name} is {rope!r}; llama.cpp computes {', '.join(known)} for this architecture"
        )
    settings = _Settings(config, name, rope)
    partial = config.values.get("partial_rotary_factor")
    for setting, value in _FIXED.items():
        found = {"partial_rotary_factor": partial, **rope}.get(setting)
        if found not in (value, None):
            raise config.error(f"{setting} is {found!r}; llama.cpp computes {value} only")
    if "rope_theta" in rope:
        base = settings.number("rope_theta")
    else:
        base = config.number("rope_theta", base, below=1e9)
    metadata: dict[str, Value] = {"rope.freq_base": base}
    if kind == "default":
        return Rope(metadata)
    unknown = set(rope) - {"rope_type", "type", "rope_theta", *_FIXED, *_SETTINGS[kind]}
    if unknown:
        raise config.error(f"{name} sets {', '.join(sorted(unknown))}, which is not understood")
    if kind == "llama3":
        return Rope(metadata, settings.divisors(base, n_rotated))
    factor = settings.number("factor", 1.0)
    metadata |= {"rope.scaling.type": kind, "rope.scaling.factor": factor}
    if kind == "yarn":
        metadata["rope.scaling.original_context_length"] = settings.longest()
        if rope.get("attention_factor") is not None:
            # llama.cpp multiplies it with the default, 1 + 0.1 ln(factor).
            default = 1.0 + 0.1 * math.log(factor)
            stated = settings.number("attention_factor")
            metadata["rope.scaling.attn_factor"] = stated / default
    return Rope(metadata)


class _Settings:
    """The settings of RoPE in a config.json."""

    def __init__(self, config: Config, name: str, rope: dict[str, Any]) -> None:
        self._config = config
        self._name = name
        self._rope = rope

    def number(self, name: str, minimum: float = 0.0) -> float:
        value = self._rope.get(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (max(minimum, 1e-9) <= value < 1e9)
        ):
            kind = f"number from {minimum:g} on" if minimum else "positive number"
            raise self._config.error(f"{name} of {self._name} must be a {kind}, not {value!r}")
        return float(value)

    def longest(self) -> int:
        """Return for how many positions the network was trained at first."""
        # transformers prefers the one that stands beside the other settings of the network.
        stated = self._config.values.get(_LONGEST, self._rope.get(_LONGEST))
        if stated is None:
            return self._config.size("max_position_embeddings", 2048)
        if isinstance(stated, bool) or not isinstance(stated, int) or not 0 < stated < 2**31:
            raise self._config.error(f"{_LONGEST} must be a positive integer, not {stated!r}")
        return stated

    def divisors(self, base: float, n_rotated: int) -> tuple[float, ...]:
        """Return what each frequency is divided by (_compute_llama3_parameters)."""
        factor, longest = self.number("factor", 1.0), self.longest()
        low, high = self.number("low_freq_factor"), self.number("high_freq_factor")
        if low >= high:
            raise self._config.error(
                f"low_freq_factor {low:g} must be below high_freq_factor {high:g}"
            )
        divisors = []
        for i in range(0, n_rotated, 2):
            turns = longest / (2 * math.pi * base ** (i / n_rotated))
            share = min(max((turns - low) / (high - low), 0.0), 1.0)
            divisors.append(1 / ((1 - share) / factor + share))
        return tuple(divisors)
