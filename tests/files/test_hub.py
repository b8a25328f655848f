# SPDX-License-Identifier: Apache-2.0
"""Repositories of the Hugging Face Hub become files, with its own client against a local server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checkpoints import change_json, save_bfloat16, write_checkpoint
from support.child_process import PATIENCE, TIMEOUT
from support.family_checkpoints import write_family_checkpoint
from support.hub_client import RESOLVE, Hub, local_hub
from support.hub_server import COMMIT, HubRepository, files_of
from support.tiny_model import write_tiny_model

from embellama import EmbeddingModel, ModelConfig, PoolingStrategy, catalog, model_info
from embellama.convert import convert_checkpoint
from embellama.errors import ConfigurationError, ModelLoadError
from embellama.obtaining.hub_repository import choose_gguf, gguf_type

WEIGHTS = "/blobs/org/model//model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    write_checkpoint(folder)
    (folder / "README.md").write_text("A model for tests.\n")
    return folder


@pytest.fixture
def repository(hub: Hub, checkpoint: Path) -> HubRepository:
    """The checkpoint, with files that the converter does not need."""
    files = files_of(checkpoint)
    files |= {"pytorch_model.bin": b"pickled", "onnx/model.onnx": b"large", ".gitattributes": b""}
    held = HubRepository(files)
    hub.server.repositories["org/model"] = held
    return held


def gguf_repository(hub: Hub, tmp_path: Path, *names: str) -> bytes:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    hub.server.repositories["org/model-GGUF"] = HubRepository(
        {"README.md": b"GGUFs", **dict.fromkeys(names, content)}
    )
    return content


def test_a_repository_is_downloaded_converted_and_kept(
    hub: Hub, repository: HubRepository, checkpoint: Path, tmp_path: Path
) -> None:
    gguf = hub.cache / "org--model" / "model-F16.gguf"
    assert hub.resolve("org/model") == str(gguf)
    downloaded = hub.server.downloads()
    assert sorted(downloaded) == sorted(path.name for path in checkpoint.iterdir())
    # The weights come last: what the converter refuses is found before.
    assert downloaded[-1] == "model.safetensors"
    assert gguf.read_bytes() == convert_checkpoint(checkpoint, tmp_path / "own.gguf").read_bytes()
    assert sorted(path.name for path in gguf.parent.iterdir()) == [
        "README.md",
        "SOURCE.json",
        "model-F16.gguf",
        "model-F16.gguf.sha256",
    ]
    assert not hub.hub_cache.exists()
    source = catalog.provenance(gguf)
    assert source is not None
    assert source["revision"] == COMMIT
    assert source["licence"] == "mit"
    assert source["obtained_from"] == f"Hugging Face Hub, org/model at {COMMIT}"
    assert set(source["sha256"]) == {path.name for path in checkpoint.iterdir()}

    # What is cached needs no network, and not even the client.
    assert catalog.resolve("org/model") == gguf
    with EmbeddingModel("org/model") as model:
        assert model.embed("hello world").shape == (32,)
    assert [file.model for file in catalog.cached_files()] == ["org--model"]


def test_a_revision_and_a_type_are_part_of_the_name(hub: Hub, repository: HubRepository) -> None:
    assert hub.resolve("org/model@main:q8_0") == str(
        hub.cache / "org--model@main" / "model-Q8_0.gguf"
    )
    assert hub.resolve("hf://org/model", "F32") == str(hub.cache / "org--model" / "model-F32.gguf")
    assert "ConfigurationError: file_type must be one of" in hub.resolve("org/model:Q9_9")
    assert "no such revision" in hub.resolve("org/model@other")


def test_weights_that_float16_can_not_hold_become_bf16(
    hub: Hub, repository: HubRepository, tmp_path: Path
) -> None:
    weights = write_checkpoint(tmp_path / "small")
    weights["encoder.layer.0.output.dense.weight"][0, 0] = (1 + 2**-7) * 2**-18
    save_bfloat16(weights, tmp_path / "small" / "model.safetensors")
    repository.files["model.safetensors"] = (tmp_path / "small" / "model.safetensors").read_bytes()
    gguf = hub.cache / "org--model" / "model-BF16.gguf"
    assert hub.resolve("org/model") == str(gguf)
    assert model_info(gguf).file_type == "BF16"
    hub.server.repositories.clear()
    assert hub.resolve("org/model") == str(gguf)


def test_a_network_that_overflows_in_float16_becomes_f32(
    hub: Hub, repository: HubRepository, tmp_path: Path
) -> None:
    write_family_checkpoint(tmp_path / "gemma", "embeddinggemma")
    repository.files = files_of(tmp_path / "gemma")
    gguf = hub.cache / "org--model" / "model-F32.gguf"
    assert hub.resolve("org/model") == str(gguf)
    assert len(model_info(gguf).dense_modules) == 2
    hub.server.repositories.clear()
    assert hub.resolve("org/model") == str(gguf)


def test_f32_that_was_named_is_no_default(hub: Hub, repository: HubRepository) -> None:
    assert hub.resolve("org/model:F32").endswith("model-F32.gguf")
    assert hub.resolve("org/model").endswith("model-F16.gguf")


def test_a_file_that_the_hubs_cache_holds_is_not_downloaded(
    hub: Hub, repository: HubRepository
) -> None:
    blobs = hub.hub_cache / "models--org--model"
    snapshot = blobs / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (blobs / "refs").mkdir()
    (blobs / "refs" / "main").write_text(COMMIT)
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).write_bytes(repository.files[name])
    (snapshot / "tokenizer.json").write_bytes(b"damaged")
    gguf = hub.resolve("org/model")
    assert gguf.endswith("model-F16.gguf"), gguf
    downloaded = hub.server.downloads()
    assert "tokenizer.json" in downloaded
    assert not {"model.safetensors", "config.json"} & set(downloaded)
    assert (snapshot / "model.safetensors").read_bytes() == repository.files["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_with_another_hash_is_refused(
    hub: Hub, repository: HubRepository, name: str
) -> None:
    content = repository.files[name]
    repository.stated[name] = content
    repository.files[name] = content[:-1] + bytes([content[-1] ^ 1])
    message = hub.resolve("org/model")
    assert message.startswith("ModelLoadError: org/model"), message
    assert f"{name} has the hash" in message
    assert hub.server.downloads().count(name) == 2
    assert list((hub.cache / "org--model").iterdir()) == []
    repository.files[name] = content
    assert hub.resolve("org/model").endswith("model-F16.gguf")


def test_an_interrupted_download_goes_on(hub: Hub, repository: HubRepository) -> None:
    """Killed amid the weights; a later run keeps files that came whole, and begins others anew."""
    n_bytes = len(repository.files["model.safetensors"])
    repository.breaks_after["model.safetensors"] = n_bytes // 2
    process = subprocess.Popen(
        [sys.executable, "-c", RESOLVE, "org/model", ""],
        env={**os.environ, **hub.server.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while ("GET", WEIGHTS, None) not in hub.server.requests:
            assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    assert (hub.cache / "org--model" / "org--model.partial").is_dir()
    hub.server.requests.clear()
    repository.breaks_after.clear()
    assert hub.resolve("org/model").endswith("model-F16.gguf")
    assert hub.server.downloads() == ["model.safetensors"]
    assert not (hub.cache / "org--model" / "org--model.partial").exists()


@pytest.mark.slow
def test_a_download_that_breaks_off_keeps_what_came(hub: Hub, repository: HubRepository) -> None:
    """The client gives up after five attempts."""
    repository.breaks_after["model.safetensors"] = 10
    message = hub.resolve("org/model")
    assert message.startswith("ModelNotFoundError: cannot obtain org/model: "), message
    assert "files that came whole are kept" in message
    hub.server.requests.clear()
    repository.breaks_after.clear()
    assert hub.resolve("org/model").endswith("model-F16.gguf")
    assert hub.server.downloads() == ["model.safetensors"]


@pytest.mark.slow
def test_a_hub_that_does_not_answer(hub: Hub, repository: HubRepository) -> None:
    repository.pause = 20.0
    started = time.monotonic()
    assert "can't be reached" in hub.resolve("org/model")
    assert time.monotonic() - started < 15 * PATIENCE
    # A Hub that takes its time is waited for.
    repository.pause = 0.3
    assert hub.resolve("org/model").endswith("model-F16.gguf")


def test_two_processes_at_once(hub: Hub, repository: HubRepository) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RESOLVE, "org/model", ""],
            env={**os.environ, **hub.server.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        stdout, stderr = process.communicate(timeout=TIMEOUT)
        assert stdout.strip() == str(hub.cache / "org--model" / "model-F16.gguf"), stderr
    assert hub.server.downloads().count("model.safetensors") == 1


@pytest.mark.parametrize(
    ("architecture", "words", "name"),
    [
        ("MPNetModel", "no graph for MPNetModel", "org/model"),
        ("Gemma3TextModel", "use the type BF16, F32 or", "org/model:F16"),
    ],
)
def test_what_can_not_be_converted_is_refused_before_the_weights_come(
    hub: Hub, repository: HubRepository, checkpoint: Path, architecture: str, words: str, name: str
) -> None:
    change_json(checkpoint / "config.json", architectures=[architecture])
    repository.files["config.json"] = (checkpoint / "config.json").read_bytes()
    message = hub.resolve(name)
    assert message.startswith("ModelLoadError: org/model can't be converted: config.json: ")
    assert words in message
    assert "org/repo/file.gguf" in message
    assert str(hub.cache) not in message
    assert "model.safetensors" not in hub.server.downloads()
    assert list((hub.cache / "org--model").iterdir()) == []


def test_weights_without_safetensors(hub: Hub, repository: HubRepository) -> None:
    del repository.files["model.safetensors"]
    message = hub.resolve("org/model")
    assert "holds neither model.safetensors nor a GGUF file" in message
    assert "save_pretrained" in message


def test_too_little_room(hub: Hub, repository: HubRepository, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import shutil\n"
        "usage = shutil.disk_usage\n"
        "shutil.disk_usage = lambda path: usage(path)._replace(free=10)\n"
    )
    message = hub.resolve("org/model", PYTHONPATH=str(tmp_path))
    assert message.startswith("ModelLoadError: org/model needs"), message
    assert "EMBELLAMA_CACHE" in message
    assert "model.safetensors" not in hub.server.downloads()


@pytest.mark.parametrize(
    ("status", "error_code", "expected"),
    [
        (
            403,
            "GatedRepo",
            "accept the licence at https://huggingface.co/org/model and set HF_TOKEN",
        ),
        (
            401,
            "GatedRepo",
            "accept the licence at https://huggingface.co/org/model and set HF_TOKEN",
        ),
        (403, "", "accept the licence at https://huggingface.co/org/model and set HF_TOKEN"),
        (404, "RepoNotFound", "has no repository org/model"),
        (429, "", "takes no more requests for now (429)"),
        (500, "", "can't be reached or broke off"),
    ],
)
@pytest.mark.parametrize("name", ["org/model", "org/model/model.gguf"])
def test_a_refusal_says_what_to_do(
    hub: Hub, name: str, status: int, error_code: str, expected: str
) -> None:
    hub.server.repositories["org/model"] = HubRepository({}, status, error_code)
    message = hub.resolve(name)
    assert message.startswith(f"ModelNotFoundError: cannot obtain {name}: "), message
    assert expected in message


def test_a_token_opens_a_gated_repository(hub: Hub, repository: HubRepository) -> None:
    repository.status, repository.error_code, repository.token = 403, "GatedRepo", "hf_mine"
    assert "accept the licence" in hub.resolve("org/model")
    assert hub.resolve("org/model", HF_TOKEN="hf_mine").endswith("model-F16.gguf")


def test_names_of_no_repository(hub: Hub) -> None:
    message = hub.resolve("sentence-transformers/all-MiniLM-L6-v3")
    assert "did you mean sentence-transformers/all-MiniLM-L6-v2?" in message
    assert "did you mean" not in hub.resolve("org/anything")
    assert "no repository can have this name" in hub.resolve("org/a--b")
    # A name of two parts that ends in .gguf is a path, unless it says otherwise.
    assert "no file and no known model" in hub.resolve("models/missing.gguf")
    assert "has no repository org/name.gguf" in hub.resolve("hf://org/name.gguf")


def test_without_a_network(hub: Hub) -> None:
    assert "HF_HUB_OFFLINE forbids" in hub.resolve("org/model", HF_HUB_OFFLINE="1")
    # Port 1 is tcpmux, which nothing offers.
    message = hub.resolve("org/model", HF_ENDPOINT="http://127.0.0.1:1")
    assert "can't be reached" in message


def test_one_of_the_gguf_files_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    names = [f"model-{kind}.gguf" for kind in ("Q4_K_M", "Q8_0", "f16")]
    content = gguf_repository(hub, tmp_path, *names)
    chosen = hub.resolve("org/model-GGUF")
    assert Path(chosen).name == "model-f16.gguf"
    assert Path(chosen).read_bytes() == content
    # It lies in the Hub's own cache, where it is found again without a network.
    assert Path(chosen).is_relative_to(hub.hub_cache)
    assert hub.resolve("org/model-GGUF", HF_HUB_OFFLINE="1") == chosen
    assert Path(hub.resolve("org/model-GGUF:Q8_0")).name == "model-Q8_0.gguf"
    assert Path(hub.resolve("org/model-GGUF", "q4_k_m")).name == "model-Q4_K_M.gguf"
    message = hub.resolve("org/model-GGUF:Q6_K")
    assert message.startswith("ConfigurationError: org/model-GGUF holds no GGUF file of type Q6_K")
    assert ":F16, :Q4_K_M, :Q8_0" in message


def test_without_a_network_the_cached_type_is_taken(hub: Hub, tmp_path: Path) -> None:
    gguf_repository(hub, tmp_path, "model-Q8_0.gguf", "model-Q4_0.gguf")
    chosen = hub.resolve("org/model-GGUF")
    assert Path(chosen).name == "model-Q8_0.gguf"
    assert hub.resolve("org/model-GGUF", HF_HUB_OFFLINE="1") == chosen


def test_a_gguf_file_with_another_hash_is_refused(hub: Hub, tmp_path: Path) -> None:
    content = gguf_repository(hub, tmp_path, "model.gguf")
    held = hub.server.repositories["org/model-GGUF"]
    held.stated["model.gguf"] = content
    held.files["model.gguf"] = content[:-1] + bytes([content[-1] ^ 1])
    assert "came with another SHA-256" in hub.resolve("org/model-GGUF/model.gguf")
    held.files["model.gguf"] = content
    assert Path(hub.resolve("org/model-GGUF/model.gguf")).read_bytes() == content


def test_names_of_one_file_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    gguf_repository(hub, tmp_path, "folder/model.gguf")
    path = "org/model-GGUF/folder/model.gguf"
    chosen = hub.resolve(path)
    for name in (
        f"hf://{path}",
        "https://huggingface.co/org/model-GGUF/resolve/main/folder/model.gguf",
        "https://huggingface.co/org/model-GGUF/blob/main/folder/model.gguf?download=true",
        "https://huggingface.co/org/model-GGUF",
        "org/model-GGUF@main/folder/model.gguf",
    ):
        assert hub.resolve(name) == chosen
    assert "no such file" in hub.resolve("org/model-GGUF/other.gguf")


def test_the_type_in_the_name_of_a_file() -> None:
    for name, kind in {
        "bge-m3-FP16.gguf": "F16",
        "nomic-embed-text-v1.5.f16.gguf": "F16",
        "bge-m3-q8_0.gguf": "Q8_0",
        "model.Q4_K_M.gguf": "Q4_K_M",
        "folder/model-IQ4_XS.gguf": "IQ4_XS",
        "embeddinggemma-300M-qat-Q4_0.gguf": "Q4_0",
        "q8_0.gguf": "Q8_0",
        "model.gguf": None,
    }.items():
        assert gguf_type(name) == kind, name


def test_which_gguf_file_is_chosen() -> None:
    assert choose_gguf("o/r", ["model.gguf", "mmproj-F16.gguf"], None) == "model.gguf"
    assert choose_gguf("o/r", ["m-Q8_0.gguf", "m-F16-00001-of-00002.gguf"], None) == "m-Q8_0.gguf"
    with pytest.raises(ConfigurationError, match=r"no GGUF file of type F16 or Q8_0.*:Q4_0, :Q6_K"):
        choose_gguf("o/r", ["m-Q4_0.gguf", "m-Q6_K.gguf"], None)
    with pytest.raises(ConfigurationError, match=r"several GGUF files of type Q8_0: .*o/r/a-Q8_0"):
        choose_gguf("o/r", ["a-Q8_0.gguf", "b-Q8_0.gguf"], "Q8_0")


def test_a_file_elsewhere(hub: Hub, tmp_path: Path) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    hub.server.web_files |= {
        "a/tiny.gguf": content,
        "page.gguf": b"<!doctype html>",
        "x.gguf": b"x",
    }
    url = f"{hub.server.url}/web/a/tiny.gguf"
    # A connection that breaks off keeps what has come.
    hub.server.web_breaks_after = len(content) // 2
    assert "try again, what has come is kept" in hub.resolve(url)
    hub.server.web_breaks_after = None
    hub.server.requests.clear()
    gguf = Path(hub.resolve(url))
    assert [part for *_, part in hub.server.requests] == [f"bytes={len(content) // 2}-"]
    assert gguf.name == "tiny.gguf"
    assert gguf.read_bytes() == content
    assert gguf.is_relative_to(hub.cache)
    source = catalog.provenance(gguf)
    assert source is not None
    assert source["url"] == url
    hub.server.requests.clear()
    assert catalog.resolve(url) == gguf
    assert hub.server.requests == []

    web = f"{hub.server.url}/web"
    assert "answers with a web page" in hub.resolve(f"{web}/page.gguf")
    assert "is not a GGUF file: it begins with b'x'" in hub.resolve(f"{web}/x.gguf")
    assert "answers 404" in hub.resolve(f"{web}/none.gguf")
    assert "has to end in .gguf" in hub.resolve(f"{web}/model.bin")
    assert "can't be reached" in hub.resolve("http://127.0.0.1:1/x.gguf")


def test_a_file_elsewhere_that_changes_while_it_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    other = write_tiny_model(tmp_path / "other.gguf", "bert", seed=1).read_bytes()
    assert content != other
    hub.server.web_files["tiny.gguf"] = content
    hub.server.web_breaks_after = 1000
    url = f"{hub.server.url}/web/tiny.gguf"
    assert "what has come is kept" in hub.resolve(url)
    hub.server.web_breaks_after = None
    hub.server.web_files["tiny.gguf"] = other
    assert Path(hub.resolve(url)).read_bytes() == other


def test_what_is_not_a_model(hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelLoadError, match=r"safetensors.*embellama convert .*model model\.gguf"):
        catalog.resolve(checkpoint / "model.safetensors")
    assert "run `embellama convert" in hub.resolve(str(checkpoint))
    write_tiny_model(checkpoint / "own.gguf", "bert")
    assert "name a file in it: own.gguf" in hub.resolve(str(checkpoint))
    assert "no file is called './m.gguf': check the path" in hub.resolve("./m.gguf")


def test_a_short_name(hub: Hub, repository: HubRepository) -> None:
    """It stands for its repository, and brings the prompts of its authors."""
    hub.server.repositories = {"BAAI/bge-small-en-v1.5": repository}
    gguf = hub.resolve("bge-small-en-v1.5")
    assert gguf == str(hub.cache / "BAAI--bge-small-en-v1.5" / "bge-small-en-v1.5-F16.gguf")
    assert hub.resolve("BAAI/BGE-small-en-v1.5") == gguf
    assert hub.resolve("bge-small-en-v1.5:q8_0").endswith("-Q8_0.gguf")
    with EmbeddingModel("bge-small-en-v1.5") as model:
        entry = catalog.find("bge-small-en-v1.5")
        assert entry is not None
        prompted = model.embed(entry.query_prompt[:12] + "hello")
        assert (model.embed_documents(["hello"])[0] == model.embed("hello")).all()
        config = model.config.replace(query_prompt=entry.query_prompt[:12])
        model.verify()
    with EmbeddingModel(config) as model:
        assert (model.embed_query("hello") == prompted).all()
    with EmbeddingModel(ModelConfig("bge-small-en-v1.5", truncate=True)) as model:
        expected = model.embed(entry.query_prompt + "hello")
        assert (model.embed_query("hello") == expected).all()
    # A copy of the file elsewhere has them too.
    copy = hub.cache / "copy.gguf"
    copy.write_bytes(Path(gguf).read_bytes())
    info = model_info(copy)
    assert info.entry is None
    assert info.query_prompt == (entry.query_prompt, "the file")
    assert (info.pooling.value, info.pooling_source) == ("cls", "the file")


def test_a_short_name_whose_files_others_made(hub: Hub, tmp_path: Path) -> None:
    """EmbeddingGemma overflows in float16."""
    content = write_tiny_model(tmp_path / "tiny.gguf", "bert").read_bytes()
    files = dict.fromkeys(("embeddinggemma-300M-Q8_0.gguf", "other-F16.gguf"), content)
    hub.server.repositories["ggml-org/embeddinggemma-300M-GGUF"] = HubRepository(files)
    for name in ("embeddinggemma-300m", "google/embeddinggemma-300m"):
        assert Path(hub.resolve(name)).name == "embeddinggemma-300M-Q8_0.gguf"


def test_the_catalog_is_consistent() -> None:
    entries = catalog.known_models()
    names = [name.lower() for entry in entries for name in (entry.name, entry.repository)]
    assert len(set(names)) == len(names)
    for entry in entries:
        assert catalog.find(entry.name) is catalog.find(f"{entry.repository}:Q8_0") is entry
        assert PoolingStrategy(entry.pooling)
        assert (entry.dimensions == 0) == (entry.pooling == "rank")
        assert all(0 < size < entry.dimensions for size in entry.matryoshka)
        assert bool(entry.prompts_from) == bool(entry.query_prompt or entry.document_prompt)
        assert bool(entry.sha256) == (entry.revision is not None)
