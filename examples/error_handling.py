# SPDX-License-Identifier: Apache-2.0
"""The exceptions that embellama raises, and what to do about them."""

from __future__ import annotations

import embellama

TEXTS = ["A good text.", "", "far too long " * 400, "Another good text."]


def main() -> None:
    """Provoke errors, catch them, and embed the good texts of a batch in spite of the bad ones."""
    try:
        embellama.EmbeddingModel("missing.gguf")
    except embellama.ModelNotFoundError as error:
        print(f"Not found: {error}")

    try:
        embellama.ModelConfig("all-MiniLM-L6-v2", n_threads=0)
    except ValueError as error:  # every exception is also the built-in one expects
        print(f"{type(error).__name__}: {error}")

    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        try:
            model.embed_batch(TEXTS)
        except embellama.InvalidInputError as error:
            print(f"Text {error.index} is to blame: {error}")

        try:
            model.embed_batch(["A text of some length. " * 40] * 200, timeout=0.01)
        except embellama.OperationTimeoutError as error:
            print(f"Too slow: {error}")

        # Bad texts get a row of NaN and a reason; the others get their vectors.
        result = model.embed_batch(TEXTS, on_error="nan", details=True)
        for index, reason in result.errors.items():
            print(f"Skipped text {index}: {type(reason).__name__}")
        good = [index for index in range(len(TEXTS)) if index not in result.errors]
        print(f"Embedded texts {good}: {result.embeddings[good].shape}")

    # A text that is too long can be cut instead: at a length of yours, or with truncate=True where
    # the model's authors did.
    config = embellama.ModelConfig("all-MiniLM-L6-v2", truncate=100)
    with embellama.EmbeddingModel(config) as model:
        result = model.embed_batch([TEXTS[2]], details=True)
        print(f"Cut to {result.token_counts[0]} tokens: {bool(result.truncated[0])}")


if __name__ == "__main__":
    main()
