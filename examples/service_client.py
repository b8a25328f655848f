# SPDX-License-Identifier: Apache-2.0
"""A client of ``service.py``, with httpx. Run it as ``python service_client.py URL``."""

from __future__ import annotations

import asyncio
import sys

import httpx
import numpy as np


async def main(url: str) -> None:
    """Send requests at the same time, then one with a bad text."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        requests = [{"texts": [f"text {i} of call {call}" for i in range(5)]} for call in range(8)]
        answers = await asyncio.gather(*(client.post("/embed", json=body) for body in requests))
        for answer in answers:
            answer.raise_for_status()
        vectors = np.array([answer.json()["vectors"] for answer in answers], np.float32)
        print(vectors.shape, answers[0].json()["model"])

        refused = await client.post("/embed", json={"texts": ["a good text", "long " * 1000]})
        print(refused.status_code, refused.json()["detail"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
