# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of embellama, run by asv; none of them asserts a time."""
