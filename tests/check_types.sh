#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The installed library's types: stubs against what the extensions hold, and what two type checkers
# say of examples/ and of the calls in types/. Needs `pip install mypy "pyright[nodejs]"` in the environment.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

# Away from the source tree, so that the installed package is the one that is looked at.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -r "$root/examples" "$root/tests/types" "$tree"
rm "$tree/examples/cython_consumer/setup.py"  # of setuptools and Cython, not of embellama
# Of libraries that have no types, or are not installed here. `mypy` in the repository looks at them.
rm -r "$tree/examples"/{engines,data_frames.py,rag.py,service.py,service_client.py,small_index.py}
cd "$tree"

# What Cython adds to every module, and names that workers.pyx imports.
cat > allowed <<'LIST'
embellama\.\w+\.__(pyx_capi|test|reduce_cython|setstate_cython)__
embellama\.workers\.(NORMS|POOLINGS|ROW_TYPES)
LIST
stubs=$(cd "$root/embellama" && printf 'embellama.%s ' *.pyi | sed 's/\.pyi / /g')
# shellcheck disable=SC2086  # one argument each
stubtest $stubs --allowlist allowed --concise
mypy --strict examples types
pyright --pythonpath "$(command -v python)" examples types
