#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The encoder's generic kernels, their self-check and its threads on ARM: cross-compiled, and run
# under emulation. Needs Debian's g++-aarch64-linux-gnu and qemu-user; some 20 seconds.
set -euo pipefail
encoder=$(cd "$(dirname "$0")/../embellama/encoder" && pwd)
tests=$(cd "$(dirname "$0")/encoder" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

compile() { # name, sources
    local name=$1
    shift
    aarch64-linux-gnu-g++ -std=c++17 -O3 -Wall -Wextra -Werror -Wno-psabi -ffp-contract=fast -static -pthread \
        "$@" -o "$build/$name"
    qemu-aarch64 "$build/$name"
}

compile kernels_test "$tests/kernels_test.cpp" "$encoder/kernels/generic.cpp" "$encoder/instruction_sets.cpp" \
    "$encoder/self_check.cpp" "$encoder/../runtime/cpu_features.cpp"
for test in thread_team_test job_queue_test; do
    compile "$test" "$tests/../runtime/$test.cpp" "$encoder/../runtime/"{job_queue,thread,thread_memory,thread_team}.cpp
done
