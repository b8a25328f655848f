#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# No instruction above the baseline in what every processor runs, and nothing in the code of one
# instruction set that the linker could merge into the rest. x86-64 only.
# Usage: tests/baseline.sh BUILD, a folder that meson has built without -Dcpu.
set -euo pipefail
build=$1
# What is compiled for one instruction set above the baseline.
levels='lib(encoder|vector_loops|embellama-ggml|ggml-operations)-(avx|amx)[^/]*/'

common=$(find "$build" -name '*.o' | grep -vE "$levels" | sort)
special=$(find "$build" -name '*.o' | grep -E "$levels" | grep -v ggml- | sort)
[ "$(wc -l <<< "$special")" -ge 6 ] || { echo "too few objects: is this the right folder?" >&2; exit 1; }

findings=0
while read -r object; do
    # VEX and EVEX: instructions whose name begins with v, but for these of the baseline and of virtual
    # machines; registers of 256 and 512 bits, masks; BMI and ADX, which have no v. tzcnt is left out:
    # older processors take it for bsf, and the compiler counts on that.
    found=$(objdump -d --no-show-raw-insn "$object" | awk -F'\t' '
        NF >= 2 && ($2 ~ /^v[a-z0-9]/ && $2 !~ /^(verr|verw|vm)/ || $2 ~ /%[yz]mm|%k[0-7]/ ||
        $2 ~ /^(andn|bextr|blsi|blsr|blsmsk|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|lzcnt|movbe|adcx|adox)[lq]? / ||
        $2 ~ /^(tile|tdp)/) && n++ < 3 { print }')
    if [ -n "$found" ]; then
        printf '%s\n%s\n' "$object" "$found"
        findings=$((findings + 1))
    fi
done <<< "$common"
while read -r object; do
    # Data that says where exceptions are handled is no code.
    weak=$(nm "$object" | awk '$2 ~ /^[VWu]$/ && $3 !~ /^DW\.ref\./')
    if [ -n "$weak" ]; then
        printf '%s\n%s\n' "$object" "$weak"
        findings=$((findings + 1))
    fi
done <<< "$special"
echo "$(wc -l <<< "$common") objects for every processor, $(wc -l <<< "$special") for one instruction set: $findings with findings"
[ "$findings" = 0 ]
