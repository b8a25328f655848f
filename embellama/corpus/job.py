# SPDX-License-Identifier: Apache-2.0
"""A job over a corpus: which units there are, which are done, and how one is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from embellama import catalog
from embellama.arrow import config_on_this_machine, embed_texts, prompt_of, texts_of
from embellama.config import ModelConfig
from embellama.corpus.outputs import (
    OWN_COLUMNS,
    Outputs,
    UnitWriter,
    output_name,
    settings_digest,
)
from embellama.corpus.units import Unit, each_unit, each_window
from embellama.errors import ConfigurationError, EmbellamaError
from embellama.files.known_rows import KnownRows
from embellama.files.partial_output import differing_settings, partial_output
from embellama.model import EmbeddingModel
from embellama.quantization import DTYPES, dtype_name, quantization_levels, quantized_width
from embellama.results import EmbeddingResult
from embellama.vector_settings import cut_at_tokens, vector_settings

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CorpusJob", "CorpusWorker", "UnitReport"]

# Footers of outputs that are read at a time.
_READERS = 16


@dataclasses.dataclass(frozen=True)
class UnitReport:
    """What became of a unit.

    Attributes
    ----------
    unit : Unit
    file : str
        The name of its file of vectors.
    rows, errors : int
        How many rows the file has, and how many of them are without a vector.
    computed : int
        How many texts this call has computed; 0 if the unit was done before.
    """

    unit: Unit
    file: str
    rows: int
    errors: int
    computed: int


@dataclasses.dataclass(frozen=True)
class CorpusJob:
    """A corpus, and the vectors that are to be made of it.

    Any number of processes on any number of machines may run the same job, or parts of it, at the
    same time and again after a crash. A unit, a row group of a Parquet file or a whole file of
    JSON Lines or lines, has one file of vectors, which appears when it is complete. What is there
    is not computed again; if the source has changed since, only rows with another text are.

    Parameters
    ----------
    sources : str or sequence of str
        Files, patterns and folders: paths, or URLs that fsspec knows, such as ``s3://...``.
    output : str
        The folder of the files of vectors, a path or a URL. It holds the vectors of one model and
        one choice of options.
    model : ModelConfig or str
        As :class:`embellama.arrow.TableEmbedder` takes it.
    column : str, optional
        The column of the texts (default ``"text"``, which is also the one that lines have).
    keep : sequence of str, optional
        Columns to copy to the output. Default: none; ``source`` and ``row`` tell where a row is
        from.
    dtype, truncate_dim, ranges, input_type
        As :func:`embellama.arrow.embed_texts`.
    storage_options : Mapping, optional
        What fsspec needs to reach source and output.
    scratch : str, optional
        A local folder in which files for an output elsewhere are made. Default: in embellama's
        cache.

    Raises
    ------
    ConfigurationError
        If a column to keep has a name that the result needs.

    Examples
    --------
    >>> from embellama.corpus import CorpusJob
    >>> with open("lines.txt", "w") as file:
    ...     print("a cat", "a dog", sep="\\n", file=file)
    >>> job = CorpusJob("lines.txt", "vectors", "all-MiniLM-L6-v2", dtype="int8")
    >>> [report.rows for report in job.run()]
    [2]
    >>> [entry["status"] for entry in job.manifest()]
    ['done']
    """

    sources: str | Sequence[str]
    output: str
    model: ModelConfig | str
    _: dataclasses.KW_ONLY
    column: str = "text"
    keep: Sequence[str] = ()
    dtype: str = "float32"
    truncate_dim: int | None = None
    ranges: ArrayLike | None = None
    input_type: str | None = None
    storage_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scratch: str | None = None

    def __post_init__(self) -> None:
        for name in self.keep:
            if name in OWN_COLUMNS:
                raise ConfigurationError(
                    f"the column {name!r} can't be kept, because the result has one of that name: "
                    "rename it"
                )

    def load(self, n_threads: int | None = None) -> EmbeddingModel:
        """Load the model, on as many cores as its configuration says by default."""
        return EmbeddingModel(config_on_this_machine(self.model, self.storage_options, n_threads))

    def outputs(self) -> Outputs:
        """Return the files of vectors."""
        return Outputs(self.output, self.storage_options)

    def units(self) -> list[Unit]:
        """Return the units of the corpus, in the order of their files' names.

        Raises
        ------
        ConfigurationError
            If there is no file, or one whose format is unknown.
        InvalidInputError
            If a file can't be read.
        """
        sources = [self.sources] if isinstance(self.sources, str) else list(self.sources)
        return list(each_unit(sources, self.storage_options))

    def settings(self, model: EmbeddingModel) -> dict[str, Any]:
        """Return what the rows of the outputs depend on beside the source."""
        ranges = None if self.ranges is None else np.asarray(self.ranges, np.float32).tolist()
        return {
            **vector_settings(
                model,
                prompt=prompt_of(model, self.input_type),
                n_dimensions=self.truncate_dim or model.embedding_dimensions,
            ),
            "truncate": cut_at_tokens(model),
            "max_sequence_length": model.max_sequence_length,
            "column": self.column,
            "keep": list(self.keep),
            "dtype": self.dtype,
            "ranges": ranges,
        }

    def run(
        self,
        *,
        shard: tuple[int, int] = (1, 1),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[UnitReport]:
        """Do what is not done of the job, or of a part of it.

        Parameters
        ----------
        shard : tuple of int, optional
            ``(i, n)`` is the i-th of n parts, counted from 1. Default: all of it.
        progress : callable, optional
            Called as ``progress(done, total)`` after each unit, counted in units.

        Returns
        -------
        list of UnitReport
            One for each unit of the part.

        Raises
        ------
        ConfigurationError
            If there is no such part, or the output holds vectors of other settings.
        OSError
            If an output can't be written.

        Examples
        --------
        >>> from embellama.corpus import CorpusJob
        >>> for name in ("a.txt", "b.txt"):
        ...     with open(name, "w") as file:
        ...         print("a cat", file=file)
        >>> job = CorpusJob(["a.txt", "b.txt"], "vectors", "all-MiniLM-L6-v2")
        >>> [report.file[:7] for report in job.run(shard=(2, 2))]
        ['b-00000']
        >>> [entry["status"] for entry in job.manifest()]
        ['missing', 'done']
        """
        part, n_parts = shard
        if not 1 <= part <= n_parts:
            raise ConfigurationError(f"there is no part {part} of {n_parts}: count from 1")
        units = self.units()[part - 1 :: n_parts]
        reports = []
        with CorpusWorker(self) as worker:
            for unit in units:
                reports.append(worker.embed(unit))
                if progress is not None:
                    progress(len(reports), len(units))
        return reports

    def manifest(self, *, verify: bool = False) -> list[dict[str, Any]]:
        """Return what is done, with counts and checksums, from the outputs themselves.

        Parameters
        ----------
        verify : bool, optional
            Also read all vectors and compare them with their checksums (default False).

        Returns
        -------
        list of dict
            For each unit of the corpus ``source``, ``number``, ``file`` and ``status``:
            ``"missing"``, ``"done"``, ``"stale"`` (the source has changed since) or ``"damaged"``.
            Those that are not missing have ``rows``, ``errors``, ``tokens``, ``bytes``,
            ``content_sha256`` (of the digests of all texts), ``vectors_sha256``,
            ``instruction_set`` and ``settings``. A file in the output whose unit is no longer in
            the corpus is ``"left over"``.

        Raises
        ------
        ConfigurationError
            If the output holds vectors of other settings, or another file of such a name.
        """
        with self.load() as model:
            settings = self.settings(model)
        digest = settings_digest(settings)
        outputs = self.outputs()
        _require_settings(outputs, settings)
        there = set(outputs.names())
        units = {output_name(unit, digest): unit for unit in self.units()}

        def entry(name: str) -> dict[str, Any]:
            unit = units.get(name)
            record = outputs.record(name) if name in there else None
            if record is None:
                assert unit is not None
                missing = {"source": unit.source, "number": unit.number}
                return {**missing, "file": name, "status": "missing"}
            if unit is None:
                status = "left over"
            else:
                status = "done" if record["identity"] == unit.identity else "stale"
            if verify and not outputs.is_as_recorded(name, record):
                status = "damaged"
            return {**record, "file": name, "bytes": outputs.n_bytes(name), "status": status}

        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(entry, [*units, *sorted(there - set(units))]))


def _require_settings(outputs: Outputs, settings: Mapping[str, Any]) -> None:
    """Refuse a folder in which somebody would find the vectors of two models."""
    other = outputs.other_settings(settings_digest(settings))
    record = outputs.record(other) if other else None
    if record is not None:
        names = ", ".join(differing_settings(record["settings"], settings))
        raise ConfigurationError(
            f"{outputs.name} holds vectors made with other settings ({names} changed): name "
            "another folder, or remove them"
        )


class CorpusWorker:
    """A loaded model that computes units of a job; for one thread.

    Parameters
    ----------
    job : CorpusJob
    n_threads : int, optional
        Cores to use. Default: as the job's model says.

    Raises
    ------
    ConfigurationError
        If an option does not fit the model, or the output holds vectors of other settings.
    ModelNotFoundError, ModelLoadError
        As :class:`embellama.EmbeddingModel`.

    Examples
    --------
    >>> from embellama.corpus import CorpusJob, CorpusWorker
    >>> with open("lines.txt", "w") as file:
    ...     print("a cat", "a dog", sep="\\n", file=file)
    >>> job = CorpusJob("lines.txt", "vectors", "all-MiniLM-L6-v2")
    >>> with CorpusWorker(job) as worker:
    ...     [worker.embed(unit).computed for unit in job.units() + job.units()]
    [2, 0]
    """

    def __init__(self, job: CorpusJob, *, n_threads: int | None = None) -> None:
        self._job = job
        self._outputs = job.outputs()
        self._model = job.load(n_threads)
        try:
            n_dims = job.truncate_dim or self._model.embedding_dimensions
            dtype = dtype_name(job.dtype)
            self._width = quantized_width(n_dims, dtype)
            quantization_levels(dtype, n_dims, job.ranges)
            self._settings = job.settings(self._model)
            self._digest = settings_digest(self._settings)
            _require_settings(self._outputs, self._settings)
            self._outputs.make()
            folder = self._outputs.local_folder
            if folder is None:
                folder = Path(job.scratch or catalog.cache_directory() / "corpus")
                folder.mkdir(parents=True, exist_ok=True)
            self._folder = folder
        except BaseException:
            self._model.unload()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._model.unload()

    def embed(self, unit: Unit) -> UnitReport:
        """Make the file of vectors of a unit, unless it is there.

        Parameters
        ----------
        unit : Unit

        Returns
        -------
        UnitReport

        Raises
        ------
        ConfigurationError
            If the source lacks a column.
        InvalidInputError
            If it can't be read.
        OSError
            If the output can't be written.
        """
        name = output_name(unit, self._digest)
        record = self._outputs.record(name)
        if record is not None and record["identity"] == unit.identity:
            return UnitReport(unit, name, record["rows"], record["errors"], 0)
        made = self._folder / name
        is_local = self._outputs.local_folder is not None
        with partial_output(
            made,
            self._settings,
            self._width,
            max_tokens=self._settings["truncate"],
            vector_type=DTYPES[self._job.dtype][0],
            wait=True,
            # Arrow and Spark read no files below a name with a dot.
            folder=made.with_name(f".{name}.partial"),
        ) as partial:
            computation = _Computation(self._job, self._model, self._outputs.known_rows(name))
            writer = UnitWriter(partial.file, unit)
            columns = list(dict.fromkeys([self._job.column, *self._job.keep]))
            for window in each_window(unit, columns, self._job.storage_options):
                texts = texts_of(window, self._job.column)
                result = partial.finished.complete(texts, computation.of(texts))
                result = _with_missing(result, texts)
                writer.append(texts, result, window.select(list(self._job.keep)))
            record = writer.complete(self._record(unit))
            if not is_local:
                partial.file.flush()
                self._outputs.put(partial.folder / "result", name)
        if not is_local:
            made.unlink()
        return UnitReport(unit, name, record["rows"], record["errors"], computation.n_computed)

    def _record(self, unit: Unit) -> dict[str, Any]:
        return {
            "source": unit.source,
            "number": unit.number,
            "first_row": unit.first_row,
            "identity": unit.identity,
            "instruction_set": self._model.core_model.instruction_set,
            "settings": self._settings,
        }


class _Computation:
    """Computes the texts that neither this run nor an earlier output has."""

    def __init__(self, job: CorpusJob, model: EmbeddingModel, earlier: KnownRows | None) -> None:
        self._job = job
        self._model = model
        self._earlier = earlier
        self.n_computed = 0

    def of(self, texts: list[str | None]) -> Callable[[list[int]], EmbeddingResult]:
        """Return a function that computes the texts of some indices."""

        def compute(indices: list[int]) -> EmbeddingResult:
            chosen = [texts[i] for i in indices]
            if self._earlier is None:
                return self._compute(chosen)
            return self._earlier.complete(
                chosen, lambda missing: self._compute([chosen[i] for i in missing])
            )

        return compute

    def _compute(self, texts: list[str | None]) -> EmbeddingResult:
        self.n_computed += len(texts)
        job = self._job
        return embed_texts(
            self._model,
            texts,
            dtype=job.dtype,
            truncate_dim=job.truncate_dim,
            ranges=job.ranges,
            input_type=job.input_type,
        )


def _with_missing(result: EmbeddingResult, texts: list[str | None]) -> EmbeddingResult:
    """Say of rows without a text why they have no vector."""
    missing = {
        i: EmbellamaError("there is no text: the row is null")
        for i, text in enumerate(texts)
        if text is None
    }
    return dataclasses.replace(result, errors={**result.errors, **missing})
