# SPDX-License-Identifier: Apache-2.0
"""Declarations of llama.cpp's C API for Cython; private, no logic."""
