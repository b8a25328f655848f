# SPDX-License-Identifier: Apache-2.0
from enum import IntFlag

class Failure(IntFlag):
    DONE = 0
    NOT_FINITE = 1
    NOT_COMPUTED = 2
