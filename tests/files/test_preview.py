# SPDX-License-Identifier: Apache-2.0
"""``embellama info`` says whether a model works before its weights are downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import change_json, write_checkpoint, write_json
from support.family_checkpoints import write_family_checkpoint
from support.hub_client import Hub, local_hub
from support.hub_server import HubRepository, files_of
from support.tiny_model import write_tiny_model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    write_checkpoint(folder)
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "find: ", "document": ""}},
    )
    return folder


def publish(hub: Hub, checkpoint: Path, name: str = "org/model") -> HubRepository:
    held = hub.server.repositories[name] = HubRepository(files_of(checkpoint))
    return held


def info(hub: Hub, name: str) -> tuple[dict[str, Any], str]:
    done = hub.command("info", "--json", name)
    return json.loads(done.stdout or "{}"), done.stderr


def test_a_checkpoint(hub: Hub, checkpoint: Path) -> None:
    repository = publish(hub, checkpoint)
    seen, stderr = info(hub, "org/model")
    assert stderr == ""
    assert seen["works"] is True
    assert seen["file"] is None
    assert (seen["architecture"], seen["dimensions"], seen["context_length"]) == ("bert", 32, 24)
    assert seen["query_prompt"] == {"text": "find: ", "source": "the checkpoint"}
    assert seen["document_prompt"] == {"text": "", "source": "the checkpoint"}
    assert seen["licence"] == "mit"
    assert seen["to_download"] == sum(
        len(content) for name, content in repository.files.items() if name != ".gitattributes"
    )
    # Of the weights only their header came, and nothing was kept.
    parts = [part for method, path, part in hub.server.requests if path.endswith(".safetensors")]
    n_header = int.from_bytes(repository.files["model.safetensors"][:8], "little")
    assert parts[-2:] == ["bytes=0-7", f"bytes=8-{7 + n_header}"]
    assert not any(
        path.endswith(("vocab.txt", "tokenizer.json")) for _, path, _ in hub.server.requests
    )
    assert not hub.cache.exists()

    gguf = hub.command("pull", "-q", "org/model").stdout.strip()
    here, _ = info(hub, "org/model")
    assert here["file"] == gguf
    for name in ("architecture", "dimensions", "context_length", "parameters", "pooling"):
        assert here[name] == seen[name], name
    assert here["query_prompt"] == {"text": "find: ", "source": "the file"}


def test_a_checkpoint_that_can_not_be_converted(hub: Hub, checkpoint: Path) -> None:
    change_json(checkpoint / "config.json", architectures=["MPNetModel"])
    publish(hub, checkpoint)
    seen, stderr = info(hub, "org/model")
    assert seen["works"] is False
    assert "org/model can't be converted: config.json: llama.cpp has no graph for MPNet" in stderr
    assert hub.command("info", "org/model").returncode == 1


def test_weights_that_do_not_fit_their_settings(hub: Hub, checkpoint: Path) -> None:
    """Only the header of the weights shows it."""
    change_json(checkpoint / "config.json", num_hidden_layers=7)
    publish(hub, checkpoint)
    seen, stderr = info(hub, "org/model")
    assert seen["works"] is False
    assert "tensors are missing" in stderr


def test_a_gguf_file(hub: Hub, tmp_path: Path) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    hub.server.repositories["org/model-GGUF"] = HubRepository({"model-Q8_0.gguf": content})
    hub.server.web_files["tiny.gguf"] = content
    url = f"{hub.server.url}/web/tiny.gguf"
    for name in ("org/model-GGUF", "org/model-GGUF/model-Q8_0.gguf", url):
        seen, stderr = info(hub, name)
        assert stderr == ""
        assert seen["works"] is True
        assert (seen["architecture"], seen["dimensions"]) == ("bert", 32)
        assert seen["to_download"] == len(content)
    assert all(
        part
        for method, path, part in hub.server.requests
        if path.endswith(".gguf") and method == "GET"
    )
    assert not hub.cache.exists()
    assert not hub.hub_cache.exists()
    assert "works:                   yes" in hub.command("info", url).stdout


def test_a_large_gguf_file_is_not_read_whole(hub: Hub, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", "bert", feed_forward_length=32768)
    content = path.read_bytes()
    hub.server.repositories["org/model-GGUF"] = HubRepository({"model.gguf": content})
    seen, _ = info(hub, "org/model-GGUF")
    assert seen["to_download"] == len(content) > 8 * 2**20
    ends = [part.partition("-")[2] for *_, part in hub.server.requests if part]
    assert max(map(int, ends)) < 2**20


def test_a_gguf_file_that_llama_cpp_can_not_load(hub: Hub, tmp_path: Path) -> None:
    tiny = write_tiny_model(tmp_path / "tiny.gguf", "bert", metadata={"general.type": "adapter"})
    hub.server.web_files |= {
        "adapter.gguf": tiny.read_bytes(),
        "cut.gguf": tiny.read_bytes()[:-500],
        "page.gguf": b"<!doctype html>",
        "x.gguf": b"x",
    }
    web = f"{hub.server.url}/web"
    seen, stderr = info(hub, f"{web}/adapter.gguf")
    assert seen["works"] is False
    assert "it holds no model but is of the kind 'adapter'" in stderr
    seen, stderr = info(hub, f"{web}/cut.gguf")
    assert seen["works"] is False
    assert "the file is truncated" in stderr
    assert "answers with a web page" in info(hub, f"{web}/page.gguf")[1]
    assert "no GGUF file: it begins with b'x'" in info(hub, f"{web}/x.gguf")[1]
    assert "answers 404" in info(hub, f"{web}/none.gguf")[1]
    hub.server.knows_ranges = False
    assert "the server gives no parts of files" in info(hub, f"{web}/cut.gguf")[1]


def test_a_gated_repository(hub: Hub, checkpoint: Path) -> None:
    repository = publish(hub, checkpoint)
    repository.is_gated = True
    assert info(hub, "org/model")[0]["gated"] is True
    repository.status, repository.error_code = 403, "GatedRepo"
    assert "accept the licence at https://huggingface.co/org/model" in info(hub, "org/model")[1]


def test_a_known_model(hub: Hub, checkpoint: Path) -> None:
    publish(hub, checkpoint, "BAAI/bge-small-en-v1.5")
    seen, _ = info(hub, "bge-small-en-v1.5")
    assert seen["name"] == "bge-small-en-v1.5"
    assert (seen["pooling"], seen["pooling_from"]) == ("cls", "the catalog")
    assert seen["query_prompt"] == {
        "text": "Represent this sentence for searching relevant passages: ",
        "source": "the catalog, from mteb 2.26.24",
    }


def test_a_reranker_that_only_its_card_shows(hub: Hub, tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "qwen", "qwen3-reranker")
    publish(hub, tmp_path / "qwen")
    seen, _ = info(hub, "org/model")
    assert (seen["pooling"], seen["pooling_from"]) == ("rank", "its classification head")
    assert hub.command("pull", "-q", "org/model").returncode == 0
    here, _ = info(hub, "org/model")
    assert here["pooling"] == "rank"


def test_dense_modules(hub: Hub, tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "gemma", "embeddinggemma")
    publish(hub, tmp_path / "gemma")
    assert "use the type BF16, F32 or Q8_0" in info(hub, "org/model:F16")[1]
    seen, _ = info(hub, "org/model")
    assert seen["dense_modules"] == "32 to 96; 96 to 32"
    assert hub.command("pull", "-q", "org/model").returncode == 0
    here, _ = info(hub, "org/model")
    said = ("architecture", "dimensions", "dense_modules", "parameters", "pooling")
    assert {name: here[name] for name in said} == {name: seen[name] for name in said}
