#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything under sanitizers, in Python: the test suite on extension and llama.cpp under the
# address and undefined-behaviour sanitizers; tests/stress/callers.py and the tests that have
# threads on our C++ and Cython under the thread sanitizer. Each file of tests has a process of its
# own, so that a finding ends that one only; the files with findings are named at the end, and their
# output lies in FOLDER. On two cores each build takes some ten minutes and each suite twenty.
#
#     tests/sanitize_suite.sh [FOLDER [address|thread [files of tests and arguments of pytest]]]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build/sanitize-suite}
which=${2:-both}
shift $(($# > 2 ? 2 : $#))
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
findings=()
# Of tests that give a program so many seconds, which a sanitizer takes longer for.
export TEST_PATIENCE=10
skipped=(
    "not the_package_is_small"                                 # the size of a release build
    "and not an_idle_model_uses_no_processor"                  # the sanitizer's own thread
    "and not threads_are_refused and not fork_without_memory"  # it passes limits of memory
)

install() { # name, value of b_sanitize, further options of meson
    local environment=$folder/$1 sanitize=$2
    shift 2
    if [ ! -d "$environment" ]; then
        python3 -m venv "$environment"
        "$environment/bin/pip" install --quiet meson-python meson ninja "Cython>=3.1" "numpy>=2" pip
        "$environment/bin/pip" install --quiet click filelock "gguf>=0.17" platformdirs safetensors \
            tqdm huggingface_hub hypothesis pandas pyarrow pytest setuptools
    fi
    # Optimised a little, as the suite would take an hour otherwise.
    PATH=$environment/bin:$PATH "$environment/bin/pip" install --quiet --no-build-isolation \
        --no-deps --force-reinstall -Cbuild-dir="$environment/build" \
        -Csetup-args=-Dbuildtype=debugoptimized -Csetup-args=-Doptimization=1 \
        -Csetup-args=-Db_lundef=false -Csetup-args=-Db_sanitize="$sanitize" "${@/#/-Csetup-args=}" \
        "$root"
    # The installed ones are stripped, and reports need names.
    cp "$environment"/build/embellama/*.so "$environment"/lib/python3*/site-packages/embellama/
    cp "$environment"/build/embellama/ggml/*.so "$environment"/lib/python3*/site-packages/embellama/ggml/
}

under() { # name of the environment, libraries to load first, command
    local environment=$folder/$1 preloaded=() library
    for library in $2; do
        preloaded+=("$(gcc -print-file-name="$library")")
    done
    shift 2
    # Without address randomisation, whose layouts GCC 12's thread sanitizer does not all know.
    # Python's own allocator would hide what becomes of its objects.
    (
        cd "$folder" &&
            PATH=$environment/bin:$PATH PYTHONMALLOC=malloc \
                LD_PRELOAD="${preloaded[*]}" setarch --addr-no-randomize "$@"
    )
}

found() { # what was run, its exit status, its output
    # pytest: 5 says that no test was chosen.
    if [ "$2" = 0 ] || [ "$2" = 5 ]; then
        tail -n 1 "$3"
    else
        findings+=("$1, exit status $2: $3")
        tail -n 40 "$3"
    fi
}

suite() { # name of the environment, libraries to load first, files of tests, arguments of pytest
    local environment=$1 libraries=$2 arguments=() files=() argument output status
    shift 2
    for argument in "$@"; do
        if [ -f "$argument" ]; then
            files+=("$argument")
        else
            arguments+=("$argument")
        fi
    done
    for file in "${files[@]}"; do
        output=$folder/$environment-$(basename "$file" .py).txt
        echo "== $(basename "$file")"
        status=0
        under "$environment" "$libraries" python -m pytest "$(realpath "$file")" -q \
            -c "$root/pyproject.toml" -p no:cacheprovider -k "${skipped[*]}" "${arguments[@]}" \
            > "$output" 2>&1 || status=$?
        found "$(basename "$file") ($environment)" "$status" "$output"
    done
}

if [ "$which" != thread ]; then
    install address address,undefined
    # Leaks: CPython keeps memory until the process ends, tests/stress/memory.py looks for ours.
    export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    skipped+=(
        "and not extensions_export_their_init_function"  # a sanitizer's are more
        # Python ends that thread by pthread_exit(), which leaves marks on its stack that the
        # sanitizer stumbles over itself.
        "and not daemon_threads_loop"
    )
    # Not test_examples.py and test_documentation.py, which run programs of their own at length,
    # nor test_stress.py, whose limits of memory the sanitizer passes.
    if [ $# = 0 ]; then
        for file in "$root"/tests/*/test_*.py; do
            case $file in
                *_examples.py | *_documentation.py | *_stress.py) ;;
                *) set -- "$@" "$file" ;;
            esac
        done
    fi
    suite address "libasan.so libubsan.so libstdc++.so" "$@"
fi
if [ "$which" != address ]; then
    # llama.cpp's own threads synchronise by atomics that would have to be seen, and its build takes
    # the longest: it stays as it is.
    install thread thread -Dllama.cpp:b_sanitize=none -Dllama.cpp:buildtype=release \
        -Dllama.cpp:optimization=3
    # A forked child's threads are none of the sanitizer's business, but they are of the tests'.
    export TSAN_OPTIONS=exitcode=66:die_after_fork=0:suppressions=$root/tests/threads.supp
    libraries="libtsan.so libstdc++.so"
    if [ $# = 0 ]; then
        for arguments in "" "--instruction-set llama.cpp"; do
            output=$folder/thread-callers${arguments:+-llama.cpp}.txt
            status=0
            # shellcheck disable=SC2086
            under thread "$libraries" python "$root/tests/stress/callers.py" --seconds 60 \
                --threads 8 $arguments > "$output" 2>&1 || status=$?
            found "callers.py $arguments" "$status" "$output"
        done
        # Not test_processes.py: GCC 12's ends a forked child, where a new thread may have the id
        # that one had in the parent ("dup thread with used id").
        for name in api/test_{async,cache,engine,model,rerank} core/test_core \
            arithmetic/test_{encoder,outputs} processes/test_{other_libraries,reentrance}; do
            set -- "$@" "$root/tests/$name.py"
        done
    fi
    suite thread "$libraries" "$@"
fi
printf '%s\n' "${#findings[@]} with findings" "${findings[@]}"
[ ${#findings[@]} = 0 ]
