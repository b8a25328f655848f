# SPDX-License-Identifier: Apache-2.0
"""Finding, dropping and grouping vectors, by comparing all that there are, a chunk at a time."""
