# SPDX-License-Identifier: Apache-2.0
"""Downloads from the Hub: several files at once, Xet's headers, and what a terminal shows."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import write_checkpoint, write_json
from support.child_process import TIMEOUT
from support.hub_client import Hub, local_hub
from support.hub_server import HubRepository
from support.tiny_model import write_tiny_model

from embellama.convert import convert_checkpoint


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def repository(hub: Hub, tmp_path: Path) -> HubRepository:
    write_checkpoint(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    held = hub.server.repositories["org/model"] = HubRepository(files)
    return held


def split_weights(checkpoint: Path, n_files: int) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    weight_map = {}
    for i, names in enumerate(np.array_split(sorted(weights), n_files), start=1):
        file = f"model-{i:05}-of-{n_files:05}.safetensors"
        save_file({str(name): weights[name] for name in names}, checkpoint / file)
        weight_map |= {str(name): file for name in names}
    write_json(checkpoint / "model.safetensors.index.json", {"weight_map": weight_map})


def test_several_files_come_at_once(hub: Hub, repository: HubRepository, tmp_path: Path) -> None:
    whole = convert_checkpoint(tmp_path / "model", tmp_path / "whole.gguf").read_bytes()
    split_weights(tmp_path / "model", 10)
    repository.files = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    repository.piece_pause = 0.01
    gguf = hub.resolve("org/model")
    assert Path(gguf).read_bytes() == whole
    # Four at a time. For the server a request may end when the client has begun the next one.
    assert 2 <= hub.server.most_at_once <= 8
    assert len(hub.server.downloads()) == len(repository.files)


def test_a_damaged_part_of_the_weights(hub: Hub, repository: HubRepository, tmp_path: Path) -> None:
    split_weights(tmp_path / "model", 3)
    repository.files = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    name = "model-00002-of-00003.safetensors"
    repository.stated[name] = repository.files[name]
    repository.files[name] = repository.files[name][:-1] + b"\1"
    message = hub.resolve("org/model")
    assert message.startswith(f"ModelLoadError: org/model at {'5' * 40}: {name} has the hash")
    assert list((hub.cache / "org--model").iterdir()) == []


# Port 1 is tcpmux, which nothing offers.
NOWHERE = "http://127.0.0.1:1"


def test_xet_headers(hub: Hub, repository: HubRepository, tmp_path: Path) -> None:
    """A client without Xet's library, or told not to use it, downloads as ever."""
    repository.xet_storage = NOWHERE
    assert hub.resolve("org/model").endswith("model-F16.gguf")
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as metadata\n"
        "installed = metadata.version\n"
        "def version(name):\n"
        "    if name == 'hf_xet':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return installed(name)\n"
        "metadata.version = version\n"
    )
    environment = {"HF_HUB_DISABLE_XET": "0", "PYTHONPATH": str(tmp_path)}
    done = hub.command("pull", "-q", "org/model:F32", **environment)
    assert done.stdout.strip().endswith("model-F32.gguf")
    assert done.stderr == ""


def test_xet_storage_out_of_reach(hub: Hub, repository: HubRepository) -> None:
    pytest.importorskip("hf_xet")
    repository.xet_storage = NOWHERE
    message = hub.resolve(
        "org/model",
        HF_HUB_DISABLE_XET="0",
        HF_XET_CLIENT_RETRY_MAX_ATTEMPTS="1",
        HF_XET_CLIENT_RETRY_BASE_DELAY="10ms",
    )
    assert message.startswith("ModelNotFoundError: cannot obtain org/model: "), message
    assert "set HF_HUB_DISABLE_XET=1" in message


def test_one_line_says_what_came_and_where_it_lies(
    hub: Hub, repository: HubRepository, tmp_path: Path
) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    hub.server.repositories["org/model-GGUF"] = HubRepository({"model.gguf": content})
    hub.server.web_files["tiny.gguf"] = content
    url = f"{hub.server.url}/web/tiny.gguf"
    for name, said in {
        "org/model": "org/model came from the Hugging Face Hub",
        "org/model-GGUF": "model.gguf came from org/model-GGUF on the Hugging Face Hub",
        url: f"tiny.gguf came from {url}",
    }.items():
        done = hub.command("pull", name)
        path = Path(done.stdout.strip())
        size = f"{path.stat().st_size / 1e6:,.1f} MB"
        assert done.stderr == f"embellama: {said}; it lies in {path} ({size})\n"
        assert hub.command("pull", name).stderr == ""


def shown_in_a_terminal(hub: Hub, *arguments: str) -> str:
    """What embellama shows on a standard error that is a terminal."""
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    shown = bytearray()

    def read() -> None:
        try:
            while piece := os.read(terminal, 4096):
                shown.extend(piece)
        except OSError:  # Linux' way to say that nobody writes any more
            pass

    reading = threading.Thread(target=read)
    reading.start()
    done = subprocess.run(
        [sys.executable, "-m", "embellama", *arguments],
        env={**os.environ, **hub.server.environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=TIMEOUT,
        check=False,
    )
    os.close(stderr)
    reading.join()
    os.close(terminal)
    assert done.returncode == 0, shown
    return shown.decode()


def test_the_progress_of_a_download(hub: Hub, repository: HubRepository, tmp_path: Path) -> None:
    """One bar, up to the size of all that comes, and nothing of huggingface_hub's own."""
    split_weights(tmp_path / "model", 6)
    repository.files = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    repository.piece_pause = 0.06
    shown = shown_in_a_terminal(hub, "pull", "org/model")
    bars = [part for part in re.split(r"[\r\n]+", shown) if "org/model:" in part]
    percents = [int(found[1]) for bar in bars if (found := re.search(r"(\d+)%", bar))]
    assert percents == sorted(percents)
    assert percents, repr(shown)
    assert percents[0] < 50
    assert percents[-1] == 100
    assert any(0 < percent < 100 for percent in percents)
    rest = [part for part in re.split(r"[\r\n]+", shown) if part.strip() and part not in bars]
    rest = [part for part in rest if "%" not in part]  # the bar of the conversion
    assert [re.sub("\x1b.*?[A-Z]", "", line)[:20] for line in rest] == ["embellama: org/model"]


def test_the_progress_of_a_gguf_file(hub: Hub, tmp_path: Path) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    held = hub.server.repositories["org/model-GGUF"] = HubRepository({"model.gguf": content})
    held.piece_pause = 0.08
    shown = shown_in_a_terminal(hub, "pull", "org/model-GGUF")
    lines = [part for part in re.split(r"[\r\n]+", shown) if part.strip()]
    assert all(line.startswith("model.gguf: ") for line in lines[:-1]), lines
    assert "100%" in lines[-2]
    assert lines[-1].startswith("embellama: model.gguf came from")


def test_ctrl_c_ends_a_download_at_once(hub: Hub, repository: HubRepository) -> None:
    repository.piece_pause = TIMEOUT
    process = subprocess.Popen(
        [sys.executable, "-m", "embellama", "pull", "org/model"],
        env={**os.environ, **hub.server.environment, "HF_HUB_DOWNLOAD_TIMEOUT": str(2 * TIMEOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not hub.server.most_at_once:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=TIMEOUT / 2)
    assert (process.returncode, stdout, stderr) == (130, b"", b"")


def test_a_token_that_a_login_left(hub: Hub, repository: HubRepository) -> None:
    repository.status, repository.error_code, repository.token = 403, "GatedRepo", "hf_mine"
    hub.hub_cache.parent.mkdir(exist_ok=True)
    (hub.hub_cache.parent / "token").write_text("hf_mine")
    assert hub.resolve("org/model").endswith("model-F16.gguf")


def test_a_default_model_by_an_environment_variable(hub: Hub, repository: HubRepository) -> None:
    done = hub.command("embed", "hello", EMBELLAMA_MODEL_PATH="org/model")
    assert done.returncode == 0, done.stderr
    assert "org/model came from the Hugging Face Hub" in done.stderr
    assert '"file"' in hub.command("info", "--json", EMBELLAMA_MODEL_PATH="org/model").stdout


def test_too_little_room(hub: Hub, tmp_path: Path) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    hub.server.repositories["org/model-GGUF"] = HubRepository({"model.gguf": content})
    hub.server.web_files["tiny.gguf"] = content
    (tmp_path / "sitecustomize.py").write_text(
        "import shutil\n"
        "usage = shutil.disk_usage\n"
        "shutil.disk_usage = lambda path: usage(path)._replace(free=10)\n"
    )
    url = f"{hub.server.url}/web/tiny.gguf"
    for name, variable in {"org/model-GGUF": "HF_HOME", url: "EMBELLAMA_CACHE"}.items():
        message = hub.resolve(name, PYTHONPATH=str(tmp_path))
        assert message.startswith("ModelLoadError: "), message
        assert f"set the environment variable {variable} to another directory" in message
        assert "where 0 MB are free" in message


def test_a_download_that_was_complete_but_not_published(hub: Hub, tmp_path: Path) -> None:
    """The server has no more bytes to give: 416."""
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    hub.server.web_files["tiny.gguf"] = content
    url = f"{hub.server.url}/web/tiny.gguf"
    gguf = Path(hub.resolve(url))
    folder = gguf.parent / f"{gguf.parent.name}.partial"
    folder.mkdir()
    gguf.rename(folder / "download")
    (folder / "version").write_text(f'"{hashlib.sha256(content).hexdigest()}"')
    assert hub.resolve(url) == str(gguf)
    assert gguf.read_bytes() == content


def test_models_that_lie_in_the_cache_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    files = {"nomic-embed-text-v1.5.f16.gguf": content}
    hub.server.repositories["nomic-ai/nomic-embed-text-v1.5-GGUF"] = HubRepository(files)
    path = hub.command("pull", "-q", "nomic-embed-text-v1.5").stdout.strip()
    assert Path(path).is_relative_to(hub.hub_cache)
    described = json.loads(hub.command("models", "nomic-embed-text-v1.5", "--json").stdout)
    (model,) = described["models"]
    assert model["files"] == [{"path": path, "size": len(content)}]
    assert model["layer_norm_before_cut"] is True
    assert path in hub.command("models").stdout
