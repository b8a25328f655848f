# SPDX-License-Identifier: Apache-2.0
"""C++ below the encoder: threads, memory, llama.cpp's log and its aborts."""
