# SPDX-License-Identifier: Apache-2.0
"""Sphinx: with docs/requirements.txt installed, ``sphinx-build -W docs docs/_build/html``."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from embellama import errors

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "embellama"
author = "the embellama developers"
copyright = "the embellama developers, Apache-2.0"
release = version = installed_version("embellama")

extensions = [
    "command_help",
    "myst_parser",
    "numpydoc",
    "settings_table",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "drawings", "templates"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # a reader may copy text with quotes into a shell

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
templates_path = ["templates"]
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
# Their methods are those of Python's own classes.
plain_classes = [f"embellama.errors.{name}" for name in errors.__all__]
plain_classes += ["embellama.Accuracy", "embellama.NormalizationMode", "embellama.PoolingStrategy"]
numpydoc_show_inherited_class_members = dict.fromkeys(plain_classes, False)

html_theme = "furo"
html_title = f"embellama {release}"
html_static_path = ["_static"]
html_css_files = ["embellama.css"]
html_js_files = ["narrow_tables.js"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#8a4b00", "color-brand-content": "#8a4b00"},
    "dark_css_variables": {"color-brand-primary": "#f0b35f", "color-brand-content": "#f0b35f"},
}
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
