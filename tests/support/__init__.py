# SPDX-License-Identifier: Apache-2.0
"""What tests, fuzzers and stress programs share: small models, servers and processes."""
