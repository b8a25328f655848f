# SPDX-License-Identifier: Apache-2.0
"""An engine: several models by name, loaded when first used."""

from __future__ import annotations

import embellama
from embellama import EmbeddingEngine, EngineConfig, ModelConfig

TEXT = "Which model computes this?"


def show(engine: EmbeddingEngine) -> None:
    """Print the registered models, and whether their weights are in memory."""
    for name in engine.list_models():
        state = "loaded" if engine.is_model_loaded(name) else "not loaded"
        default = ", the default" if name == engine.default_model else ""
        print(f"  {name}: {state}{default}")


def main() -> None:
    """Register two models, use both, and free one."""
    # Here both are the same file with different settings; any GGUF file works for each.
    everything = ModelConfig("all-MiniLM-L6-v2", model_name="everything")
    beginning = everything.replace(model_name="beginning", truncate=16)

    engine = EmbeddingEngine(EngineConfig(everything, memory_limit_mb=2000))
    engine.load_model(beginning)
    print("Registered:")
    show(engine)

    first = engine.embed(TEXT)
    second = engine.embed(TEXT, model="beginning")
    print(f"Both used; a short text gives cosine {embellama.similarity(first, second)[0, 0]:.3f}:")
    show(engine)

    engine.drop_model("beginning")
    print("One dropped, to be loaded again on its next use:")
    show(engine)

    engine.unload_model("beginning")
    try:
        engine.embed(TEXT, model="beginning")
    except embellama.ModelNotFoundError as error:
        print(f"Unloaded: {error}")


if __name__ == "__main__":
    main()
