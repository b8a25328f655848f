#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which lines of the Python and Cython modules the tests run; fails below 85 %. C++ is left out.
# Needs the project's build and test requirements in the environment, and `pip install coverage`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/coverage}

cd "$root"
[ -d "$build" ] || meson setup "$build" -Dbuildtype=release -Db_ndebug=if-release -Dcoverage=true
ninja -C "$build"

# Cython's coverage plugin wants the generated source beside the module, and both below the
# current directory.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -r embellama "$tree"
cp "$build"/embellama/*.so "$tree/embellama/"
cp "$build"/embellama/ggml/*.so "$tree/embellama/ggml/"
for source in "$build"/embellama/*.so.p/*.pyx.cpp; do
    cp "$source" "$tree/embellama/$(basename "$source" .pyx.cpp).cpp"
done
cat > "$tree/coverage.ini" <<INI
[run]
plugins = Cython.Coverage
source = $tree/embellama
# Cython's plugin finds an inlined .pxd only if coverage happens to ask for a .pyx first.
omit = *.pxd
[report]
precision = 1
fail_under = 85
INI

# Not tests/processes, whose programs run in processes of their own, which are not measured. Not
# test_allocation: Cython's tracing does not survive memory that it can't have for a frame.
cd "$tree"
export PYTHONPATH="$tree"
coverage run --rcfile=coverage.ini "$(command -v pytest)" -q \
    -c "$root/pyproject.toml" --rootdir "$root" --ignore "$root/tests/project/test_documentation.py" --ignore "$root/tests/processes" \
    -k "not test_allocation" "$root/tests"
coverage report --rcfile=coverage.ini
