# SPDX-License-Identifier: Apache-2.0
"""The directive ``command-help``: what ``--help`` prints, for each part of the command."""

from __future__ import annotations

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from embellama.cli.command import command

# Columns that fit beside the navigation.
_WIDTH = 84


def help_of(part: click.Command, name: str) -> str:
    context = click.Context(part, info_name=name, max_content_width=_WIDTH, terminal_width=_WIDTH)
    return part.get_help(context)


class CommandHelp(Directive):
    """A section for each subcommand."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for name, part in command.commands.items():
            section = nodes.section(ids=[f"embellama-{name}"])
            section += nodes.title(text=f"embellama {name}")
            text = help_of(part, f"embellama {name}")
            section += nodes.literal_block(text, text, language="none")
            found.append(section)
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
