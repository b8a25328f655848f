# SPDX-License-Identifier: Apache-2.0
"""Checks wheels: their tag, size and licences, and that no path of the build machine is in them.

Usage: check_wheels.py GLIBC WHEEL...
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

MAX_BYTES = 20_000_000
WANTED = (
    "embellama/py.typed",
    "embellama/core.pyi",
    "embellama/core.pxd",
    "embellama/kernels.pxd",
    "embellama/libllama/handles.pxd",
    "embellama/ggml/libembellama-ggml-generic.so",
    "licenses/LICENSE",
    "licenses/licenses/parts-of-llama.cpp.txt",
    "licenses/subprojects/llama.cpp/LICENSE",
)
# Folders in which people and systems build.
BUILDERS_PATH = re.compile(rb"/(?:home|root|tmp|build|work|github|usr/(?:src|include))/[\w./+-]+")


def faults(path: Path, glibc: str) -> list[str]:
    found = []
    if f"manylinux_{glibc.replace('.', '_')}_" not in path.name:
        found.append(f"its tag is not of glibc {glibc}")
    if path.stat().st_size > MAX_BYTES:
        found.append(f"{path.stat().st_size} bytes, more than {MAX_BYTES}")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        found += [f"{end} is missing" for end in WANTED if not any(n.endswith(end) for n in names)]
        for name in names:
            if name.endswith(".so"):
                paths = sorted(set(BUILDERS_PATH.findall(wheel.read(name))))
                found += [f"{name} holds {text.decode()}" for text in paths[:3]]
    return found


def main() -> int:
    glibc, *wheels = sys.argv[1:]
    n_faults = 0
    for path in map(Path, wheels):
        for fault in faults(path, glibc):
            print(f"{path.name}: {fault}")
            n_faults += 1
    print(f"{len(wheels)} wheels, {n_faults} faults")
    return 1 if n_faults or not wheels else 0


if __name__ == "__main__":
    sys.exit(main())
