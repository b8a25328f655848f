// SPDX-License-Identifier: Apache-2.0
// Prints one line per instruction set, in GFLOP/s.
#include "multiply_peak.hpp"

#include <cstdio>

int main() {
    for (const Peak & peak : multiply_peaks()) {
        printf("%s %.0f\n", peak.instruction_set.c_str(), peak.gflops);
    }
}
