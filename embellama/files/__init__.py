# SPDX-License-Identifier: Apache-2.0
"""Files that embellama writes: complete or not at all, and recognised again."""
