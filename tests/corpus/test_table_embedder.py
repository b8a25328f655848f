# SPDX-License-Identifier: Apache-2.0
"""Tables of Arrow in, tables of Arrow with vectors or scores out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from support.child_process import TIMEOUT
from support.tiny_model import write_tiny_bert

from embellama import ConfigurationError, EmbeddingModel, ModelConfig, ModelNotFoundError, quantize
from embellama.arrow import TableEmbedder, TableReranker, vector_column, vectors_of
from embellama.errors import InvalidInputError, ModelLoadError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    path = write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    return ModelConfig(path, n_threads=1, document_prompt="d ")


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "uint8"])
def test_a_matrix_is_a_column_without_a_copy(kind: str) -> None:
    matrix = np.arange(12).reshape(3, 4).astype(kind)
    column = vector_column(matrix)
    address = matrix.__array_interface__["data"][0]
    assert column.values.buffers()[1].address == address
    back = vectors_of(column)
    assert back.__array_interface__["data"][0] == address
    assert (back == matrix).all()
    assert (vectors_of(column.slice(1, 1)) == matrix[1:2]).all()
    assert (vectors_of(pyarrow.chunked_array([column, column]))[3:] == matrix).all()
    assert vectors_of(vector_column(matrix[:0])).shape == (0, 4)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    ],
    ids=str,
)
def test_columns_of_texts(config: ModelConfig, kind: pyarrow.DataType) -> None:
    texts = ["a b", "", None, "c d"]
    column = pyarrow.array(texts, pyarrow.string()).cast(kind)
    table = TableEmbedder(config)(pyarrow.table({"id": range(4), "text": column}))
    with EmbeddingModel(config) as model:
        expected = model.embed_batch(["a b", "c d"])
    vectors = vectors_of(table["embedding"])
    assert (vectors[[0, 3]] == expected).all()
    assert np.isnan(vectors[[1, 2]]).all()
    assert table["n_tokens"].to_pylist() == [4, 0, 0, 4]
    assert [reason is None for reason in table["error"].to_pylist()] == [True, False, False, True]


def test_options(config: ModelConfig) -> None:
    texts = ["a b c d e f", "a"]
    with EmbeddingModel(config) as model:
        expected = model.embed_batch([f"d {text}" for text in texts], truncate_dim=8)
    embedder = TableEmbedder(
        config, column="body", prefix="body_", dtype="int8", truncate_dim=8, input_type="document"
    )
    table = embedder(pyarrow.table({"body": texts, "error": ["mine", "mine"]}))
    assert (vectors_of(table["body_embedding"]) == quantize(expected, "int8")).all()
    cut = TableEmbedder(config.replace(truncate=5))(pyarrow.table({"text": texts}))
    assert cut["truncated"].to_pylist() == [True, False]
    assert cut["n_tokens"].to_pylist() == [5, 3]


def test_what_is_refused(config: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="uint8 needs ranges"):
        TableEmbedder(config, dtype="uint8")
    with pytest.raises(ConfigurationError, match="input_type must be"):
        TableEmbedder(config, input_type="passage")
    with pytest.raises(InvalidInputError, match="white space"):
        TableEmbedder(config, on_error="raise")(pyarrow.table({"text": [" "]}))
    embedder = TableEmbedder(config)
    with pytest.raises(ConfigurationError, match="no columns 'text': choose among 'body'"):
        embedder(pyarrow.table({"body": ["a"]}))
    with pytest.raises(ConfigurationError, match="'text' holds int64, not texts"):
        embedder(pyarrow.table({"text": [1]}))
    with pytest.raises(ConfigurationError, match="a column 'error' already"):
        embedder(pyarrow.table({"text": ["a"], "error": ["b"]}))
    with pytest.raises(ConfigurationError, match="is no reranker"):
        TableReranker(config)
    with pytest.raises(ModelNotFoundError, match=r"memory://missing\.gguf"):
        TableEmbedder("memory://missing.gguf")


def test_reranker(reranker_path: Path) -> None:
    documents = ["Cats sleep up to 16 hours.", "Interest rates rose.", " ", "word " * 600, None]
    query = "How long do cats sleep?"
    with EmbeddingModel(reranker_path) as model:
        found = model.rerank(query, documents[:2])  # type: ignore[arg-type]
        other = model.rerank("What rose?", documents[:1])[0].score  # type: ignore[arg-type]
    expected = [result.score for result in sorted(found, key=lambda result: result.index)]
    table = TableReranker(reranker_path.as_posix(), query=query)(pyarrow.table({"text": documents}))
    np.testing.assert_allclose(table["score"].to_pylist()[:2], expected, atol=1e-4)
    assert np.isnan(table["score"].to_pylist()[2:]).all()
    assert [error is None for error in table["error"].to_pylist()] == [True, True, *[False] * 3]
    pairs = pyarrow.table(
        {"query": [query, "What rose?", None], "text": [documents[1], documents[0], "a"]}
    )
    scored = TableReranker(reranker_path.as_posix())(pairs)
    np.testing.assert_allclose(scored["score"].to_pylist()[:2], [expected[1], other], atol=1e-4)
    assert scored["error"].to_pylist() == [None, None, "there is no query"]


@pytest.mark.slow
def test_a_model_in_a_store_is_fetched_once(
    config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes want it at the same time, and one copies it."""
    monkeypatch.setenv("EMBELLAMA_CACHE", str(tmp_path / "cache"))
    shutil.copy(config.model_path, tmp_path / "stored.gguf")
    url = f"file://{tmp_path}/stored.gguf"
    program = (
        "import sys; from embellama.arrow import config_on_this_machine as here\n"
        "print(here(sys.argv[1]).model_path)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    copies = {process.communicate(timeout=TIMEOUT)[0].strip() for process in processes}
    assert len(copies) == 1
    copy = Path(copies.pop())
    assert copy.read_bytes() == Path(config.model_path).read_bytes()
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == [copy.parent.name]
    # A file that is another now is copied again.
    write_tiny_bert(tmp_path / "stored.gguf", seed=1)
    table = pyarrow.table({"text": ["a b"]})
    old = vectors_of(TableEmbedder(str(copy))(table)["embedding"])
    assert (vectors_of(TableEmbedder(url)(table)["embedding"]) != old).any()
    (tmp_path / "stored.gguf").write_text("no model")
    with pytest.raises(ModelLoadError, match="is no GGUF file"):
        TableEmbedder(url)
