# SPDX-License-Identifier: Apache-2.0
"""Settings from environment variables."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from embellama.errors import ConfigurationError

__all__ = ["WITHOUT_VARIABLE", "settings_from_environment"]

# Fields that have no variable: those that hold other settings, and what EMBELLAMA_INSTRUCTION_SET
# limits for the whole process.
WITHOUT_VARIABLE = frozenset({"model_config", "cache", "instruction_set"})

_TRUTH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def settings_from_environment(kind: type) -> dict[str, Any]:
    """Read the fields of a dataclass of settings.

    Parameters
    ----------
    kind : type
        A field has the variable of its name in capitals after ``EMBELLAMA_``.

    Returns
    -------
    dict
        The fields whose variables are set and not empty: numbers and truth values as such, others
        as the text.

    Raises
    ------
    ConfigurationError
        If a number or truth value can't be read.
    """
    values = {}
    for field in dataclasses.fields(kind):
        variable = f"EMBELLAMA_{field.name.upper()}"
        text = os.environ.get(variable, "")
        if text and field.name not in WITHOUT_VARIABLE:
            values[field.name] = _parsed(variable, field.name, str(field.type), text)
    return values


def _parsed(variable: str, name: str, annotation: str, text: str) -> Any:
    # As a number of tokens, 1 is not a truth value.
    is_number = name == "truncate" and text == "1"
    if "bool" in annotation and text.lower() in _TRUTH and not is_number:
        return _TRUTH[text.lower()]
    try:
        if "int" in annotation:
            return int(text)
        if "float" in annotation:
            return float(text)
    except ValueError:
        kinds = "a number, true or false" if "bool" in annotation else "a number"
        raise ConfigurationError(f"{variable} must be {kinds}, not {text!r}") from None
    if "bool" in annotation:
        raise ConfigurationError(f"{variable} must be true or false, not {text!r}")
    return text
