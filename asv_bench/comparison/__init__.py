# SPDX-License-Identifier: Apache-2.0
"""What compare_peers.py is made of: environments, processes, rounds and the report."""
