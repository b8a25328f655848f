# SPDX-License-Identifier: Apache-2.0
"""``python -m embellama`` is the ``embellama`` command."""

import sys

from embellama.cli import main

if __name__ == "__main__":
    sys.exit(main())
