# SPDX-License-Identifier: Apache-2.0
"""Every program in examples/ runs, without a warning, and prints what it promises.

Those that connect embellama with other libraries are skipped without them: ``.ci/run`` installs
examples/requirements.txt and runs this file again.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.child_process import TIMEOUT
from support.folders import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


def environment() -> dict[str, str]:
    """Settings of whoever runs the tests are not those of the examples; the cache is kept."""
    return {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("EMBELLAMA_") or variable == "EMBELLAMA_CACHE"
    }


def run_example(name: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=3 * TIMEOUT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    tested = {*re.findall(r'run_example\("([\w.]+)"', text), "service.py", "notebook.ipynb"}
    assert tested == {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}}


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


def test_rag(tmp_path: Path, reranker_path: Path) -> None:
    pytest.importorskip("lancedb", exc_type=ImportError)
    database = str(tmp_path / "database")
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "bread.md").write_text(
        "# Bread\n\nYeast makes the dough rise.\n" + "\nMore.\n" * 150
    )
    (documents / "money.md").write_text(
        "# Money\n\nThe bank raised its rates.\n\n# Houses\n\nDear.\n"
    )
    # 150 paragraphs of 4 tokens do not fit into three chunks of 200 with what stands before them.
    assert run_example("rag.py", "index", str(documents), database) == ["6 chunks"]
    question = "Why does dough rise?"
    lines = run_example("rag.py", "ask", database, question)
    assert lines[2] == "[bread.md]"
    assert lines[3] == "# Bread"
    assert lines[-1] == question
    # The index is made anew, and the cross-encoder orders what was found.
    assert run_example("rag.py", "index", str(documents), database) == ["6 chunks"]
    reranked = run_example("rag.py", "ask", database, question, "--reranker", str(reranker_path))
    assert sum(line.startswith("[") for line in reranked) == 3
    assert reranked != lines


def test_small_index() -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("usearch")
    lines = run_example("small_index.py", "--limit", "600")
    assert lines[:2] == [
        "60 queries, 540 texts, 10 neighbours of each",
        "float32: 829440 bytes, int8: 207360 bytes",
    ]
    assert [line.split()[0] for line in lines[2:]] == ["FAISS", "usearch"]
    for line in lines[2:]:
        before, after = map(float, re.findall(r"[\d.]+", line))
        # int8 changes the order of near neighbours, and the candidates hold nearly all of them.
        # The graph of usearch differs from run to run.
        assert 0.9 < before < after
        assert after > 0.97


def test_service() -> None:
    for library in ("fastapi", "httpx", "uvicorn"):
        pytest.importorskip(library)
    # Connections to a socket that listens already wait until the service has loaded its model.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor, port = listening.fileno(), listening.getsockname()[1]
        command = [sys.executable, "-W", "error", "-m", "uvicorn", "service:app"]
        command += ["--fd", str(descriptor), "--log-level", "warning"]
        service = subprocess.Popen(
            command,
            cwd=EXAMPLES,
            env=environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
            pass_fds=[descriptor],
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        lines = run_example("service_client.py", f"http://127.0.0.1:{port}")
    finally:
        service.terminate()
        printed = service.communicate(timeout=TIMEOUT)[1]
    assert printed == ""
    assert lines == [
        "(8, 5, 384) all-MiniLM-L6-v2",
        "422 all-MiniLM-L6-v2: text 1 has 1002 tokens, 512 is the limit: "
        "split it, or use truncate=True",
    ]


def test_data_frames() -> None:
    for library in ("pandas", "polars", "pyarrow"):
        pytest.importorskip(library)
    assert run_example("data_frames.py") == [
        "pandas: 4 rows, float32 True",
        "polars: Array(Float32, shape=(384,)) True",
        "  21  The parcel was damaged.",
        "  18  It arrived broken, and nobody answers.",
    ]


def test_notebook() -> None:
    """The outputs that the file holds are those of this run, but for the bar on stderr.

    The instruction set is that of the processor.
    """
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")

    def outputs(notebook) -> list[str]:
        return [
            re.sub(
                r"on \w+>$",
                "on any>",
                output["data"]["text/plain"] if "data" in output else output["text"],
            )
            for cell in notebook.cells
            for output in cell.get("outputs", ())
            if output.get("name") != "stderr"
        ]

    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    stored = outputs(notebook)
    assert len(stored) == 5
    nbclient.NotebookClient(notebook, timeout=TIMEOUT).execute()
    assert outputs(notebook) == stored
