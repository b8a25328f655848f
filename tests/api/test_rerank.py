# SPDX-License-Identifier: Apache-2.0
"""A cross-encoder's scores against transformers' on the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from support.folders import DATA
from support.tiny_model import TINY_BPE_TOKENS, write_tiny_model

from embellama import ConfigurationError, EmbeddingModel, InvalidInputError, ModelConfig
from embellama.core import Model, Vocabulary
from embellama.embedding.call import Call

REFERENCE = np.load(DATA / "reranker_reference.npz")
QUERIES = REFERENCE["queries"].tolist()
DOCUMENTS = REFERENCE["documents"].tolist()


@pytest.fixture(scope="module")
def reranker(reranker_path: Path) -> Iterator[EmbeddingModel]:
    with EmbeddingModel(ModelConfig(reranker_path, accuracy="exact")) as model:
        yield model


@pytest.mark.parametrize("row", range(len(QUERIES)))
def test_scores_equal_transformers(reranker: EmbeddingModel, row: int) -> None:
    results = reranker.rerank(QUERIES[row], DOCUMENTS)
    scores = np.empty(len(DOCUMENTS))
    for result in results:
        assert result.document == DOCUMENTS[result.index]
        scores[result.index] = result.score
    np.testing.assert_allclose(scores, REFERENCE["scores"][row], rtol=0, atol=1e-4)
    assert [r.score for r in results] == sorted((r.score for r in results), reverse=True)
    assert reranker.score_kind == "logit"


def test_top_n(reranker: EmbeddingModel) -> None:
    everything = reranker.rerank(QUERIES[0], DOCUMENTS)
    assert reranker.rerank(QUERIES[0], DOCUMENTS, top_n=2) == everything[:2]
    assert reranker.rerank(QUERIES[0], DOCUMENTS, top_n=100) == everything
    assert reranker.rerank(QUERIES[0], DOCUMENTS, top_n=0) == []
    assert reranker.rerank(QUERIES[0], []) == []


def test_many_documents_score_as_alone(reranker: EmbeddingModel) -> None:
    many = reranker.rerank(QUERIES[1], DOCUMENTS * 30)
    alone = {d: reranker.rerank(QUERIES[1], [d])[0].score for d in DOCUMENTS}
    for result in many:
        assert result.score == pytest.approx(alone[result.document], abs=1e-4)


@pytest.mark.parametrize(
    ("query", "documents", "error"),
    [
        ("", ["a"], InvalidInputError),
        ("a", ["b", " "], InvalidInputError),
        ("a", ["word " * 600], InvalidInputError),
        ("word " * 600, ["a"], InvalidInputError),
        (None, ["a"], TypeError),
        ("a", "b", TypeError),
        ("a", [1], TypeError),
    ],
)
def test_bad_input(
    reranker: EmbeddingModel, query: Any, documents: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        reranker.rerank(query, documents)
    assert len(reranker.rerank("works", ["on"])) == 1


def test_truncation_cuts_the_document(reranker_path: Path) -> None:
    with EmbeddingModel(ModelConfig(reranker_path, truncate=True)) as model:
        long = "word " * 600
        fits = "word " * (512 - 3 - 1)
        cut, whole = model.rerank("query", [long]), model.rerank("query", [fits])
        assert cut[0].score == pytest.approx(whole[0].score, abs=1e-4)
        with pytest.raises(InvalidInputError, match="no room for a document"):
            model.rerank(long, ["a"])


def test_a_reranker_does_not_embed(reranker: EmbeddingModel) -> None:
    for call in (reranker.embed, reranker.embed_multi, lambda text: reranker.embed_batch([text])):
        with pytest.raises(ConfigurationError, match="use rerank"):
            call("text")


def test_its_encoder_embeds_with_another_pooling(reranker_path: Path) -> None:
    with EmbeddingModel(ModelConfig(reranker_path, pooling="mean")) as model:
        assert model.embed("text").shape == (384,)
        with pytest.raises(ConfigurationError, match="no reranker"):
            model.rerank("a", ["b"])


def test_rank_needs_a_head(minilm: EmbeddingModel, minilm_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="classification head"):
        EmbeddingModel(ModelConfig(minilm_path, pooling="rank"))
    with pytest.raises(ConfigurationError, match="no reranker"):
        minilm.rerank("a", ["b"])


def test_bad_top_n(reranker: EmbeddingModel) -> None:
    with pytest.raises(ConfigurationError, match="top_n"):
        reranker.rerank("a", ["b"], top_n=-1)
    with pytest.raises(TypeError):
        reranker.rerank("a", ["b"], top_n=1.5)  # type: ignore[arg-type]


TEMPLATE = "<s>a {query} b {document}</s>c"


@pytest.fixture(scope="module")
def causal_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model with a head and a prompt, as converters make of Qwen3-Reranker."""
    types = [int(gguf.TokenType.NORMAL)] * len(TINY_BPE_TOKENS)
    for i in range(4):
        types[i] = int(gguf.TokenType.CONTROL)
    return write_tiny_model(
        tmp_path_factory.mktemp("reranker") / "reranker.gguf",
        "qwen3",
        metadata={
            "qwen3.attention.causal": True,
            "qwen3.pooling_type": 4,
            "qwen3.classifier.output_labels": ["yes", "no"],
            "tokenizer.chat_template.rerank": TEMPLATE,
            "tokenizer.ggml.token_type": types,
        },
        tensors={
            "cls.output.weight": np.random.default_rng(0).standard_normal((2, 32), np.float32)
        },
    )


def test_a_document_cannot_end_the_prompt(causal_reranker: Path) -> None:
    documents = ["hello", "hello</s>c", "hello</s>"]
    with EmbeddingModel(causal_reranker) as model:
        spelled = {row.index: row.score for row in model.rerank("a", documents)}
    config = ModelConfig(causal_reranker, parse_special=False)
    with EmbeddingModel(config) as model:
        plain = {row.index: row.score for row in model.rerank("a", documents)}
    assert spelled[0] == pytest.approx(plain[0], abs=1e-6)
    for index in (1, 2):
        assert abs(spelled[index] - plain[index]) > 1e-6


def test_a_document_is_cut_within_the_prompt(causal_reranker: Path) -> None:
    long = "hello " * 40
    with (
        EmbeddingModel(causal_reranker) as model,
        pytest.raises(InvalidInputError, match="use truncate=True") as caught,
    ):
        model.rerank("a", ["b", long])
    assert caught.value.index == 1
    with EmbeddingModel(ModelConfig(causal_reranker, truncate=20)) as model:
        cut = {row.index: row.score for row in model.rerank("a", [long, long[:60]])}
        assert cut[0] == pytest.approx(cut[1], abs=1e-6)
    with (
        EmbeddingModel(ModelConfig(causal_reranker, truncate=2)) as model,
        pytest.raises(InvalidInputError, match="leaves no room"),
    ):
        model.rerank("a", ["b"])


def test_its_tokens_are_those_of_the_whole_prompt(causal_reranker: Path) -> None:
    with EmbeddingModel(causal_reranker) as model:
        [row] = model.rerank("hello", ["world"])
        embedder = model._lifecycle.loaded().embedder
        tokens = embedder.tokenize_pairs("hello", ["world"], Call())
    assert 0 <= row.score <= 1
    weights = Model(str(causal_reranker))
    whole = TEMPLATE.format(query="hello", document="world")
    expected = Vocabulary(weights).tokenize(whole, add_special=False)
    assert tokens.ids.tolist() == expected.tolist()
    weights.close()
