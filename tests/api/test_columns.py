# SPDX-License-Identifier: Apache-2.0
"""Texts as other libraries hold them: columns are taken, tables refused, missing values named."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

import embellama
from embellama import CacheConfig, EmbeddingEngine, EmbeddingModel, InvalidInputError, ModelConfig

TEXTS = ["a cat", "猫", "a dog", "a cat"]


@pytest.fixture(scope="module")
def expected(minilm: EmbeddingModel) -> Any:
    return minilm.embed_batch(TEXTS)


COLUMNS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pandas.Series(TEXTS),
    "pandas object": lambda: pandas.Series(TEXTS, dtype=object),
    "pandas string": lambda: pandas.Series(TEXTS, dtype="string"),
    "pandas with an index": lambda: pandas.Series(TEXTS, index=[7, 7, 0, 3]),
    "pandas category": lambda: pandas.Series(TEXTS, dtype="category"),
    "pandas Categorical": lambda: pandas.Categorical(TEXTS),
    "pandas pyarrow": lambda: pandas.Series(TEXTS, dtype=pandas.ArrowDtype(pyarrow.string())),
    "pandas Index": lambda: pandas.Index(TEXTS),
    "a column of a frame": lambda: pandas.DataFrame({"text": TEXTS})["text"],
    "polars": lambda: polars.Series(TEXTS),
    "polars Categorical": lambda: polars.Series(TEXTS, dtype=polars.Categorical),
    "polars Enum": lambda: polars.Series(TEXTS, dtype=polars.Enum(sorted(set(TEXTS)))),
    "pyarrow": lambda: pyarrow.array(TEXTS),
    "pyarrow large": lambda: pyarrow.array(TEXTS, pyarrow.large_string()),
    "pyarrow view": lambda: pyarrow.array(TEXTS, pyarrow.string_view()),
    "pyarrow chunked": lambda: pyarrow.chunked_array([TEXTS[:1], [], TEXTS[1:]]),
    "pyarrow dictionary": lambda: pyarrow.array(TEXTS).dictionary_encode(),
    "pyarrow chunked dictionary": lambda: pyarrow.table({"text": TEXTS})[
        "text"
    ].dictionary_encode(),
    "pyarrow scalars": lambda: list(pyarrow.array(TEXTS)),
    "numpy object": lambda: np.array(TEXTS, dtype=object),
    "numpy U": lambda: np.array(TEXTS),
    "numpy StringDType": lambda: np.array(TEXTS, dtype=np.dtypes.StringDType()),
    "numpy masked": lambda: np.ma.array(TEXTS),
    "field of records": lambda: np.array(
        [(text, i) for i, text in enumerate(TEXTS)], dtype=[("text", "U9"), ("id", "i4")]
    )["text"],
    "tuple": lambda: tuple(TEXTS),
    "values of a dict": lambda: dict(enumerate(TEXTS)).values(),
    "generator": lambda: (text for text in TEXTS),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_taken(name: str, minilm: EmbeddingModel, expected: Any) -> None:
    np.testing.assert_array_equal(minilm.embed_batch(COLUMNS[name]()), expected)


def test_keys_of_a_dict_are_in_order(minilm: EmbeddingModel) -> None:
    texts = dict.fromkeys(["b", "a"])
    np.testing.assert_array_equal(minilm.embed_batch(texts.keys()), minilm.embed_batch(["b", "a"]))


FRAME = {"id": [1, 2], "text": ["a cat", "a dog"]}

TABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "pandas": (
        lambda: pandas.DataFrame(FRAME),
        r'a DataFrame: pass one column, such as df\["text"',
    ),
    "pandas without text": (lambda: pandas.DataFrame({"body": ["a"]}), r'such as df\["body"\]'),
    "pandas with a column dtype": (lambda: pandas.DataFrame({"dtype": ["a"]}), r'df\["dtype"\]'),
    "pandas, one column": (lambda: pandas.DataFrame(FRAME)[["text"]], r'such as df\["text"\]'),
    "polars": (lambda: polars.DataFrame(FRAME), r'such as df\["text"\]'),
    "polars lazy": (lambda: polars.LazyFrame(FRAME), r"a LazyFrame: .*, such as df\.collect\(\)\["),
    "pyarrow": (lambda: pyarrow.table(FRAME), r'a Table: pass one column, such as df\["text"\]'),
    "pyarrow batch": (lambda: pyarrow.record_batch(FRAME), r"a RecordBatch: pass one column"),
    "records": (lambda: np.array([("a",)], dtype=[("text", "U9")]), r'such as df\["text"\]'),
    "dict": (lambda: FRAME, r'a dict, whose keys would be embedded: .* such as data\["text"\]'),
    "OrderedDict": (lambda: OrderedDict(a="b"), r'whose keys would be embedded: .*data\["a"\]'),
    "set": (lambda: {"a", "b"}, r"a set, which has no order: pass a list"),
    "frozenset": (lambda: frozenset("ab"), r"a frozenset, which has no order"),
    "2-D": (lambda: np.array([["a"], ["b"]]), r"an array of 2 dimensions: .* array\[:, 0\]"),
    "values of a frame": (lambda: pandas.DataFrame(FRAME).values, r"an array of 2 dimensions"),
    "0-D": (lambda: np.array("a"), r"an array of 0 dimensions: pass array\.ravel\(\)"),
    "str": (lambda: "a cat", r"one str: pass \[text\]"),
    "bytes": (lambda: b"a cat", r"one bytes: pass \[text\.decode\(\)\]"),
}

# All that take texts.
VERBS: dict[str, Callable[[EmbeddingModel, Any], Any]] = {
    "embed_batch": lambda model, texts: model.embed_batch(texts),
    "embed_documents": lambda model, texts: model.embed_documents(texts),
    "embed_iter": lambda model, texts: next(model.embed_iter(texts)),
    "embed_batch_multi": lambda model, texts: model.embed_batch_multi(texts),
    "aembed_batch": lambda model, texts: asyncio.run(model.aembed_batch(texts)),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_table_is_refused(name: str, verb: str, minilm: EmbeddingModel) -> None:
    make, message = TABLES[name]
    with pytest.raises(TypeError, match=f"MiniLM.*: texts must be an iterable of .*{message}"):
        VERBS[verb](minilm, make())
    assert minilm.embed("works on").shape == (384,)


MISSING: dict[str, Callable[[], Any]] = {
    "None": lambda: ["a cat", None, "a dog"],
    "nan": lambda: ["a cat", float("nan"), "a dog"],
    "numpy's nan": lambda: ["a cat", np.float32("nan"), "a dog"],
    "Decimal": lambda: ["a cat", Decimal("NaN"), "a dog"],
    "pandas' NA": lambda: ["a cat", pandas.NA, "a dog"],
    "NaT": lambda: ["a cat", pandas.NaT, "a dog"],
    "numpy's NaT": lambda: ["a cat", np.datetime64("NaT", "s"), "a dog"],
    "pandas": lambda: pandas.Series(["a cat", None, "a dog"]),
    "pandas object": lambda: pandas.Series(["a cat", None, "a dog"], dtype=object),
    "pandas string": lambda: pandas.Series(["a cat", None, "a dog"], dtype="string"),
    "pandas category": lambda: pandas.Series(["a cat", None, "a dog"], dtype="category"),
    "polars": lambda: polars.Series(["a cat", None, "a dog"]),
    "pyarrow": lambda: pyarrow.array(["a cat", None, "a dog"]),
    "pyarrow chunks": lambda: pyarrow.chunked_array([["a cat"], [None, "a dog"]]),
    "pyarrow dictionary": lambda: pyarrow.array(["a cat", None, "a dog"]).dictionary_encode(),
    "numpy StringDType": lambda: np.array(
        ["a cat", None, "a dog"], dtype=np.dtypes.StringDType(na_object=None)
    ),
    "numpy StringDType nan": lambda: np.array(
        ["a cat", np.nan, "a dog"], dtype=np.dtypes.StringDType(na_object=np.nan)
    ),
    "numpy masked": lambda: np.ma.array(["a cat", "?", "a dog"], mask=[False, True, False]),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_value_is_named_or_a_row_of_nan(name: str, minilm: EmbeddingModel) -> None:
    texts = MISSING[name]()
    with pytest.raises(TypeError, match=r"text 1 must be a str, and it is missing \(") as info:
        minilm.embed_batch(texts)
    assert isinstance(info.value, InvalidInputError)
    assert info.value.index == 1
    result = minilm.embed_batch(texts, on_error="nan", details=True)
    assert np.isnan(result.embeddings).all(axis=1).tolist() == [False, True, False]
    assert list(result.errors) == [1]
    # Windows of another length may be computed in another order of summation.
    np.testing.assert_allclose(
        result.embeddings[[0, 2]], minilm.embed_batch(["a cat", "a dog"]), atol=1e-6
    )


@pytest.mark.parametrize("value", [3, 1.5, b"bytes", ["list"], object()])
def test_what_is_no_text_is_a_row_of_nan_too(value: Any, minilm: EmbeddingModel) -> None:
    result = minilm.embed_batch(["a cat", value], on_error="nan", details=True)
    assert np.isnan(result.embeddings).all(axis=1).tolist() == [False, True]
    assert isinstance(result.errors[1], embellama.TextTypeError)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_the_missing_text(verb: str, minilm: EmbeddingModel) -> None:
    with pytest.raises(InvalidInputError, match="text 1 must be a str, and it is missing"):
        VERBS[verb](minilm, pandas.Series(["a cat", None]))


ALONE: dict[str, Callable[[EmbeddingModel, Any], Any]] = {
    "embed": lambda model, text: model.embed(text),
    "embed_query": lambda model, text: model.embed_query(text),
    "embed_multi": lambda model, text: model.embed_multi(text),
    "aembed": lambda model, text: asyncio.run(model.aembed(text)),
    "tokenize": lambda model, text: model.tokenize(text),
    "count_tokens": lambda model, text: model.count_tokens(text),
}


@pytest.mark.parametrize("verb", ALONE)
def test_every_verb_of_one_text(verb: str, minilm: EmbeddingModel) -> None:
    with pytest.raises(InvalidInputError, match=r"the text must be a str, and it is missing \(nan"):
        ALONE[verb](minilm, float("nan"))
    plain = np.asarray(ALONE[verb](minilm, "a cat"))
    np.testing.assert_array_equal(ALONE[verb](minilm, pyarrow.scalar("a cat")), plain)
    np.testing.assert_array_equal(ALONE[verb](minilm, np.str_("a cat")), plain)


def test_embed_iter_goes_on(minilm: EmbeddingModel) -> None:
    texts = pandas.Series(["a cat", None, "a dog"])
    windows = list(minilm.embed_iter(texts, window=2, on_error="nan"))
    assert [start for start, _ in windows] == [0, 2]
    assert np.isnan(np.concatenate([rows for _, rows in windows]))[:, 0].tolist() == [
        False,
        True,
        False,
    ]


def test_engine_cache_and_reranker(minilm: EmbeddingModel, reranker_path: Any) -> None:
    frame = pandas.DataFrame({"text": ["a cat", "a dog"]})
    config = ModelConfig("all-MiniLM-L6-v2", cache=CacheConfig())
    engine = EmbeddingEngine(config)
    for _ in range(2):  # computed, then remembered
        np.testing.assert_allclose(
            engine.embed_batch(frame["text"]), minilm.embed_batch(["a cat", "a dog"]), atol=1e-6
        )
    with pytest.raises(TypeError, match="pass one column"):
        engine.embed_batch(frame)
    with pytest.raises(TypeError, match="pass one column"):
        engine.model().warm_cache(frame)
    with EmbeddingModel(reranker_path) as model:
        with pytest.raises(TypeError, match="pass one column"):
            model.rerank("a cat", frame)
        with pytest.raises(InvalidInputError, match="text 1 must be a str, and it is missing"):
            model.rerank("a cat", pandas.Series(["a cat", None]))
        ranked = model.rerank("a cat", frame["text"])
        assert {result.document for result in ranked} == {"a cat", "a dog"}
