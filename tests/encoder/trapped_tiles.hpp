// SPDX-License-Identifier: Apache-2.0
// What trapped_tiles.cpp has seen, on all threads.
#pragma once

// How many configurations LDTILECFG has loaded.
long loaded_configurations();

// How many threads have tiles now: configured and not released.
int threads_with_tiles();
