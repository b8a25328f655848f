# SPDX-License-Identifier: Apache-2.0
"""The processor cores and memory that this process may use, and what happens when it forks."""
