# SPDX-License-Identifier: Apache-2.0
NAMES: list[str]
LIMIT: str
LLAMA_CPP: str

def left_out() -> dict[str, str]: ...
