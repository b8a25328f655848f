# SPDX-License-Identifier: Apache-2.0
"""The metadata of a checkpoint's model card, read by gguf-py's heuristics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from embellama.convert.regular_file import require_regular_file
from embellama.errors import ModelLoadError

if TYPE_CHECKING:
    from gguf import GGUFWriter

# Benchmark results in a card's metadata take some 100 kB; PyYAML reads 100 kB a second.
MAX_CARD_BYTES = 2 * 2**20
# PyYAML's time for each token grows with the number of open brackets. Its time for each part of a
# number to base 60 (1:30:00) grows with the number of parts before it.
_MAX_DEPTH = 100
_LONG_NUMBER = re.compile(r"[-+0-9_:.]{500,}")


def model_card_error(checkpoint: Path, error: Exception) -> ModelLoadError:
    """Return the error for a card on which gguf-py raised `error`, which may be of any type."""
    return ModelLoadError(
        f"{checkpoint / 'README.md'}: the model card's metadata can't be read ({error!r}); "
        "correct what stands between the first two lines of ---, or remove the file, and "
        "generation_config.json, if there is one"
    )


def _check_front_matter(path: Path) -> None:
    """Raise ValueError on YAML that takes PyYAML hours, or expands to terabytes."""
    import yaml

    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if first != "---":
        return
    end = lines.index("---") if "---" in lines else len(lines)
    depth = 0
    # gguf-py's Metadata.load_model_card prepares the text in the same way.
    for token in yaml.scan("\n".join(lines[:end]).replace("\t", "  ")):
        if isinstance(token, yaml.AliasToken):
            # Ten lines, each with ten aliases of the line before, expand to ten billion strings.
            raise ValueError("it has YAML aliases")
        if isinstance(token, (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)):
            depth += 1
        elif isinstance(token, (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)):
            depth -= 1
        elif isinstance(token, yaml.ScalarToken) and _LONG_NUMBER.fullmatch(token.value):
            raise ValueError(f"it has a number of {len(token.value)} digits")
        if depth > _MAX_DEPTH:
            raise ValueError(f"it has more than {_MAX_DEPTH} brackets in each other")


def add_general_metadata(writer: GGUFWriter, checkpoint: Path) -> None:
    """Add what config.json, the model card and the directory's name say about the model."""
    import gguf

    n_parameters, n_shared, n_expert, n_experts = writer.get_total_parameter_count()
    try:
        card = checkpoint / "README.md"
        if card.is_file():
            require_regular_file(card, MAX_CARD_BYTES)
            _check_front_matter(card)
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
