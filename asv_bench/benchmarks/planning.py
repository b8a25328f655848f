# SPDX-License-Identifier: Apache-2.0
"""Which texts share a micro-batch."""

from __future__ import annotations

import numpy as np

from embellama import batch


class Plan:
    params = (1_000, 100_000)
    param_names = ("n_texts",)

    def setup(self, n_texts: int) -> None:
        self.lengths = np.random.default_rng(0).integers(3, 200, n_texts, dtype=np.int32)

    def time_plan(self, n_texts: int) -> None:
        batch.plan(self.lengths, max_tokens=256, max_texts=256, n_workers=2)
