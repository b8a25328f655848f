# SPDX-License-Identifier: Apache-2.0
"""The conversion of a checkpoint, from the first file read to the last byte written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from embellama.config import MAX_THREADS, integer
from embellama.convert.adapters import merge_adapter, task_instruction
from embellama.convert.architecture import (
    check_file_type,
    overflows_in_float16,
    read_network,
)
from embellama.convert.config_json import Config
from embellama.convert.dense_modules import read_dense_modules
from embellama.convert.file_types import FILE_TYPES, UNQUANTIZED, file_type_name
from embellama.convert.gguf_file import write_gguf
from embellama.convert.rerank_card import score_tokens_of_card
from embellama.convert.sentence_transformers import (
    SentenceTransformers,
    checkpoint_of,
    read_sentence_transformers,
)
from embellama.convert.tensors import Tensor, map_tensors
from embellama.convert.tokenizer import read_tokenizer
from embellama.convert.vocabulary import make_vocabulary
from embellama.convert.weights import list_tensors
from embellama.errors import (
    ConfigurationError,
    EmbellamaError,
    ModelLoadError,
    ModelNotFoundError,
)
from embellama.files.working_folder import clear, publish, waiting_notice, working_folder
from embellama.gguf.check import check_model
from embellama.gguf.reader import read_header


def _checkpoint_directory(checkpoint: str | os.PathLike[str]) -> Path:
    path = Path(os.path.expanduser(checkpoint))
    if path.is_dir():
        # The name of the directory becomes the model's; "." has none.
        return checkpoint_of(Path(os.path.abspath(path)))
    if path.exists():
        raise ModelNotFoundError(
            f"{path}: a checkpoint is a directory, not a file; name the one that holds config.json"
        )
    raise ModelNotFoundError(f"{path}: no such directory; name the one that holds config.json")


def _output_file(output: str | os.PathLike[str]) -> Path:
    path = Path(os.path.expanduser(output))
    if path.is_dir():
        raise ConfigurationError(f"{path}: is a directory; name the file to write, ending in .gguf")
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path}: is a device, pipe or socket; name a file to write")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"{path}: no such directory as {path.parent}; create it first")
    return path


def _quantize(source: Path, destination: Path, type_name: str, n_threads: int) -> None:
    from embellama.core import quantize

    try:
        quantize(str(source), str(destination), FILE_TYPES[type_name], n_threads)
    except ModelLoadError as error:
        # std::ofstream reports a full disk only in this way.
        if "iostream" not in str(error):
            raise
        raise OSError("llama.cpp could not write all of it") from error


def _type_of_weights(tensors: list[Tensor], *, overflows: bool) -> str:
    """Return F16, or BF16 if weights are bfloat16 that float16 can't hold.

    Of a network that `overflows` in float16, BF16 if all weights are that, else F32.
    """
    if overflows:
        weights = {tensor.source.dtype for tensor in tensors if tensor.file_type("F16") == "F16"}
        return "BF16" if weights == {"BF16"} else "F32"
    for tensor in tensors:
        if tensor.source.dtype == "BF16" and tensor.file_type("F16") == "F16":
            values = tensor.read()
            with np.errstate(over="ignore", under="ignore"):
                if not np.array_equal(values.astype(np.float16), values):
                    return "BF16"
    return "F16"


def _check_loadable(path: Path, source: Path) -> None:
    """Refuse a file that llama.cpp must not load, not even to quantise it."""
    try:
        check_model(read_header(path))
    except ModelLoadError as error:
        problem = str(error).removeprefix(f"{path}: ")
        raise ModelLoadError(
            f"{source}: the GGUF that it gives can't be loaded: {problem}"
        ) from error


def convert_checkpoint(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    file_type: str | None = None,
    task: str | None = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> Path:
    """Convert a Hugging Face checkpoint to a GGUF file.

    The tensors and metadata are those that llama.cpp's ``convert_hf_to_gguf.py`` writes.

    Parameters
    ----------
    checkpoint : str or os.PathLike
        A directory with ``config.json``, the weights as safetensors (one file, or several and
        their index), and ``tokenizer.json`` or ``vocab.txt``. What the files of
        sentence-transformers say goes into the GGUF: the pooling, the prompts, the similarity
        function, and the length to which texts are cut.
    output : str or os.PathLike
        The file to write; an existing one is replaced. The file appears when it is complete. A
        failure leaves nothing behind; files that a killed conversion leaves in ``OUTPUT.partial/``
        are removed by the next conversion. Conversions to the same file wait for each other.
    file_type : str, optional
        The type of the weights, in any case: ``"F32"``, ``"F16"``, ``"BF16"``, or a quantised type
        such as ``"Q8_0"`` or ``"Q4_K_M"``. `embellama.convert.FILE_TYPES` has all. Biases, layer
        norms and position embeddings are always F32. Default: F16, or BF16 if the checkpoint's
        weights are bfloat16 that float16 can't hold. EmbeddingGemma and T5 overflow in float16:
        their default is BF16 if the checkpoint's weights are that, else F32, and F16 raises.
    task : str, optional
        For a checkpoint with adapters (jina-embeddings-v3): the task whose adapter is added to the
        weights, such as ``"retrieval.query"``. `embed_query` and `embed_documents` then put the
        task's instruction before a text. Default: the weights without an adapter; a warning is
        logged (``embellama``).
    n_threads : int, optional
        CPU cores to quantise with, 1 to 512. Default: all. Unquantised files are written by one.
    progress : bool, optional
        Show a progress bar on standard error (default False).

    Returns
    -------
    pathlib.Path
        `output`.

    Raises
    ------
    ModelNotFoundError
        If there is no directory `checkpoint`.
    ModelLoadError
        If the checkpoint is broken, llama.cpp can't compute what it describes, or `output` can't
        be written.
    ConfigurationError
        If `file_type`, `task` or `n_threads` is out of its range, or `output` can't be a file.
    TypeError
        If `file_type` or `task` is not a str or `n_threads` is not an integer.

    Examples
    --------
    >>> from embellama.convert import convert_checkpoint
    >>> convert_checkpoint("no/such/checkpoint", "model.gguf")
    Traceback (most recent call last):
    embellama.errors.ModelNotFoundError: no/such/checkpoint: no such directory; name the one that \
holds config.json
    """
    return convert_completed(
        checkpoint,
        output,
        lambda settings: settings,
        file_type=file_type,
        n_threads=n_threads,
        progress=progress,
        task=task,
    )


def convert_completed(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    complete: Callable[[SentenceTransformers], SentenceTransformers],
    *,
    file_type: str | None = None,
    n_threads: int | None = None,
    progress: bool = False,
    task: str | None = None,
) -> Path:
    """As :func:`convert_checkpoint`, but `complete` adds what the checkpoint does not say."""
    if not isinstance(task, (str, type(None))):
        raise TypeError(f"task must be a str, not {type(task).__name__}")
    type_name = None if file_type is None else file_type_name(file_type)
    if n_threads is not None:
        n_threads = integer("n_threads", n_threads, 1, MAX_THREADS)
    source = _checkpoint_directory(checkpoint)
    destination = _output_file(output)

    settings = complete(read_sentence_transformers(source))
    folder = settings.transformer
    config = Config(folder / "config.json")
    check_file_type(config, type_name)
    stored = merge_adapter(config, list_tensors(folder), task)
    if task is not None:
        settings = settings.for_task(task, task_instruction(config, task))
    tokenizer = read_tokenizer(folder, lower_cased=settings.do_lower_case)
    score_tokens = settings.score_tokens or score_tokens_of_card(source, tokenizer)
    network = read_network(config, stored, score_tokens)
    dense = read_dense_modules(settings.dense, network.sizes["embd"])
    tensors = map_tensors(network, folder, stored)
    tensors += [tensor for module in dense for tensor in module.tensors]
    type_name = type_name or _type_of_weights(tensors, overflows=overflows_in_float16(config))
    vocabulary = make_vocabulary(tokenizer, network.n_tokens)

    busy = waiting_notice(f"writes {output}", show=progress)
    try:
        with working_folder(destination.absolute(), busy) as folder:
            clear(folder)
            written = folder / "unquantized.gguf"
            write_gguf(
                written,
                checkpoint=source,
                network=network,
                settings=settings,
                dense=dense,
                vocabulary=vocabulary,
                tensors=tensors,
                file_type=type_name if type_name in UNQUANTIZED else "F32",
                progress=progress,
            )
            _check_loadable(written, source)
            if type_name not in UNQUANTIZED:
                quantized = folder / "quantized.gguf"
                _quantize(written, quantized, type_name, n_threads or 0)
                written = quantized
            publish(written, destination)
    except EmbellamaError:
        raise
    except OSError as error:
        raise ModelLoadError(
            f"{destination}: can't be written ({error.strerror or error}); make room or give write "
            "access there, or name another place"
        ) from error
    return destination
