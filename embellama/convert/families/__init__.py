# SPDX-License-Identifier: Apache-2.0
"""Families of checkpoints: a page for each, with its table of tensors and its metadata."""
