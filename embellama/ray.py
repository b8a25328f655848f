# SPDX-License-Identifier: Apache-2.0
"""Vectors by the actors of Ray Data: Embedder for ``Dataset.map_batches``, and corpus jobs.

Ray is imported when it is used, so that this module says what is missing where it is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embellama.arrow import TableEmbedder, TableReranker
from embellama.config import ModelConfig
from embellama.corpus import CorpusJob, CorpusWorker, Unit
from embellama.errors import ConfigurationError

if TYPE_CHECKING:
    import ray.data

__all__ = ["BATCH_ROWS", "Embedder", "Reranker", "embed", "rerank", "run_corpus"]

# Rows an actor takes at a time: enough for well-packed micro-batches.
BATCH_ROWS = 8192


class Embedder(TableEmbedder):
    """What ``Dataset.map_batches`` makes an actor of: adds vectors to batches of Arrow.

    :func:`embed` makes the call of ``map_batches`` with the settings that fit. An Embedder works
    without Ray too, as any :class:`embellama.arrow.TableEmbedder`.

    Parameters
    ----------
    model : ModelConfig or str
        As :class:`embellama.arrow.TableEmbedder`.
    n_threads : int, optional
        Cores to use. Default: as the model's configuration says, else as many as the ``num_cpus``
        of the actor. Ray keeps no actor to its cores, so without this each of several actors would
        use all of them.
    **options
        As :class:`embellama.arrow.TableEmbedder`.

    Raises
    ------
    ConfigurationError
        If the actor takes every CPU of the cluster, or an option does not fit the model.
    ModelNotFoundError, ModelLoadError
        As :class:`embellama.EmbeddingModel`.

    Examples
    --------
    >>> import pyarrow
    >>> from embellama.ray import Embedder
    >>> embedder = Embedder("all-MiniLM-L6-v2", dtype="int8", truncate_dim=256)
    >>> embedder(pyarrow.table({"text": ["a cat"]})).column_names
    ['text', 'embedding', 'n_tokens', 'truncated', 'error']
    """

    def __init__(
        self, model: ModelConfig | str, *, n_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(model, n_threads=n_threads or _threads_of_actor(model), **options)


class Reranker(TableReranker):
    """What ``Dataset.map_batches`` makes an actor of: adds scores to batches of Arrow.

    Parameters
    ----------
    model : ModelConfig or str
    n_threads : int, optional
        As :class:`Embedder`.
    **options
        As :class:`embellama.arrow.TableReranker`.
    """

    def __init__(
        self, model: ModelConfig | str, *, n_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(model, n_threads=n_threads or _threads_of_actor(model), **options)


def _import_ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise ImportError("this needs Ray: pip install embellama with its extra [ray]") from error
    return ray


def _threads_of_actor(model: ModelConfig | str) -> int | None:
    """Return the CPUs that this actor has, at least 1; None outside one, or if the model knows."""
    import sys

    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    n_cpus = context.get_assigned_resources().get("CPU", 0)
    _require_cpus_left(n_cpus, 1)
    if isinstance(model, ModelConfig) and model.n_threads is not None:
        return None
    return max(1, int(n_cpus))


def _require_cpus_left(n_cpus: float, actors: int) -> None:
    """Refuse a job that would wait for ever: its reads and writes need a CPU too."""
    ray = _import_ray()
    total = ray.cluster_resources().get("CPU", 0)
    if actors * n_cpus > total - 1:
        raise ConfigurationError(
            f"{actors} actors with num_cpus={n_cpus:g} take every CPU of the cluster, which has "
            f"{total:g}: reading and writing need one, and the job would wait for ever. Give fewer "
            "actors or a smaller num_cpus; n_threads may be larger than num_cpus"
        )


def embed(
    dataset: ray.data.Dataset,
    model: ModelConfig | str,
    *,
    actors: int | None = None,
    num_cpus: float | None = None,
    n_threads: int | None = None,
    batch_size: int = BATCH_ROWS,
    ray_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> ray.data.Dataset:
    """Add vectors to a dataset, by actors that each keep a loaded model.

    Parameters
    ----------
    dataset : ray.data.Dataset
    model : ModelConfig or str
        As :class:`Embedder`.
    actors : int, optional
        Default: one for each node that has CPUs.
    num_cpus : float, optional
        What Ray counts for each actor. Default: the CPUs of the smallest node less one, so that
        reads and writes have one on each node.
    n_threads : int, optional
        Cores that each actor uses. Default: `num_cpus`. Reading takes little, so all cores of a
        node may be better.
    batch_size : int, optional
        Rows that an actor takes at a time (default 8192).
    ray_options : Mapping, optional
        More arguments of ``Dataset.map_batches``, such as ``memory``.
    **options
        As :class:`embellama.arrow.TableEmbedder`.

    Returns
    -------
    ray.data.Dataset
        With the columns embedding, n_tokens, truncated and error more. Nothing is computed yet.

    Raises
    ------
    ConfigurationError
        If the actors take every CPU of the cluster.
    """
    return _mapped(
        dataset, Embedder, model, actors, num_cpus, n_threads, batch_size, ray_options, options
    )


def rerank(
    dataset: ray.data.Dataset,
    model: ModelConfig | str,
    *,
    actors: int | None = None,
    num_cpus: float | None = None,
    n_threads: int | None = None,
    batch_size: int = BATCH_ROWS,
    ray_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> ray.data.Dataset:
    """Add the score of each document to a dataset of queries and documents.

    Parameters
    ----------
    dataset, model, actors, num_cpus, n_threads, batch_size, ray_options
        As :func:`embed`.
    **options
        As :class:`embellama.arrow.TableReranker`.

    Returns
    -------
    ray.data.Dataset
        With the columns score and error more. Nothing is computed yet.

    Raises
    ------
    ConfigurationError
        If the actors take every CPU of the cluster.
    """
    return _mapped(
        dataset, Reranker, model, actors, num_cpus, n_threads, batch_size, ray_options, options
    )


def _mapped(
    dataset: ray.data.Dataset,
    kind: type[Embedder | Reranker],
    model: ModelConfig | str,
    actors: int | None,
    num_cpus: float | None,
    n_threads: int | None,
    batch_size: int,
    ray_options: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> ray.data.Dataset:
    ray = _import_ray()
    actors, num_cpus = _actors(actors, num_cpus)
    return dataset.map_batches(
        kind,
        fn_constructor_args=(model,),
        fn_constructor_kwargs={"n_threads": n_threads, **options},
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=num_cpus,
        batch_size=batch_size,
        batch_format="pyarrow",
        udf_modifying_row_count=False,
        **(ray_options or {}),
    )


def _actors(actors: int | None, num_cpus: float | None) -> tuple[int, float]:
    """Return how many actors there are to be, and the CPUs of each."""
    ray = _import_ray()
    if not ray.is_initialized():
        ray.init()
    nodes = [
        node["Resources"]["CPU"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    ]
    actors = actors or max(1, len(nodes))
    if num_cpus is None:
        num_cpus = max(1, math.floor(min(nodes, default=1)) - 1)
    _require_cpus_left(num_cpus, actors)
    return actors, num_cpus


class _UnitActor:
    """Computes units of a corpus job; made once a worker."""

    def __init__(self, job: CorpusJob, n_threads: int | None) -> None:
        self._worker = CorpusWorker(job, n_threads=n_threads or _threads_of_actor(job.model))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        report = self._worker.embed(Unit(**row))
        return {
            "source": report.unit.source,
            "number": report.unit.number,
            "file": report.file,
            "rows": report.rows,
            "errors": report.errors,
            "computed": report.computed,
        }


def run_corpus(
    job: CorpusJob,
    *,
    actors: int | None = None,
    num_cpus: float | None = None,
    n_threads: int | None = None,
    ray_options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Do what is not done of a corpus job, by actors of Ray.

    Whatever is killed, an actor, a node or this process: the same call goes on, and each unit has
    one file of vectors in the end.

    Parameters
    ----------
    job : CorpusJob
        Its output must be one that all nodes reach.
    actors, num_cpus, n_threads
        As :func:`embed`.
    ray_options : Mapping, optional
        More arguments of ``Dataset.map``, such as ``memory``.

    Returns
    -------
    list of dict
        For each unit ``source``, ``number``, ``file``, ``rows``, ``errors`` and ``computed``.

    Raises
    ------
    ConfigurationError
        If the actors take every CPU of the cluster.
    """
    ray = _import_ray()
    actors, num_cpus = _actors(actors, num_cpus)
    # Vectors vary in size too much for blocks of many units: a block a unit.
    units = [vars(unit) for unit in job.units()]
    dataset = ray.data.from_items(units, override_num_blocks=max(1, len(units)))
    done = dataset.map(
        _UnitActor,
        fn_constructor_args=(job, n_threads),
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=num_cpus,
        **(ray_options or {}),
    )
    reports: list[dict[str, Any]] = done.take_all()
    return sorted(reports, key=lambda report: (report["source"], report["number"]))
