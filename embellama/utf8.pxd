# SPDX-License-Identifier: Apache-2.0
from cpython.unicode cimport PyUnicode_AsUTF8AndSize


cdef inline const char *utf8_of(str text, Py_ssize_t *n_bytes) except NULL:
    """The UTF-8 form that the str object itself keeps: no copy for ASCII."""
    try:
        return PyUnicode_AsUTF8AndSize(text, n_bytes)
    except UnicodeEncodeError as error:
        from embellama.errors import InvalidInputError, lone_surrogate

        raise InvalidInputError(lone_surrogate("the text", text, error.start)) from None
