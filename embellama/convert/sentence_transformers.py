# SPDX-License-Identifier: Apache-2.0
"""What the files of sentence-transformers say about a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from embellama.convert.json_file import (
    read_json,
    read_json_object,
    read_optional_json_object,
)
from embellama.errors import ModelLoadError
from embellama.gguf.dense_modules import DENSE_NAMES
from embellama.gguf.header import LAYER_NORM_BEFORE_CUT

if TYPE_CHECKING:
    from gguf import GGUFWriter

# enum llama_pooling_type, llama.h
_POOLING_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}

# The settings that sentence-transformers wrote before version 5.
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}

# Modules that embellama computes, or that change no vector. It normalises by default, as Normalize
# does.
_KNOWN_MODULES = ("Dense", "Dropout", "LogitScore", "Normalize", "Pooling", "Transformer")

# The file of a Transformer module, whose name follows the kind of network in old checkpoints.
_TRANSFORMER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Its settings besides max_seq_length and do_lower_case, with the values that change no vector.
_TRANSFORMER_SETTINGS: dict[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction", "sequence-classification", "text-generation"),
    "module_output_name": ("token_embeddings", "scores", "causal_logits"),
}
# Arguments for transformers, and those of them that change no vector.
_ARGUMENTS = (
    *("model_args", "model_kwargs", "config_args", "config_kwargs"),
    *("tokenizer_args", "processor_kwargs"),
)
_HARMLESS_ARGUMENTS = (
    *("trust_remote_code", "revision", "torch_dtype", "dtype", "attn_implementation"),
    *("unpad_inputs", "use_memory_efficient_attention", "add_pooling_layer", "padding_side"),
)

_MAX_PROMPTS = 1024
_MAX_NAME = 128


@dataclasses.dataclass(frozen=True)
class SentenceTransformers:
    """A checkpoint as sentence-transformers loads it.

    Attributes
    ----------
    transformer : pathlib.Path
        The folder with the network and the tokenizer.
    pooling_type : int or None
        A ``llama_pooling_type``; None if the checkpoint says nothing.
    dense : tuple of pathlib.Path
        The folders of the Dense modules, in their order.
    score_tokens : tuple of int, or None
        The ids of the tokens that say "yes" and "no" to a query and a document; None if the
        checkpoint names none.
    max_seq_length : int or None
        Texts are cut to so many tokens; None if the checkpoint says nothing.
    do_lower_case : bool
        Whether texts are lower-cased before the tokenizer sees them.
    prompts : dict of str to str
        What stands before a text, by the name of the purpose.
    default_prompt_name, similarity_fn_name : str or None
    task : str or None
        What the network was adapted to, if it was.
    layer_norm_before_cut : bool
        Whether a layer norm comes before vectors are cut. No file of a checkpoint says so.
    """

    transformer: Path
    pooling_type: int | None
    dense: tuple[Path, ...]
    score_tokens: tuple[int, int] | None
    max_seq_length: int | None
    do_lower_case: bool
    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity_fn_name: str | None
    task: str | None = None
    layer_norm_before_cut: bool = False

    def for_task(self, task: str, instruction: str) -> SentenceTransformers:
        """Return the settings of a network for one task, which puts `instruction` before a text."""
        # embed_query and embed_documents look for the last two.
        prompts = dict.fromkeys((task, "query", "document"), instruction) if instruction else {}
        default = task if instruction else None
        return dataclasses.replace(self, prompts=prompts, default_prompt_name=default, task=task)

    def write(self, writer: GGUFWriter, longest: int) -> None:
        """Add embellama's own keys to the GGUF file of a network for `longest` tokens."""
        if self.max_seq_length is not None and self.max_seq_length < longest:
            writer.add_uint32("embellama.max_seq_length", self.max_seq_length)
        for name, prompt in self.prompts.items():
            writer.add_string(f"embellama.prompt.{name}", prompt)
        if self.default_prompt_name is not None:
            writer.add_string("embellama.default_prompt_name", self.default_prompt_name)
        if self.similarity_fn_name is not None:
            writer.add_string("embellama.similarity_fn_name", self.similarity_fn_name)
        if self.task is not None:
            writer.add_string("embellama.task", self.task)
        if self.layer_norm_before_cut:
            writer.add_bool(LAYER_NORM_BEFORE_CUT, True)


def _modules(path: Path) -> list[tuple[str, PurePosixPath]]:
    """Return the kind and the folder of each module."""
    modules = read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(module, dict)
        and isinstance(module.get("type"), str)
        and isinstance(module.get("path"), str)
        for module in modules
    ):
        raise ModelLoadError(
            f"{path}: must be a list of modules, each with a type and a path; download it again"
        )
    found = []
    for module in modules:
        kind = module["type"].rpartition(".")[2]
        # PyLate's Dense is for tokens.
        foreign = kind == "Dense" and not module["type"].startswith("sentence_transformers.")
        if kind not in _KNOWN_MODULES or foreign:
            raise ModelLoadError(
                f"{path}: the model has a module {module['type']}, which embellama doesn't "
                "compute, so that a GGUF would give other vectors than the checkpoint"
            )
        if len(module["path"]) > _MAX_NAME or not module["path"].isprintable():
            raise ModelLoadError(f"{path}: {module['path'][:_MAX_NAME]!r} is no name of a folder")
        folder = PurePosixPath(module["path"])
        if folder.is_absolute() or ".." in folder.parts:
            raise ModelLoadError(f"{path}: the path {module['path']!r} leaves the checkpoint")
        found.append((kind, folder))
    for kind in ("Transformer", "Pooling", "LogitScore"):
        if sum(module == kind for module, _ in found) > 1:
            raise ModelLoadError(
                f"{path}: several modules {kind}; a GGUF has room for one, so that it would give "
                "other vectors than the checkpoint"
            )
    _check_dense(path, [kind for kind, _ in found])
    return found


def _check_dense(path: Path, kinds: list[str]) -> None:
    """Refuse Dense modules that do not stand between the pooling and the normalisation."""
    if kinds.count("Dense") > len(DENSE_NAMES):
        raise ModelLoadError(
            f"{path}: {kinds.count('Dense')} modules Dense; a GGUF has room for {len(DENSE_NAMES)}"
        )
    if "Dense" not in kinds:
        return
    first, last = kinds.index("Dense"), len(kinds) - 1 - kinds[::-1].index("Dense")
    if "Pooling" not in kinds[:first] or "Normalize" in kinds[:last] or "LogitScore" in kinds:
        raise ModelLoadError(
            f"{path}: a module Dense that does not stand between Pooling and Normalize, which is "
            "not supported"
        )


def _pooling_type(path: Path) -> int:
    settings = read_json_object(path)
    mode = settings.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else mode
    if modes is None:
        modes = [name for flag, name in _FLAGS.items() if settings.get(flag)]
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in [*_POOLING_TYPES]:
        named = " and ".join(map(str, modes)) if isinstance(modes, list) else repr(modes)
        raise ModelLoadError(
            f"{path}: the pooling is {named or 'none'}; a GGUF can say only "
            f"{', '.join(_POOLING_TYPES)}. Remove modules.json from a copy of the checkpoint, and "
            "choose the pooling when you load the GGUF, if it is one that embellama knows"
        )
    if settings.get("include_prompt") is False:
        raise ModelLoadError(
            f"{path}: include_prompt is false: the pooling leaves the prompt's tokens out, which "
            "llama.cpp can't; this checkpoint can't become a GGUF"
        )
    return _POOLING_TYPES[modes[0]]


def _score_tokens(path: Path) -> tuple[int, int]:
    settings = read_json_object(path)
    ids = settings.get("true_token_id"), settings.get("false_token_id")
    yes, no = ids
    if type(yes) is not int or type(no) is not int:
        raise ModelLoadError(
            f"{path}: true_token_id and false_token_id are {ids}; a GGUF has two tokens for a score"
        )
    return yes, no


def _length(path: Path, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ModelLoadError(f"{path}: {name} must be a positive integer, not {value!r}")
    return value


def _transformer_settings(folder: Path) -> tuple[int | None, bool]:
    """Return max_seq_length and do_lower_case; ModelLoadError if another setting matters."""
    path = next((folder / name for name in _TRANSFORMER_FILES if (folder / name).is_file()), None)
    if path is None:
        return None, False
    settings = read_json_object(path)
    for name, value in settings.items():
        if name in _ARGUMENTS:
            arguments = value if isinstance(value, dict) else {repr(value): None} if value else {}
            unknown = [argument for argument in arguments if argument not in _HARMLESS_ARGUMENTS]
            if unknown:
                raise ModelLoadError(
                    f"{path}: {name} sets {', '.join(unknown)}, which is not understood; if the "
                    "vectors do not depend on it, remove it from a copy of the checkpoint"
                )
        elif name in _TRANSFORMER_SETTINGS:
            if value is not None and value not in _TRANSFORMER_SETTINGS[name]:
                raise ModelLoadError(
                    f"{path}: {name} is {value!r}, only "
                    f"{', '.join(_TRANSFORMER_SETTINGS[name])} are supported"
                )
        elif value and name not in ("max_seq_length", "do_lower_case", "modality_config"):
            raise ModelLoadError(
                f"{path}: the setting {name} is not understood; if the vectors do not depend on "
                "it, remove it from a copy of the checkpoint"
            )
    length = settings.get("max_seq_length")
    do_lower_case = settings.get("do_lower_case")
    if do_lower_case not in (None, False, True):
        raise ModelLoadError(f"{path}: do_lower_case must be true or false, not {do_lower_case!r}")
    return (
        None if length is None else _length(path, "max_seq_length", length),
        bool(do_lower_case),
    )


def _prompts(path: Path, settings: dict[str, Any]) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    if (
        not isinstance(prompts, dict)
        or len(prompts) > _MAX_PROMPTS
        or not all(
            0 < len(name) <= _MAX_NAME
            and name.isprintable()
            and (prompt is None or isinstance(prompt, str))
            for name, prompt in prompts.items()
        )
    ):
        raise ModelLoadError(f"{path}: prompts must map names to texts; download the file again")
    return {name: prompt for name, prompt in prompts.items() if prompt is not None}


def _optional_name(path: Path, settings: dict[str, Any], name: str) -> str | None:
    value = settings.get(name)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= _MAX_NAME):
        raise ModelLoadError(f"{path}: {name} must be a name, not {value!r}")
    return value


def checkpoint_of(folder: Path) -> Path:
    """Return the checkpoint whose network lies in `folder`: `folder`, or the one around it.

    Old checkpoints of sentence-transformers have the network in ``0_Transformer``, and beside it
    what says how to pool.
    """
    modules = folder.parent / "modules.json"
    if not (folder / "modules.json").is_file() and modules.is_file():
        inner = PurePosixPath(folder.name)
        if ("Transformer", inner) in _modules(modules):
            return folder.parent
    return folder


def read_sentence_transformers(checkpoint: Path) -> SentenceTransformers:
    """Read modules.json and what it names, and config_sentence_transformers.json.

    ModelLoadError if a GGUF can't say it, or llama.cpp can't do it.
    """
    transformer, pooling_type, score_tokens = checkpoint, None, None
    dense: list[Path] = []
    path = checkpoint / "modules.json"
    for kind, folder in _modules(path) if path.is_file() else ():
        if kind == "Transformer":
            transformer = checkpoint / folder
        elif kind == "Pooling":
            pooling_type = _pooling_type(checkpoint / folder / "config.json")
        elif kind == "Dense":
            dense.append(checkpoint / folder)
        elif kind == "LogitScore":
            score_tokens = _score_tokens(checkpoint / folder / "config.json")
    max_seq_length, do_lower_case = _transformer_settings(transformer)
    if max_seq_length is None:
        # transformers writes 10^30 where a tokenizer has no limit.
        limit = read_optional_json_object(transformer / "tokenizer_config.json").get(
            "model_max_length"
        )
        if isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < 2**31:
            max_seq_length = limit
    path = checkpoint / "config_sentence_transformers.json"
    settings = read_optional_json_object(path)
    if settings.get("truncate_dim") is not None:
        raise ModelLoadError(
            f"{path}: truncate_dim is {settings['truncate_dim']!r}, which a GGUF can't say; remove "
            "it from a copy of the checkpoint, and give truncate_dim to embed_batch"
        )
    prompts = _prompts(path, settings)
    default = _optional_name(path, settings, "default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelLoadError(f"{path}: default_prompt_name is {default!r}, but no prompt is")
    return SentenceTransformers(
        transformer=transformer,
        pooling_type=pooling_type,
        dense=tuple(dense),
        score_tokens=score_tokens,
        max_seq_length=max_seq_length,
        do_lower_case=do_lower_case,
        prompts=prompts,
        default_prompt_name=default,
        similarity_fn_name=_optional_name(path, settings, "similarity_fn_name"),
    )
