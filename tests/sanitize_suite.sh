#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything under sanitizers, in Python: extension and llama.cpp under the address and
# undefined-behaviour sanitizers run the test suite; our C++ and Cython under the thread sanitizer
# run tests/stress/callers.py. The first build takes some ten minutes on two cores.
#
#     tests/sanitize_suite.sh [FOLDER [address|thread [arguments of pytest or callers.py]]]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build/sanitize-suite}
which=${2:-both}
shift $(($# > 2 ? 2 : $#))
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

install() { # name, value of b_sanitize, further options of meson
    local environment=$folder/$1 sanitize=$2
    shift 2
    if [ ! -d "$environment" ]; then
        python3 -m venv "$environment"
        "$environment/bin/pip" install --quiet meson-python meson ninja "Cython>=3.1" "numpy>=2" pip
        "$environment/bin/pip" install --quiet click filelock "gguf>=0.17" platformdirs \
            safetensors tqdm cachetools huggingface_hub hypothesis pytest
    fi
    # Optimised a little, as the suite would take an hour otherwise.
    PATH=$environment/bin:$PATH "$environment/bin/pip" install --quiet --no-build-isolation \
        --no-deps --force-reinstall -Cbuild-dir="$environment/build" \
        -Csetup-args=-Dbuildtype=debugoptimized -Csetup-args=-Doptimization=1 \
        -Csetup-args=-Db_lundef=false -Csetup-args=-Db_sanitize="$sanitize" "${@/#/-Csetup-args=}" \
        "$root"
    # The installed ones are stripped, and reports need names.
    cp "$environment"/build/embellama/*.so "$environment"/lib/python3*/site-packages/embellama/
}

under() { # name of the environment, libraries to load first, command
    local environment=$folder/$1 libraries=() library
    for library in $2; do
        libraries+=("$(gcc -print-file-name="$library")")
    done
    shift 2
    # Without address randomisation, whose layouts GCC 12's thread sanitizer does not all know.
    # Python's own allocator would hide what becomes of its objects.
    (
        cd "$folder" &&
            PATH=$environment/bin:$PATH PYTHONMALLOC=malloc PYTHONSAFEPATH=1 \
                LD_PRELOAD="${libraries[*]}" setarch --addr-no-randomize "$@"
    )
}

if [ "$which" != thread ]; then
    install address address,undefined
    # Leaks: CPython keeps memory until the process ends, tests/stress/memory.py looks for ours.
    # Tests of other builds, of limits of the address space (which the sanitizer reserves whole),
    # and of times have no place here.
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        under address "libasan.so libubsan.so libstdc++.so" python -m pytest "$root/tests" -x -q \
        -c "$root/pyproject.toml" -p no:cacheprovider --ignore "$root/tests/test_examples.py" \
        --ignore "$root/tests/test_stress.py" -m "not slow" \
        -k "not small and not export and not processor and not silent" "$@"
fi
if [ "$which" != address ]; then
    # llama.cpp's own threads synchronise by atomics that would have to be seen, and its build takes
    # the longest: it stays as it is.
    install thread thread -Dllama.cpp:b_sanitize=none
    TSAN_OPTIONS=halt_on_error=0:exitcode=66:suppressions=$root/tests/threads.supp \
        under thread "libtsan.so libstdc++.so" python "$root/tests/stress/callers.py" \
        --seconds 20 --threads 8 "$@"
fi
