# SPDX-License-Identifier: Apache-2.0
"""The parts of compare_peers.py: environments, processes, rounds and the report."""
