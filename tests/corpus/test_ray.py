# SPDX-License-Identifier: Apache-2.0
"""Ray Data on this machine: rows out are rows in, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from support.child_process import TIMEOUT
from support.tiny_model import write_tiny_bert

from embellama import ConfigurationError, EmbeddingModel, ModelConfig
from embellama.arrow import vectors_of
from embellama.corpus import CorpusJob

ray = pytest.importorskip("ray", reason="needs ray[data]")

pytestmark = [
    pytest.mark.slow,
    # Ray's own, and of what it imports.
    pytest.mark.filterwarnings("default"),
]

LETTERS = "abcdefghijklmnop"
TEXTS = [f"{a} {b} {c} {d}" for a in LETTERS for b in LETTERS for c in LETTERS for d in "abcd"]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DATA_DISABLE_PROGRESS_BARS="1")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return ModelConfig(write_tiny_bert(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))


@pytest.fixture
def two_cpus() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    yield
    ray.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    texts = [*TEXTS, None, " "]
    table = pyarrow.table({"id": range(len(texts)), "text": texts})
    path = tmp_path / "corpus" / "x.parquet"
    path.parent.mkdir()
    pyarrow.parquet.write_table(table, path, row_group_size=1000)
    return path


def assert_complete(table: pyarrow.Table, config: ModelConfig) -> None:
    """Each row once, with the vector that one process computes."""
    table = table.sort_by("id")
    assert table["id"].to_pylist() == [*range(len(TEXTS) + 2)]
    with EmbeddingModel(config) as model:
        expected = model.embed_batch(TEXTS)
    vectors = vectors_of(table["embedding"])
    np.testing.assert_array_equal(vectors[:-2], expected)
    assert np.isnan(vectors[-2:]).all()
    assert table["error"].null_count == len(TEXTS)


@pytest.mark.parametrize("sink", ["parquet", "lance"])
@pytest.mark.usefixtures("two_cpus")
def test_from_parquet_to_a_sink(sink: str, source: Path, config: ModelConfig) -> None:
    from embellama.ray import embed

    dataset = embed(ray.data.read_parquet(str(source)), config)
    output = source.parents[1] / "vectors"
    if sink == "parquet":
        dataset.write_parquet(str(output))
        table = pyarrow.parquet.read_table(output)
    else:
        lance = pytest.importorskip("lance", reason="needs pylance")
        dataset.write_lance(str(output))
        table = lance.dataset(str(output)).to_table()
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 32)
    assert_complete(table, config)


def test_memory_is_bounded(tmp_path: Path, config: ModelConfig) -> None:
    """A corpus of four times the object store goes through it, and no process grows with it."""
    from embellama.ray import embed

    store, payload, n_rows = 80 << 20, 4096, 88_000
    source, output = tmp_path / "corpus", tmp_path / "vectors"
    source.mkdir()
    for start in range(0, n_rows, 4000):
        rows = range(start, start + 4000)
        columns = {
            "id": rows,
            "text": [TEXTS[i % len(TEXTS)] for i in rows],
            "payload": [os.urandom(payload) for _ in rows],
        }
        table = pyarrow.table(columns)
        pyarrow.parquet.write_table(table, source / f"{start}.parquet", compression="none")
    assert n_rows * payload > 4 * store
    peaks: dict[str, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for pid, line in processes_of_this_test().items():
                name = line.partition("\0")[0][:40]
                peaks[name] = max(peaks.get(name, 0), own_memory(pid))

    ray.init(
        num_cpus=2, object_store_memory=store, include_dashboard=False, logging_level="warning"
    )
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        dataset = ray.data.read_parquet(str(source))
        embed(dataset, config, batch_size=4000).write_parquet(str(output))
    finally:
        done.set()
        watcher.join()
        ray.shutdown()
    ids = pyarrow.parquet.read_table(output, columns=["id"])["id"].to_pylist()
    assert sorted(ids) == [*range(n_rows)]
    actors = [peak for name, peak in peaks.items() if "Embedder" in name]
    assert 0 < max(actors) < 400 << 20, peaks
    assert max(peaks.values()) < 1 << 30, peaks
    print({name: peak >> 20 for name, peak in peaks.items()})


def own_memory(pid: int) -> int:
    """Bytes of a process that it shares with no other; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return 1024 * int(sizes[0]) if sizes else 0


@pytest.mark.usefixtures("two_cpus")
def test_threads_are_those_of_the_actor_and_all_cpus_are_refused(config: ModelConfig) -> None:
    from embellama.ray import Embedder, embed

    actor = ray.remote(num_cpus=1)(Embedder).remote(config)

    def threads(embedder: Any) -> int:
        n_threads: int = embedder.model.config.n_threads
        return n_threads

    assert ray.get(actor.__ray_call__.remote(threads)) == 1
    ray.kill(actor)
    apart = ray.remote(num_cpus=1)(Embedder).remote(config, n_threads=2)
    assert ray.get(apart.__ray_call__.remote(threads)) == 2
    ray.kill(apart)
    dataset = ray.data.from_arrow(pyarrow.table({"text": ["a b"]}))
    for sizes in ({"num_cpus": 2}, {"actors": 2}):
        with pytest.raises(ConfigurationError, match="take every CPU of the cluster"):
            embed(dataset, config, **sizes)  # type: ignore[arg-type]
    greedy = dataset.map_batches(
        Embedder,
        fn_constructor_args=(config,),
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=2,
        batch_format="pyarrow",
    )
    with pytest.raises(ray.exceptions.RayError, match="take every CPU of the cluster"):
        greedy.materialize()


@pytest.mark.usefixtures("two_cpus")
def test_rerank(reranker_path: Path) -> None:
    from embellama.ray import rerank

    documents = ["Cats sleep up to 16 hours.", "Interest rates rose."]
    dataset = ray.data.from_arrow(pyarrow.table({"id": [0, 1], "text": documents}))
    query = "How long do cats sleep?"
    rows = sorted(
        rerank(dataset, str(reranker_path), query=query).take_all(), key=lambda row: row["id"]
    )
    with EmbeddingModel(reranker_path) as model:
        found = {result.index: result.score for result in model.rerank(query, documents)}
    np.testing.assert_allclose([row["score"] for row in rows], [found[0], found[1]], atol=1e-4)


def corpus_job(source: Path, config: ModelConfig) -> CorpusJob:
    output = str(source.parents[1] / "vectors")
    # One thread, so that a job lasts long enough to be killed.
    return CorpusJob(str(source.parent), output, config.replace(n_threads=1), keep=["id"])


def slow_source(tmp_path: Path, n_units: int = 12) -> tuple[Path, list[str]]:
    """A corpus that takes a tiny model some seconds."""
    texts = [f"{TEXTS[i % len(TEXTS)]} {' '.join('abcdefgh' * 5)}" for i in range(n_units * 2000)]
    table = pyarrow.table({"id": range(len(texts)), "text": texts})
    path = tmp_path / "corpus" / "x.parquet"
    path.parent.mkdir()
    pyarrow.parquet.write_table(table, path, row_group_size=2000)
    return path, texts


def assert_corpus_complete(job: CorpusJob, texts: list[str], config: ModelConfig) -> None:
    table = pyarrow.parquet.read_table(job.output).sort_by("id")
    assert table["id"].to_pylist() == [*range(len(texts))]
    with EmbeddingModel(config) as model:
        expected = model.embed_batch(texts)
    np.testing.assert_array_equal(vectors_of(table["embedding"]), expected)
    assert {entry["status"] for entry in job.manifest(verify=True)} == {"done"}


@pytest.mark.usefixtures("two_cpus")
def test_actors_that_are_killed(tmp_path: Path, config: ModelConfig) -> None:
    from embellama.ray import run_corpus

    source, texts = slow_source(tmp_path)
    job = corpus_job(source, config)
    n_killed = 0
    done = threading.Event()

    def kill() -> None:
        """Kill the process of an actor a few times, at random moments."""
        nonlocal n_killed
        while not done.is_set() and n_killed < 3:
            time.sleep(random.uniform(0.2, 2.0))
            for pid, line in processes_of_this_test().items():
                if "UnitActor" in line:
                    os.kill(pid, 9)
                    n_killed += 1

    killer = threading.Thread(target=kill)
    killer.start()
    reports = run_corpus(job, num_cpus=1)
    done.set()
    killer.join()
    assert n_killed > 0
    assert len(reports) == 12
    assert_corpus_complete(job, texts, config)


def processes_of_this_test() -> dict[int, str]:
    """The command lines of this process's children, and theirs, by their ids."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                lines[int(entry.name)] = (entry / "cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {os.getpid()}
    for _ in range(4):  # raylet, worker, and what starts them
        found |= {pid for pid, parent in parents.items() if parent in found}
    return {pid: lines[pid] for pid in found if pid in lines and pid != os.getpid()}


def count_outputs(job: CorpusJob) -> int:
    output = Path(job.output)
    return sum(not path.name.startswith(".") for path in output.iterdir()) if output.exists() else 0


def test_a_node_that_is_killed(tmp_path: Path, config: ModelConfig) -> None:
    from ray.cluster_utils import Cluster

    from embellama.ray import run_corpus

    source, texts = slow_source(tmp_path)
    job = corpus_job(source, config)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    try:
        second = cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, logging_level="warning")
        assert len(ray.nodes()) == 2
        n_done = 0

        def kill() -> None:
            nonlocal n_done
            while (n_done := count_outputs(job)) < 3:
                time.sleep(0.02)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        # One actor a node, whose second CPU is left for reads.
        reports = run_corpus(job)
        killer.join()
        assert n_done < len(reports) == 12
        assert sum(node["Alive"] for node in ray.nodes()) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert_corpus_complete(job, texts, config)


def test_a_driver_that_is_killed(tmp_path: Path, config: ModelConfig) -> None:
    source, texts = slow_source(tmp_path)
    job = corpus_job(source, config)
    program = textwrap.dedent(
        """
        import json, sys, ray
        from embellama import ModelConfig
        from embellama.corpus import CorpusJob
        from embellama.ray import run_corpus

        source, output, model = sys.argv[1:]
        ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
        config = ModelConfig(model, n_threads=1)
        reports = run_corpus(CorpusJob(source, output, config, keep=["id"]), num_cpus=1)
        print(json.dumps(reports))
        """
    )
    command = [sys.executable, "-c", program, str(source.parent), job.output]
    command.append(str(config.model_path))
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while count_outputs(job) < 3:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    before = {name for name in os.listdir(job.output) if not name.startswith(".")}
    assert len(before) < 12
    again = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    reports = json.loads(again.stdout.splitlines()[-1])
    # What the killed one had finished is not computed again.
    assert {report["file"] for report in reports if report["computed"] == 0} >= before
    assert_corpus_complete(job, texts, config)
