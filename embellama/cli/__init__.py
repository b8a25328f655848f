# SPDX-License-Identifier: Apache-2.0
"""The ``embellama`` command."""

from embellama.cli.command import main

__all__ = ["main"]
