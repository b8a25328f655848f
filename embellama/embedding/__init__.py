# SPDX-License-Identifier: Apache-2.0
"""From texts to rows on loaded weights, and what a loaded model keeps."""
