# SPDX-License-Identifier: Apache-2.0
"""The methods of a model as those of an engine, which take the model's name.

Type checkers read their signatures in the stub beside this file, which ``tests/support/stubs.py``
writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from embellama.keywords import with_signature
from embellama.model import EmbeddingModel

__all__ = ["EngineMethods"]


def _by_name(method: Callable[..., Any]) -> Any:
    """Return a method that finds the model of a name, and calls the model's method.

    The name is the last argument that needs no keyword, `model`; None is the default model.
    """
    own = inspect.signature(method)
    positional = [
        each for each in own.parameters.values() if each.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]
    others = [each for each in own.parameters.values() if each not in positional]
    model = Parameter(
        "model", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation="str | None"
    )
    n_with_model = len(positional)  # self is one of them

    def call_model(self: Any, *arguments: Any, **keywords: Any) -> Any:
        name = keywords.pop("model", None)
        if len(arguments) == n_with_model:
            arguments, name = arguments[:-1], arguments[-1]
        return getattr(self.model(name), method.__name__)(*arguments, **keywords)

    async def await_model(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return await call_model(self, *arguments, **keywords)

    call: Any = await_model if inspect.iscoroutinefunction(method) else call_model
    call.__name__ = method.__name__
    call.__doc__ = (
        f"See :meth:`EmbeddingModel.{method.__name__}`. `model` is its name; default: the default "
        "model."
    )
    return with_signature(call, own.replace(parameters=[*positional, model, *others]))


class EngineMethods:
    """Methods of :class:`embellama.EmbeddingEngine`."""

    embed = _by_name(EmbeddingModel.embed)
    embed_query = _by_name(EmbeddingModel.embed_query)
    embed_batch = _by_name(EmbeddingModel.embed_batch)
    embed_queries = _by_name(EmbeddingModel.embed_queries)
    embed_documents = _by_name(EmbeddingModel.embed_documents)
    aembed = _by_name(EmbeddingModel.aembed)
    aembed_query = _by_name(EmbeddingModel.aembed_query)
    aembed_batch = _by_name(EmbeddingModel.aembed_batch)
    aembed_queries = _by_name(EmbeddingModel.aembed_queries)
    aembed_documents = _by_name(EmbeddingModel.aembed_documents)
    embed_iter = _by_name(EmbeddingModel.embed_iter)
    embed_tokens = _by_name(EmbeddingModel.embed_tokens)
    embed_multi = _by_name(EmbeddingModel.embed_multi)
    embed_batch_multi = _by_name(EmbeddingModel.embed_batch_multi)
    rerank = _by_name(EmbeddingModel.rerank)
    tokenize = _by_name(EmbeddingModel.tokenize)
    count_tokens = _by_name(EmbeddingModel.count_tokens)
    similarity = _by_name(EmbeddingModel.similarity)
    pairwise_similarity = _by_name(EmbeddingModel.pairwise_similarity)
    cache_stats = _by_name(EmbeddingModel.cache_stats)
    clear_cache = _by_name(EmbeddingModel.clear_cache)
    warm_cache = _by_name(EmbeddingModel.warm_cache)
    verify = _by_name(EmbeddingModel.verify)
