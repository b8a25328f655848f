# SPDX-License-Identifier: Apache-2.0
"""How known models get into the cache."""
