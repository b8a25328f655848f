# SPDX-License-Identifier: Apache-2.0
"""JSON files of a checkpoint, read strictly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from embellama.convert.regular_file import require_regular_file
from embellama.errors import ModelLoadError

# XLM-R's tokenizer.json has 17 MB, Gemma's 33. As Python objects they take up to 30 times the
# memory.
_MAX_BYTES = 128 * 2**20
_SURROGATE = re.compile(r"\\u[dD][89abAB]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the name {key!r} appears twice in one object")
            seen.add(key)
    return found


def read_json(path: Path) -> Any:
    """Return what the JSON file `path` holds, or raise ModelLoadError."""
    require_regular_file(path, _MAX_BYTES)
    try:
        # utf-8-sig: some editors leave a byte order mark, which json refuses.
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text, object_pairs_hook=_object)
        if _SURROGATE.search(text):
            # Half of a UTF-16 surrogate pair is not a character: this raises a ValueError.
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except OSError as error:
        raise ModelLoadError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"{path}: not valid JSON ({error}); download the file again"
        ) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object the file `path` holds, or raise ModelLoadError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelLoadError(f"{path}: a JSON object is expected here, not {type(found).__name__}")
    return found


def read_optional_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object the file `path` holds; an empty one if there is no such file."""
    return read_json_object(path) if path.is_file() else {}
