# SPDX-License-Identifier: Apache-2.0
"""Every program in examples/ runs, without a warning, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.child_process import TIMEOUT
from support.folders import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


def run_example(name: str, *arguments: str) -> list[str]:
    # Settings of whoever runs the tests are not those of the examples; the cache is kept.
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("EMBELLAMA_") or variable == "EMBELLAMA_CACHE"
    }
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=3 * TIMEOUT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_example_is_run_here() -> None:
    tested = re.findall(r'run_example\("([\w.]+)"', Path(__file__).read_text(encoding="utf-8"))
    assert sorted(tested) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_simple() -> None:
    lines = run_example("simple.py")
    assert lines[0] == "4 sentences, 384 dimensions each, float32"
    scores = [float(line[:6]) for line in lines[2:]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert lines[2].endswith("put it in a hot oven.")
    # sentence-transformers' cosine of the two texts.
    assert scores[0] == pytest.approx(0.559, abs=2e-3)


def test_batch() -> None:
    lines = run_example("batch.py")
    assert "40 of 40 texts embedded" in lines
    assert "float32   384 values,  1536 bytes per text" in lines
    assert "ubinary    48 values,    48 bytes per text" in lines
    assert lines[-1] == "texts 30 to 39: an array of (10, 384)"


def test_error_handling() -> None:
    lines = run_example("error_handling.py")
    assert [line.split(":")[0] for line in lines] == [
        "Not found",
        "ConfigurationError",
        "Text 1 is to blame",
        "Too slow",
        "Skipped text 1",
        "Skipped text 2",
        "Embedded texts [0, 3]",
        "Cut to 100 tokens",
    ]


def test_configuration() -> None:
    lines = run_example("configuration.py")
    parts = [line.partition(" pooling ") for line in lines[:-1]]
    rows = {title.strip(): values for title, _, values in parts}
    assert rows["the defaults"] == "mean  12 tokens  length 1.000"
    assert rows["first token's vector"] == "cls   12 tokens  length 1.000"
    assert rows["names do as well"] == "max   12 tokens  length 1.000"
    assert rows["first 6 tokens only"] == "mean   6 tokens  length 1.000"
    assert float(rows["not normalised"].split()[-1]) > 2
    assert float(rows["1-norm"].split()[-1]) < 0.5
    assert lines[-1] == "from the environment: PoolingStrategy.CLS, at most 500 MB"


def test_several_models() -> None:
    lines = run_example("several_models.py")
    assert [line.strip() for line in lines if line.startswith("  beginning")] == [
        "beginning: not loaded",
        "beginning: loaded",
        "beginning: not loaded",
    ]
    assert lines.count("  everything: loaded, the default") == 3
    assert "a short text gives cosine 1.000" in lines[3]
    assert lines[-1].startswith("Unloaded: no model named 'beginning' is registered")


def test_reranking(reranker_path: Path) -> None:
    lines = run_example("reranking.py", str(reranker_path))
    nearest, reranked = lines[1:4], lines[5:]
    assert nearest[0].endswith("about 3.7 million registered inhabitants.")
    assert lines[4] == "Reranked by logit:"
    scores = [float(line[:7]) for line in reranked]
    assert scores == sorted(scores, reverse=True)
    assert sorted(line[9:] for line in reranked) == sorted(line[9:] for line in nearest)


def test_late_interaction() -> None:
    lines = run_example("late_interaction.py")
    assert lines[0] == "the height of Mount Everest: 5 tokens of 384 dimensions"
    scores = [float(line[:5]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)
    assert lines[1].endswith("rises 8,849 metres above the sea. (21 tokens)")
    assert lines[-1].endswith("dark bottle. (9 tokens)")
