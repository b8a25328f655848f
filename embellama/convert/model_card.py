# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint's model card says about the model, through gguf-py's heuristics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embellama.convert.regular_file import require_regular_file
from embellama.errors import ModelLoadError

if TYPE_CHECKING:
    from gguf import GGUFWriter

# The metadata that benchmarks leave in a card are some 100 kB; PyYAML reads 100 kB a second.
_MAX_CARD_BYTES = 2 * 2**20


def model_card_error(checkpoint: Path, error: Exception) -> ModelLoadError:
    """Return what a user is told when gguf-py fails on the card, which it does in any way."""
    return ModelLoadError(
        f"{checkpoint / 'README.md'}: the model card's metadata can't be read ({error!r}); "
        "correct what stands between the first two lines of ---, or remove the file, and "
        "generation_config.json, if there is one"
    )


def _refuse_aliases(path: Path) -> None:
    """An alias stands for what it names, so that ten lines of them stand for ten billion."""
    import yaml

    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if first == "---":
        end = lines.index("---") if "---" in lines else len(lines)
        # As gguf-py's Metadata.load_model_card has it.
        text = "\n".join(lines[:end]).replace("\t", "  ")
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it has YAML aliases")


def add_general_metadata(writer: GGUFWriter, checkpoint: Path) -> None:
    """Add what config.json, the model card and the directory's name say about the model."""
    import gguf

    n_parameters, n_shared, n_expert, n_experts = writer.get_total_parameter_count()
    try:
        card = checkpoint / "README.md"
        if card.is_file():
            require_regular_file(card, _MAX_CARD_BYTES)
            _refuse_aliases(card)
        metadata = gguf.Metadata.load(model_path=checkpoint, total_params=n_parameters)
        for name, value in vars(metadata).items():
            # YAML reads `model_version: 1.5` as a number; GGUF has a string there.
            if isinstance(value, (bool, int, float)) and not name.startswith("sampling_"):
                setattr(metadata, name, str(value))
        if metadata.name is None:
            metadata.name = checkpoint.name
        if metadata.size_label is None:
            metadata.size_label = gguf.size_label(n_parameters, n_shared, n_expert, n_experts)
        writer.add_type(gguf.GGUFType.MODEL)
        metadata.set_gguf_meta_model(writer)
    except ModelLoadError:
        raise
    except Exception as error:
        raise model_card_error(checkpoint, error) from error
