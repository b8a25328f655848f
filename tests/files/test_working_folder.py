# SPDX-License-Identifier: Apache-2.0
"""One thread at a time has a working folder, and it is gone when the last one is done."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from embellama.errors import ConfigurationError
from embellama.files.working_folder import working_folder


def test_threads_in_turn(tmp_path: Path) -> None:
    alone = threading.Lock()
    done: list[str] = []

    def work() -> None:
        for _ in range(20):
            with working_folder(tmp_path / "made", lambda folder: None) as folder:
                assert alone.acquire(blocking=False)
                (folder / "first").touch()
                (folder / "second").mkdir()
                alone.release()
            done.append("")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 160
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_that_others_remove(tmp_path: Path) -> None:
    """It goes away between any two steps of taking it."""
    folder = tmp_path / "made.partial"
    is_over = threading.Event()

    def remove() -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                folder.mkdir()
            with contextlib.suppress(OSError):
                folder.rmdir()

    other = threading.Thread(target=remove)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        other.start()
        for _ in range(1000):
            with working_folder(tmp_path / "made", lambda folder: None) as taken:
                assert taken.is_dir()
    finally:
        is_over.set()
        other.join()
        sys.setswitchinterval(interval)


class Listing(list[os.DirEntry[str]]):
    """What os.scandir found, by now out of date."""

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_file_that_others_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the lock may remove a file while the folder is cleared."""
    with working_folder(tmp_path / "made", lambda folder: None) as folder:
        (folder / "probe").touch()
        listing = Listing(os.scandir(folder))
        (folder / "probe").unlink()
        monkeypatch.setattr(os, "scandir", lambda path: listing)
    assert not folder.exists()


def test_something_else_has_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "made.partial"
    for make in (folder.touch, lambda: folder.symlink_to("nowhere")):
        make()
        with (
            pytest.raises(ConfigurationError, match=r"made\.partial is no folder"),
            working_folder(tmp_path / "made", lambda folder: None),
        ):
            pass
        folder.unlink()


def test_the_directories_above_are_removed_while_it_waits(tmp_path: Path) -> None:
    target = tmp_path / "models" / "made"
    waits = threading.Event()
    taken: list[bool] = []

    def wait() -> None:
        with working_folder(target, lambda folder: waits.set(), parents=True) as folder:
            taken.append(folder.is_dir())

    with working_folder(target, lambda folder: None, parents=True):
        other = threading.Thread(target=wait)
        other.start()
        assert waits.wait(10)
        shutil.rmtree(target.parent)
    other.join()
    assert taken == [True]
