# SPDX-License-Identifier: Apache-2.0
"""The directive ``settings``: a dataclass as a list of its settings.

Names, types and defaults come from the class itself, what each means and its unit from its
docstring, so a new setting shows up by itself.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from numpydoc.docscrape import ClassDoc
from sphinx.application import Sphinx

from embellama.environment import WITHOUT_VARIABLE


def described(kind: type) -> dict[str, tuple[str, list[str]]]:
    """Type and text of each parameter, as the docstring gives them."""
    entries = {}
    for parameter in ClassDoc(kind)["Parameters"]:
        for name in parameter.name.split(","):
            entries[name.strip()] = (parameter.type, parameter.desc)
    return entries


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
        return f"``{value if isinstance(value, enum.Enum) else repr(value)}``"
    return "required"


class Settings(Directive):
    """``.. settings:: embellama.ModelConfig``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        entries = described(kind)
        lines = []
        for field in dataclasses.fields(kind):
            if field.name not in entries:
                raise self.error(f"{name}.{field.name} is not described in the docstring")
            type_, text = entries[field.name]
            kinds = [f"*{type_.removesuffix(', optional')}*", default_of(field)]
            if field.name not in WITHOUT_VARIABLE:
                kinds.append(f"``EMBELLAMA_{field.name.upper()}``")
            lines += [f"**{field.name}**", f"    {', '.join(kinds)}", ""]
            lines += [f"    {line}" for line in text]
            lines.append("")
        return self.parse(lines)

    def parse(self, lines: list[str]) -> list[nodes.Node]:
        # numpydoc's text is reStructuredText, whatever the page is written in.
        from docutils.core import publish_doctree

        text = "\n".join(line.replace(":class:", "").replace(":func:", "") for line in lines)
        return list(publish_doctree(text, settings_overrides={"report_level": 2}).children)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
