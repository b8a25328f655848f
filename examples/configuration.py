# SPDX-License-Identifier: Apache-2.0
"""Settings: made once, checked at once, varied by ``replace``, or read from the environment."""

from __future__ import annotations

import os

import numpy as np

import embellama
from embellama import ModelConfig, NormalizationMode, PNorm, PoolingStrategy

TEXT = "Every setting has a default that suits the model."


def main() -> None:
    """Embed one text under several settings, and print what each of them changes."""
    default = ModelConfig("all-MiniLM-L6-v2", n_threads=1)
    variants = {
        "the defaults": default,
        "first token's vector": default.replace(pooling=PoolingStrategy.CLS),
        "names do as well": default.replace(pooling="max"),
        "not normalised": default.replace(normalization=NormalizationMode.NONE),
        "1-norm": default.replace(normalization=PNorm(1)),
        "first 6 tokens only": default.replace(truncate=6),
    }
    for title, config in variants.items():
        with embellama.EmbeddingModel(config) as model:
            result = model.embed_batch([TEXT], details=True)
            length = np.linalg.norm(result.embeddings[0])
            print(
                f"{title:20} pooling {model.pooling.value:4}  "
                f"{result.token_counts[0]:2} tokens  length {length:.3f}"
            )

    # Usually the shell sets these: EMBELLAMA_ and the name of any setting.
    os.environ["EMBELLAMA_MODEL_PATH"] = "all-MiniLM-L6-v2"
    os.environ["EMBELLAMA_POOLING"] = "cls"
    os.environ["EMBELLAMA_MEMORY_LIMIT_MB"] = "500"
    config_from_env = embellama.EngineConfig.from_env()
    print(
        f"from the environment: {config_from_env.model_config.pooling}, "
        f"at most {config_from_env.memory_limit_mb:.0f} MB"
    )


if __name__ == "__main__":
    main()
