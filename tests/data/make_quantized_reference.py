# SPDX-License-Identifier: Apache-2.0
"""Write ``quantized_reference.npz``: sentence-transformers' ``quantize_embeddings``.

Made with sentence-transformers 6.2.0 and numpy 2.4.6::

    python tests/data/make_quantized_reference.py

- ``vectors`` (16, 384) float32: unit vectors, with zeros of both signs among their values.
- ``ranges`` (2, 384) float32: lowest and highest value of each dimension for int8 and uint8. Some
  values of ``vectors`` lie outside, some on the ends; dimension 0 has a range of width 0.
- ``int8``, ``uint8`` (16, 384): with these ranges. ``int8_own_ranges``, ``uint8_own_ranges``: with
  the ranges of ``vectors`` itself, the default.
- ``binary`` (16, 48) int8, ``ubinary`` (16, 48) uint8: a bit is set where the value is above 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from sentence_transformers.util.quantization import quantize_embeddings


def main() -> None:
    """Write the file beside this one."""
    generator = np.random.Generator(np.random.PCG64(16384))
    vectors = (generator.random((16, 384)) - 0.5).astype(np.float32)
    vectors[:, 7::50] = 0.0
    vectors[:, 9::50] = -0.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ranges = np.stack([np.quantile(vectors, 0.1, axis=0), np.quantile(vectors, 0.9, axis=0)])
    ranges = ranges.astype(np.float32)
    ranges[:, 1] = vectors[:, 1].min(), vectors[:, 1].max()
    ranges[:, 0] = 0.0

    arrays: dict[str, Any] = {"vectors": vectors, "ranges": ranges}
    with_ranges: tuple[Literal["int8", "uint8"], ...] = ("int8", "uint8")
    for precision in with_ranges:
        arrays[precision] = quantize_embeddings(vectors, precision=precision, ranges=ranges)
        arrays[f"{precision}_own_ranges"] = quantize_embeddings(vectors, precision=precision)
    arrays["binary"] = quantize_embeddings(vectors, precision="binary")
    arrays["ubinary"] = quantize_embeddings(vectors, precision="ubinary")
    np.savez_compressed(Path(__file__).with_name("quantized_reference.npz"), **arrays)


if __name__ == "__main__":
    main()
