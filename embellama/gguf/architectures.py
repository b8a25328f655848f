# SPDX-License-Identifier: Apache-2.0
"""What llama.cpp knows as architectures, and what their graphs take for granted.

Files and functions named here are those of the pinned llama.cpp release.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = [
    "ARCHITECTURES",
    "EXAMINED_ARCHITECTURES",
    "FAMILIES",
    "MAX_LAYERS",
    "NOT_FOR_TEXTS",
    "OVERFLOWING_IN_FLOAT16",
    "Family",
]

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS, llama-hparams.h

# LLM_ARCH_NAMES, llama-arch.cpp.
_ARCHITECTURE_NAMES = """
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet
    bloom chameleon chatglm clef clip codeshell cogvlm cohere2 cohere2moe command-r dbrx deci
    deepseek deepseek2 deepseek2-ocr deepseek32 deepseek4 dflash dots1 dots3note dream eagle3
    ernie4_5 ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon falcon-h1 gemma
    gemma-embedding gemma-embedding2 gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4
    glm4moe glm5-next gpt-oss gpt2 gptj gptneox granite granite_swa granitehybrid granitemoe
    graniteswitch grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 hy_v4
    internlm2 jais jais2 jamba jina-bert-v2 jina-bert-v3 k2-horizon kimi-k3 kimi-linear laguna
    lfm2 lfm2moe llada llada-moe llama llama-embed llama4 maincoder mamba mamba2 maple mellum
    mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 mistral4 modern-bert mpt
    muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe neo-bert nomic-bert nomic-bert-moe
    olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3
    plm pockettts qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts
    qwen3vl qwen3vlmoe qwen4exp refact rnd1 rwkv6 rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3
    spark2_5 stablelm starcoder starcoder2 step35 t5 t5encoder talkie wavtokenizer-dec xverse
"""
ARCHITECTURES = frozenset(_ARCHITECTURE_NAMES.split())

NOT_FOR_TEXTS = {
    "clip": "the image half of a multimodal model (mmproj)",
    "clef": "a decision model",
    "dflash": "a draft head for speculative decoding",
    "eagle3": "a draft head for speculative decoding",
    "gemma4-assistant": "a draft head for speculative decoding",
    "dream": "a diffusion model",
    "llada": "a diffusion model",
    "llada-moe": "a diffusion model",
    "rnd1": "a diffusion model",
    "pockettts": "a speech model",
    "qwen3tts": "a speech model",
    "wavtokenizer-dec": "a speech model",
}

# Results inside them may be too large for float16, with which llama.cpp computes where weights are
# that. transformers keeps T5's `wo` in float32; EmbeddingGemma's card names bfloat16 and float32.
OVERFLOWING_IN_FLOAT16 = frozenset({"gemma-embedding", "t5encoder"})


@dataclasses.dataclass(frozen=True)
class Family:
    """What the graph of an architecture takes for granted (src/models/*.cpp)."""

    epsilon: str = "layer_norm_rms_epsilon"
    # Heads times head size is embedding_length.
    square: bool = False
    # There may be fewer key-value heads than heads.
    grouped: bool = True
    # Rotary positions turn none, a part or all of a head.
    rotary: Literal["none", "part", "whole"] = "part"
    window: Literal["none", "optional", "required"] = "none"
    # Every nth layer attends to everything, the others to a window. n where the file does not say
    # it, and whether the layer that attends to everything is the first of the n or the last.
    window_pattern: int = 0
    dense_first: bool = False
    # llama_model::create_memory gives it a cache for keys and values.
    cached: bool = True
    # Head counts and sizes may differ from layer to layer.
    by_layer: bool = False


_ENCODER = Family("layer_norm_epsilon", square=True, cached=False)
FAMILIES = {
    "bert": dataclasses.replace(_ENCODER, rotary="none"),
    "jina-bert-v2": dataclasses.replace(_ENCODER, rotary="none", grouped=False),
    "jina-bert-v3": _ENCODER,
    "nomic-bert": _ENCODER,
    "nomic-bert-moe": _ENCODER,
    "neo-bert": Family(square=True, cached=False),
    "eurobert": Family(square=True, cached=False),
    "modern-bert": dataclasses.replace(
        _ENCODER, grouped=False, window="optional", window_pattern=3, dense_first=True
    ),
    "gemma-embedding": Family(window="required", window_pattern=6, cached=False),
    "gemma-embedding2": Family(window="required", window_pattern=6, cached=False, by_layer=True),
    "t5encoder": Family(grouped=False, rotary="none", cached=False),
    "llama": Family(rotary="whole"),
    "llama-embed": Family(rotary="whole"),
    "qwen2": Family(rotary="whole", square=True),
    "qwen3": Family(rotary="whole"),
    "gemma": Family(),
    "gemma2": Family(window="required", window_pattern=2),
    "gemma3": Family(window="optional", window_pattern=6),
}

EXAMINED_ARCHITECTURES = frozenset(FAMILIES)
"""Architectures whose whole way through llama.cpp was read and fuzzed for what a file may break.

For others only what all architectures share is checked: take such files from sources you trust.
"""
