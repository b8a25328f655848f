#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The encoder's kernels, and ggml's with AMX, under the address and undefined-behaviour sanitizers,
# AMX's tile instructions trapped where the processor has none; our threads and their queue under the
# thread sanitizer.
# Needs the project's build requirements in the environment.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/sanitize}

tests() { # name of the build folder, value of b_sanitize, programs in tests/
    local folder=$build/$1 sanitize=$2
    shift 2
    [ -d "$folder" ] || meson setup "$folder" "$root" -Dencoder_tests=true \
        -Dbuildtype=debugoptimized -Db_lundef=false -Db_sanitize="$sanitize"
    meson compile -C "$folder" "${@##*/}"
    # What ggml's library is called for the linker (embellama/ggml/meson.build).
    ln -sf libembellama-ggml-avx512_bf16.so "$folder/embellama/ggml/libembellama-ggml.so"
    for program in "$@"; do
        # Without address randomisation, whose layouts GCC 12's thread sanitizer does not all know.
        setarch --addr-no-randomize "$folder/tests/$program"
    done
}

export UBSAN_OPTIONS=halt_on_error=1
programs=(encoder/kernels_test)
if [ "$(uname -m)" = x86_64 ]; then
    programs+=(encoder/trapped_tiles_test)
    # ggml reads words that are not aligned, which x86-64 allows and the other sanitizer does not.
    tests tiles address ggml/ggml_amx_test encoder/computation_test encoder/attention_layer_test
fi
tests kernels address,undefined "${programs[@]}"
tests threads thread runtime/thread_team_test runtime/job_queue_test
