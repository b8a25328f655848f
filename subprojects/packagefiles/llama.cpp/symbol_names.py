# SPDX-License-Identifier: Apache-2.0
"""Print a header that gives each function of ggml a prefixed name for the linker.

Another package in the process may have loaded a ggml of another release, under ggml's own names
and for the whole process (RTLD_GLOBAL). With prefixed names the linker can't bind one ggml to the
other.

Usage: symbol_names.py PREFIX HEADER...
"""

from __future__ import annotations

import pathlib
import re
import sys

# A declaration from GGML_API or GGML_BACKEND_API to the function's name and its parenthesis.
_DECLARATION = re.compile(r"\bGGML_(?:BACKEND_)?API\b[^;{]*?\b(\w+)\s*\(")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# A directive of the preprocessor, with the lines that a backslash joins to it.
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def exported_functions(headers: list[str]) -> list[str]:
    names = set()
    for header in headers:
        text = _COMMENT.sub("", pathlib.Path(header).read_text(encoding="utf-8"))
        text = _DIRECTIVE.sub("", text)
        names.update(_DECLARATION.findall(text))
    return sorted(names)


def main() -> None:
    prefix, *headers = sys.argv[1:]
    print("// Written by symbol_names.py; GCC and Clang know the pragma on every system.")
    for name in exported_functions(headers):
        print(f"#pragma redefine_extname {name} {prefix}{name}")


if __name__ == "__main__":
    main()
