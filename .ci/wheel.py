# SPDX-License-Identifier: Apache-2.0
"""Makes a wheel for the running Python and the machine of a folder that older_glibc.py wrote.

Usage: wheel.py SOURCE FOLDER OUT, with the build requirements in the environment. Files that do
not include Python's headers are compiled only for the first Python.
"""

from __future__ import annotations

import configparser
import importlib
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path


def cross_environment(machine: str, folder: Path) -> dict[str, str]:
    """Return the variables with which this Python says of itself what one for the machine would.

    Both are for Linux with words of 64 bits, and the values that an extension is compiled with
    differ in names alone.
    """
    name = sysconfig._get_sysconfigdata_name()  # type: ignore[attr-defined]
    values = importlib.import_module(name).build_time_vars
    here = platform.machine()
    changed = {
        key: value.replace(here, machine) if isinstance(value, str) else value
        for key, value in values.items()
    }
    cross_name = f"embellama_{machine}_{sys.version_info.minor}"
    (folder / f"{cross_name}.py").write_text(f"build_time_vars = {changed!r}\n")
    return {
        "_PYTHON_SYSCONFIGDATA_NAME": cross_name,
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
        "PYTHONPATH": str(folder),
    }


def main() -> None:
    source, folder, out = (Path(argument).resolve() for argument in sys.argv[1:])
    machine_file = configparser.ConfigParser()
    machine_file.read(folder / "machine.ini")
    is_cross = machine_file.has_section("host_machine")
    kind = "cross" if is_cross else "native"

    # Meson asks pkg-config for Python, and would otherwise find the system's Python.
    pkg_config = Path(sys.base_prefix) / "lib" / "pkgconfig"
    # The file has the same name for all Pythons, because meson reads the files of its first run
    # again.
    python_file = folder / "python.ini"
    python_file.write_text(f"[binaries]\npython = {sys.executable!r}\n")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PKG_CONFIG_LIBDIR": str(pkg_config),
    }
    if is_cross:
        environment |= cross_environment(machine_file["host_machine"]["cpu"].strip("'"), folder)
    # The build folder is below the source, so that no path of this machine gets into the code.
    settings = [f"build-dir=build/{folder.name}", "compile-args=--quiet"]
    settings += [
        f"setup-args=--{kind}-file={path}" for path in (folder / "machine.ini", python_file)
    ]
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
        + [f"-C{setting}" for setting in settings]
        + ["--outdir", str(out), str(source)],
        check=True,
        env=environment,
    )
    commands = (source / "build" / folder.name / "compile_commands.json").read_text()
    headers = sysconfig.get_paths()["include"]
    if f"-I{headers} " not in commands:
        sys.exit(f"the extensions were not compiled with {headers}")


if __name__ == "__main__":
    main()
