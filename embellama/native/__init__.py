# SPDX-License-Identifier: Apache-2.0
"""C++ above the encoder: contexts, micro-batches and what a worker thread does."""
