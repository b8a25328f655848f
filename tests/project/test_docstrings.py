# SPDX-License-Identifier: Apache-2.0
"""Every public name is documented, and every example in a docstring runs."""

from __future__ import annotations

import doctest
import enum
import importlib
import inspect
import os
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import embellama

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, and no files, of whoever runs the tests; the cache is kept."""
    for variable in os.environ:
        if variable.startswith("EMBELLAMA_") and variable != "EMBELLAMA_CACHE":
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def doctests() -> dict[str, doctest.DocTest]:
    names = [m.name for m in pkgutil.walk_packages(embellama.__path__, "embellama.")]
    found = {}
    for name in ["embellama", *names]:
        module = importlib.import_module(name)
        # Empty globals: an example imports what it uses, as a reader has to.
        for test in doctest.DocTestFinder().find(module, globs={}):
            # Cython lists the docstrings of functions a second time, in __test__.
            if test.examples and ".__test__." not in test.name:
                found[test.name] = test
    return found


DOCTESTS = doctests()


@pytest.mark.parametrize("name", DOCTESTS)
def test_doctest(name: str) -> None:
    output: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(DOCTESTS[name], out=output.append)
    assert not output, "".join(output)


def test_doctests_of_extensions_are_found() -> None:
    extensions = {"embellama.core.backend_info", "embellama.kernels.pool_rows"}
    assert extensions <= set(DOCTESTS)


def test_only_rerankers_are_not_at_hand() -> None:
    skipped = {
        name
        for name, test in DOCTESTS.items()
        for example in test.examples
        if doctest.SKIP in example.options
    }
    assert skipped == {"embellama.model_methods.ModelMethods.rerank"}


def public_members() -> dict[str, Any]:
    """Everything in ``embellama.__all__``, and what the public classes define themselves."""
    found = {}
    for name in embellama.__all__:
        found[name] = value = getattr(embellama, name)
        if not inspect.isclass(value):
            continue
        for member in inspect.classify_class_attrs(value):
            if member.name.startswith("_") or member.kind == "data":
                continue
            if member.defining_class.__module__.startswith("embellama."):
                found[f"{name}.{member.name}"] = getattr(value, member.name)
    return found


PUBLIC = public_members()
# Methods that pass their arguments on, and the methods that say what those mean.
DELEGATES = {
    name: target[1]
    for name, value in PUBLIC.items()
    if (target := re.match(r"See :meth:`([\w.]+)`", inspect.getdoc(value) or ""))
}
CALLABLE = [name for name, value in PUBLIC.items() if callable(value) and name not in DELEGATES]
FUNCTIONS = [name for name in CALLABLE if not inspect.isclass(PUBLIC[name])]
# Exceptions and enums are made by embellama, not by its users.
CLASSES = [
    name
    for name, value in PUBLIC.items()
    if inspect.isclass(value) and not issubclass(value, (enum.Enum, Exception))
]

# What a caller must be ready for.
RAISES = {
    "EmbeddingEngine": {"ModelNotFoundError", "ResourceLimitError"},
    "EmbeddingEngine.drop_model": {"ModelNotFoundError"},
    "EmbeddingEngine.get_or_init": {"ModelNotFoundError"},
    "EmbeddingEngine.load_model": {"ConfigurationError"},
    "EmbeddingEngine.model": {"ModelNotFoundError", "ResourceLimitError"},
    "EmbeddingEngine.model_info": {"ModelNotFoundError"},
    "EmbeddingEngine.unload_model": {"ModelNotFoundError"},
    "EmbeddingEngine.unregister_model": {"ModelNotFoundError"},
    "EmbeddingModel": {"ConfigurationError", "ModelLoadError", "ModelNotFoundError"},
    "EmbeddingModel.count_tokens": {"InvalidInputError"},
    "EmbeddingModel.embed": {"EmbeddingGenerationError", "InvalidInputError"},
    "EmbeddingModel.embed_batch": {
        "ConfigurationError",
        "DimensionMismatchError",
        "EmbeddingGenerationError",
        "InvalidInputError",
        "OperationTimeoutError",
    },
    "EmbeddingModel.embed_batch_multi": {"InvalidInputError"},
    "EmbeddingModel.embed_documents": {"InvalidInputError"},
    "EmbeddingModel.embed_iter": {"ConfigurationError", "InvalidInputError"},
    "EmbeddingModel.embed_multi": {"InvalidInputError"},
    "EmbeddingModel.embed_queries": {"InvalidInputError"},
    "EmbeddingModel.embed_query": {"InvalidInputError"},
    "EmbeddingModel.embed_tokens": {"InvalidInputError"},
    "EmbeddingModel.load": {"ModelLoadError", "ModelNotFoundError"},
    "EmbeddingModel.pairwise_similarity": {"DimensionMismatchError"},
    "EmbeddingModel.rerank": {"ConfigurationError", "InvalidInputError"},
    "EmbeddingModel.similarity": {"DimensionMismatchError"},
    "EmbeddingModel.tokenize": {"InvalidInputError"},
    "EmbeddingModel.verify": {"EmbeddingGenerationError"},
    "EmbeddingModel.warmup": {"ModelLoadError"},
    "EngineConfig": {"ConfigurationError"},
    "EngineConfig.from_env": {"ConfigurationError"},
    "EngineConfig.replace": {"ConfigurationError"},
    "ModelConfig": {"ConfigurationError"},
    "ModelConfig.replace": {"ConfigurationError"},
    "PNorm": {"ConfigurationError"},
    "calibrate": {"ConfigurationError", "DimensionMismatchError"},
    "cluster": {"ConfigurationError", "DimensionMismatchError", "InvalidInputError"},
    "model_info": {"ModelLoadError", "ModelNotFoundError"},
    "near_duplicates": {"ConfigurationError", "DimensionMismatchError", "InvalidInputError"},
    "pairwise_similarity": {"ConfigurationError", "DimensionMismatchError"},
    "quantize": {"ConfigurationError", "DimensionMismatchError"},
    "search": {"ConfigurationError", "DimensionMismatchError", "InvalidInputError"},
    "similarity": {"ConfigurationError", "DimensionMismatchError"},
}


def sections(value: object) -> dict[str, str]:
    """Return the numpydoc sections of a docstring, what stands before the first under ""."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(value) or "", flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> set[str]:
    """Return the names that a section lists: its lines without indent, up to the colon."""
    heads = re.findall(r"^(\S[^:\n]*)", section, re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


@pytest.mark.parametrize("name", PUBLIC)
def test_documented(name: str) -> None:
    assert re.match(r"\S.*[.:]", sections(PUBLIC[name])[""]), "a summary is missing"


@pytest.mark.parametrize("name", CALLABLE)
def test_has_an_example(name: str) -> None:
    assert ">>>" in sections(PUBLIC[name]).get("Examples", "")


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_parameters(name: str) -> None:
    documented = sections(PUBLIC[name])
    listed = entries(documented.get("Parameters", documented.get("Attributes", "")))
    expected = set(inspect.signature(PUBLIC[name]).parameters) - {"self"}
    assert listed == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_returns(name: str) -> None:
    returned = inspect.signature(PUBLIC[name]).return_annotation
    documented = sections(PUBLIC[name])
    assert ("Returns" in documented or "Yields" in documented) == (returned not in (None, "None"))


@pytest.mark.parametrize("name", RAISES)
def test_raises(name: str) -> None:
    assert RAISES[name] <= entries(sections(PUBLIC[name])["Raises"])


def test_the_engine_has_what_the_model_does() -> None:
    of_model = {
        name.partition(".")[2]
        for name, value in PUBLIC.items()
        if name.startswith("EmbeddingModel.") and inspect.isfunction(value)
    }
    # An engine loads by name, and was given names of its own for some.
    of_model -= {"load", "unload", "warmup"}
    expected = {f"EmbeddingEngine.{name}": f"EmbeddingModel.{name}" for name in of_model}
    expected["EmbeddingEngine.warmup_model"] = "EmbeddingModel.warmup"
    of_engine = {name: target for name, target in DELEGATES.items() if "Engine" in name}
    assert of_engine == expected


@pytest.mark.parametrize(("name", "target"), DELEGATES.items())
def test_a_delegate_takes_all_that_its_target_takes(name: str, target: str) -> None:
    delegate = inspect.signature(PUBLIC[name]).parameters
    for parameter in inspect.signature(PUBLIC[target]).parameters.values():
        assert delegate[parameter.name] == parameter
    assert set(delegate) - set(inspect.signature(PUBLIC[target]).parameters) <= {"model", "name"}
