# SPDX-License-Identifier: Apache-2.0
"""The scripts beside the reference data need torch: pytest's doctest run must not import them."""

collect_ignore_glob = ["*.py"]
