#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The encoder's kernels under the address and undefined-behaviour sanitizers, AMX's tile instructions
# trapped where the processor has none, and its threads under the thread sanitizer.
# Needs the project's build requirements in the environment.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/sanitize}

tests() { # name of the build folder, value of b_sanitize, programs
    local folder=$build/$1 sanitize=$2
    shift 2
    [ -d "$folder" ] || meson setup "$folder" "$root" -Dencoder_tests=true \
        -Dbuildtype=debugoptimized -Db_lundef=false -Db_sanitize="$sanitize"
    meson compile -C "$folder" "$@"
    for program in "$@"; do
        # Without address randomisation, whose layouts GCC 12's thread sanitizer does not all know.
        setarch --addr-no-randomize "$folder/tests/encoder/$program"
    done
}

export UBSAN_OPTIONS=halt_on_error=1
programs=(kernels_test)
if [ "$(uname -m)" = x86_64 ]; then
    programs+=(trapped_tiles_test)
fi
tests kernels address,undefined "${programs[@]}"
tests threads thread thread_team_test
