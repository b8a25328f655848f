# SPDX-License-Identifier: Apache-2.0
"""What llama.cpp's tokenizers do where a file says nothing (llama-vocab.cpp)."""

from __future__ import annotations

import dataclasses

__all__ = [
    "ALWAYS_BOS",
    "DEFAULT_BOS",
    "DEFAULT_SEPARATOR",
    "NO_BOS_ID",
    "PRE_TOKENIZERS_AFTER_NFC",
    "PRE_TOKENIZERS_WITHOUT_REGEX",
    "TOKENIZERS",
    "Tokenizer",
    "added_by_default",
]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """What a tokenizer uses where the file says nothing: token ids, and which it adds."""

    bos: int | None = None
    eos: int | None = None
    separator: int | None = None
    unknown: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    is_bpe: bool = False


# Left out: rwkv, whose loop never ends and fills the memory unless every byte is a token; plamo2
# and plamo3, whose path may have steps of no length; test; none and no_vocab, without tokens.
TOKENIZERS = {
    "llama": Tokenizer(bos=1, eos=2, unknown=0, add_bos=True),
    "bert": Tokenizer(bos=101, separator=102, unknown=100),
    "gpt2": Tokenizer(bos=11, eos=11, is_bpe=True),
    "hybriddna": Tokenizer(bos=11, eos=11, is_bpe=True),
    "whitespace": Tokenizer(bos=11, eos=11, is_bpe=True),
    "t5": Tokenizer(eos=1, unknown=2, add_eos=True),
    "gemma4": Tokenizer(is_bpe=True),
}
ALWAYS_BOS = frozenset(("gemma4", "granite-embed-multi-311m"))
_DEFAULT_BOS_NAMES = """
llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken chameleon
"""
DEFAULT_BOS = ALWAYS_BOS | frozenset(_DEFAULT_BOS_NAMES.split())
DEFAULT_SEPARATOR = frozenset(("jina-v1-en", "jina-v2-code", "roberta-bpe"))
NO_BOS_ID = frozenset(("chatglm-bpe", "glm4", "glm5"))

# Values of tokenizer.ggml.pre that llama.cpp splits texts by without std::regex: their one
# expression (llama-vocab.cpp) has a loop of its own (unicode_regex_split_custom, unicode.cpp).
PRE_TOKENIZERS_WITHOUT_REGEX = frozenset(
    """
gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en
jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4
llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe
chatglm-bpe glm4 glm5
qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 qwen35
gemma4 granite-embed-multi-311m sarvam-moe mmbert
""".split()
)

# Those of models whose tokenizer.json begins with NFC, which llama.cpp leaves out.
PRE_TOKENIZERS_AFTER_NFC = frozenset(("qwen2", "qwen35", "f2llmv2", "modern-bert", "olmo"))


def added_by_default(model: str, pre: str) -> dict[str, bool]:
    """Return whether ``"bos"``, ``"eos"`` and ``"sep"`` are added where the file says nothing.

    Empty for a tokenizer that does not ask the file.

    Parameters
    ----------
    model, pre : str
        What the file has in ``tokenizer.ggml.model``, a key of :data:`TOKENIZERS`, and in
        ``tokenizer.ggml.pre``.
    """
    tokenizer = TOKENIZERS[model]
    if model == "bert":
        return {}
    return {
        "bos": pre in DEFAULT_BOS if tokenizer.is_bpe else tokenizer.add_bos,
        "eos": tokenizer.add_eos,
        "sep": tokenizer.is_bpe and pre in DEFAULT_SEPARATOR,
    }
