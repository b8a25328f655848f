#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which lines of the Python and Cython modules the tests run; fails below 85 %. C++ is left out.
# Needs the project's build and test requirements in the environment, and `pip install coverage`.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/coverage}
[ -d "$build" ] || meson setup "$build" -Dbuildtype=release -Db_ndebug=if-release -Dcoverage=true
ninja -C "$build"

# Cython's coverage plugin wants the generated source beside the module.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cp -r embellama "$tree"
for module in core kernels workers; do
    cp "$build"/embellama/$module.*.so "$tree/embellama/"
    cp "$build"/embellama/$module.*.so.p/$module.pyx.cpp "$tree/embellama/$module.cpp"
done

export PYTHONPATH="$tree" COVERAGE_FILE="$tree/.coverage"
cat > "$tree/coverage.ini" <<INI
[run]
plugins = Cython.Coverage
source = $tree/embellama
parallel = true
patch = subprocess
[report]
omit = */libllama/*
precision = 1
fail_under = 85
INI
# Not `-m pytest`, which would put the source tree before the built modules.
coverage run --rcfile="$tree/coverage.ini" "$(command -v pytest)" -q
coverage combine --quiet --rcfile="$tree/coverage.ini"
coverage report --rcfile="$tree/coverage.ini"
