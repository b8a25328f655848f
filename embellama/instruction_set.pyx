# SPDX-License-Identifier: Apache-2.0
"""The instruction set of this process, chosen once, when embellama is imported.

The whole of ggml (llama.cpp's arithmetic) is compiled once for each instruction set. The shared
libraries are in the folder ggml, and all have the same name for the linker. This module opens the
chosen library before :mod:`embellama.core` is loaded, so that the linker finds this library under
that name, and no other.
"""

import os
import sys

from embellama.errors import ConfigurationError

from embellama.runtime cimport cpu_features
from embellama.runtime.cpu_features cimport InstructionSet

cdef extern from "dlfcn.h" nogil:
    int RTLD_NOW
    int RTLD_LOCAL
    void *dlopen(const char *path, int flags) noexcept
    char *dlerror() noexcept

_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
_VARIABLE = "EMBELLAMA_INSTRUCTION_SET"
_ASKED = os.environ.get(_VARIABLE, "").strip()


cdef str _name(int index):
    return cpu_features.name_of(<InstructionSet>index).decode()


NAMES = [_name(index) for index in range(cpu_features.N_INSTRUCTION_SETS)]


cdef str _missing(int index):
    cdef const char *reason = cpu_features.missing(<InstructionSet>index)
    return None if reason == NULL else reason.decode()


cdef int _choose_limit() except -1:
    cdef int compiled_for = <int>cpu_features.compiled_for()
    reason = _missing(compiled_for)
    if reason is not None:
        raise ImportError(
            f"this build of embellama needs {NAMES[compiled_for]}, and {reason}: install it "
            "without -Dcpu, so that it runs on every processor"
        )
    if _ASKED and _ASKED not in NAMES:
        raise ConfigurationError(f"{_VARIABLE}={_ASKED!r} must be one of {', '.join(NAMES)}")
    cdef int cap = NAMES.index(_ASKED) if _ASKED else len(NAMES) - 1
    if cap < compiled_for:
        raise ConfigurationError(
            f"{_VARIABLE}={_ASKED!r}, but this build of embellama needs {NAMES[compiled_for]}: "
            "install it without -Dcpu, so that it runs on every processor"
        )
    return max(i for i in range(cap + 1) if _missing(i) is None)


cdef int _limit = _choose_limit()
LIMIT = NAMES[_limit]


cdef int limit() noexcept nogil:
    return _limit


def left_out():
    """Return why each unused instruction set is not used.

    This asks the kernel for AMX's tiles if nothing else forbids them.

    Returns
    -------
    dict of str to str
        The reason for each instruction set of this architecture that is not used.
    """
    cdef const char *refused
    reasons = {}
    for index, name in enumerate(NAMES):
        reason = _missing(index)
        if reason is None and index > _limit:
            reason = f"{_VARIABLE}={_ASKED}"
        if reason is None and name == "amx":
            refused = cpu_features.tiles_refused()
            reason = None if refused == NULL else refused.decode()
        if reason is not None:
            reasons[name] = reason
    return reasons


cdef str _open_llama_cpp():
    """Open the best library that may be used, and return the instruction set of its code."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ggml")
    for index in range(_limit, -1, -1):
        path = os.path.join(folder, f"libembellama-ggml-{NAMES[index]}{_SUFFIX}")
        if _missing(index) is None and os.path.exists(path):
            name = os.fsencode(path)
            if dlopen(name, RTLD_NOW | RTLD_LOCAL) == NULL:
                raise ImportError(os.fsdecode(<bytes>dlerror()), path=path)
            return NAMES[max(index, <int>cpu_features.compiled_for())]
    raise ImportError(f"{folder} holds no libembellama-ggml-*{_SUFFIX}: install embellama again")


LLAMA_CPP = _open_llama_cpp()
