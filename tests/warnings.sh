#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles our own C++ with warnings as errors; llama.cpp and what Cython writes are left out.
# Needs the project's build requirements in the environment. Usage: tests/warnings.sh COMPILER...,
# such as g++ clang++-16.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

for compiler in "$@"; do
    folder=$build/$compiler
    CXX=$compiler meson setup "$folder" "$root" -Dwerror=true -Dllama.cpp:werror=false \
        -Dencoder_tests=true -Dbenchmarks=true > "$folder.log" || { cat "$folder.log"; exit 1; }
    mapfile -t objects < <(ninja -C "$folder" -t targets all | sed -n 's/\(.*\.cpp\.o\): .*/\1/p' |
        grep -vE 'llama\.cpp|\.pyx\.')
    [ "${#objects[@]}" -ge 20 ] || { echo "too few objects: ${objects[*]}" >&2; exit 1; }
    echo "$compiler: ${#objects[@]} files"
    ninja -C "$folder" --quiet "${objects[@]}"
done
