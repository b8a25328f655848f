# SPDX-License-Identifier: Apache-2.0
"""Makes a folder with which this system's GCC builds for an older glibc.

A program linked on a system needs the glibc of that system. Zig contains the headers of every
glibc, and makes stub libraries for any of them, which have its symbols but no code. If GCC links
with those, and links the C++ library statically, its programs run on the older glibc.

Usage: older_glibc.py FOLDER MACHINE VERSION, such as `older_glibc.py build/old aarch64 2.17`, with
the package ziglang in the environment. Writes FOLDER/machine.ini for meson: a native file if
MACHINE is this machine, else a cross file.
"""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import ziglang

ZIG_HEADERS = Path(ziglang.__file__).parent / "lib" / "libc" / "include"

# Debian's libstdc++ 12 uses these two symbols of glibc 2.32 and 2.36. If __libc_single_threaded is
# 0, reference counts are always atomic. std::random_device calls arc4random.
MISSING_FUNCTIONS = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

char __libc_single_threaded = 0;

unsigned arc4random(void) {
    unsigned number;
    int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, &number, sizeof number) != sizeof number)
        abort();
    close(file);
    return number;
}
"""

# The headers of libstdc++ use these functions of glibc 2.30; without the macros they use older
# ones.
NEWER_FUNCTIONS = """\
#ifdef __cplusplus
#include <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK
#endif
"""


def header_folders(compiler: str, machine: str) -> list[str]:
    """Return the compiler's own header folders, then Zig's instead of the system's."""
    printed = subprocess.run(
        [compiler, "-E", "-x", "c++", "-v", os.devnull], capture_output=True, text=True, check=True
    ).stderr
    listed = printed.split("search starts here:")[-1].split("End of search list")[0].split()
    listed = [os.path.realpath(folder) for folder in listed]
    own = [folder for folder in listed if "/lib/gcc" in folder or "/c++/" in folder]
    architecture = {"x86_64": "x86"}.get(machine, machine)
    zig = [f"{machine}-linux-gnu", "generic-glibc", f"{architecture}-linux-any", "any-linux-any"]
    return own + [str(ZIG_HEADERS / name) for name in zig if (ZIG_HEADERS / name).is_dir()]


def zig_libraries(folder: Path, machine: str, version: str) -> dict[str, Path]:
    """Return the path of each library of glibc that Zig links an empty program with."""
    cache = folder / "zig"
    source = folder / "empty.c"
    source.write_text("int empty(void) { return 0; }\n")
    target = f"{machine}-linux-gnu.{version}"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target]
    subprocess.run(
        [*zig, "-shared", "-o", str(folder / "empty.so"), str(source)],
        check=True,
        env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)},
    )
    return {
        path.name: path
        for path in cache.glob("o/*/lib*")
        if ".so" in path.name or ".a" in path.name
    }


def main() -> None:
    folder, machine, version = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3]
    libraries_folder = folder / "lib"
    libraries_folder.mkdir(parents=True, exist_ok=True)
    prefix = "" if machine == platform.machine() else f"{machine}-linux-gnu-"
    minor = version.split(".")[1]

    include = folder / "older_glibc.h"
    include.write_text(NEWER_FUNCTIONS)
    cpp_folders = header_folders(f"{prefix}g++", machine)
    c_folders = [path for path in cpp_folders if "/c++/" not in path]
    common = ["-nostdinc", f"-D__GLIBC_MINOR__={minor}", "-include", str(include)]
    c_args = common + [f"-isystem{path}" for path in c_folders]
    cpp_args = common + [f"-isystem{path}" for path in cpp_folders]

    missing = folder / "missing.c"
    missing.write_text(MISSING_FUNCTIONS)
    compiler = [f"{prefix}gcc", *c_args, "-O2", "-fPIC", "-fvisibility=hidden"]
    subprocess.run([*compiler, "-c", missing, "-o", folder / "missing.o"], check=True)
    archive = folder / "libmissing.a"
    archive.unlink(missing_ok=True)
    subprocess.run([f"{prefix}ar", "rcs", archive, folder / "missing.o"], check=True)

    # Links with the names that -lc and similar options look for.
    found = zig_libraries(folder, machine, version)
    for name, path in found.items():
        if ".so." in name and name not in ("libc.so.6", "libld.so.2"):
            link = libraries_folder / name[: name.index(".so") + 3]
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    parts = [
        found["libc.so.6"],
        found["libc_nonshared.a"],
        archive,
        f"AS_NEEDED({found['libld.so.2']})",
    ]
    (libraries_folder / "libc.so").write_text(f"GROUP({' '.join(map(str, parts))})\n")
    # The shared library of GCC needs a newer release for arithmetic of 16 bits than for the rest,
    # so that arithmetic comes from the static library.
    own = subprocess.run(
        [f"{prefix}gcc", "-print-libgcc-file-name"], capture_output=True, text=True, check=True
    ).stdout.strip()
    shared = subprocess.run(
        [f"{prefix}gcc", "-print-file-name=libgcc_s.so.1"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (libraries_folder / "libgcc_s.so").write_text(f"GROUP({own} {shared})\n")

    # The compilers are scripts, because meson drops header folders that the compiler searches by
    # default.
    binaries = {"ar": f"{prefix}ar", "strip": f"{prefix}strip"}
    for language, name, args in (("c", "gcc", c_args), ("cpp", "g++", cpp_args)):
        script = folder / name
        words = [f"{prefix}{name}", *args, f"-L{libraries_folder}", "-static-libstdc++"]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)
        binaries[language] = str(script)
    lines = ["[binaries]", *(f"{key} = {value!r}" for key, value in binaries.items())]
    if prefix:
        lines += ["[host_machine]", "system = 'linux'", f"cpu_family = {machine!r}"]
        lines += [f"cpu = {machine!r}", "endian = 'little'"]
    (folder / "machine.ini").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
