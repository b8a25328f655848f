# SPDX-License-Identifier: Apache-2.0
"""GGUF files, read by bounds of our own before llama.cpp maps them."""
