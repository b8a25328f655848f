# SPDX-License-Identifier: Apache-2.0
from cpython.unicode cimport PyUnicode_AsUTF8AndSize


cdef inline const char *utf8_of(str text, Py_ssize_t *n_bytes) except NULL:
    """The UTF-8 form that the str object itself keeps: no copy for ASCII."""
    try:
        return PyUnicode_AsUTF8AndSize(text, n_bytes)
    except UnicodeEncodeError as error:
        from embellama.errors import InvalidInputError

        raise InvalidInputError(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X} at character "
            f"{error.start}), which has no UTF-8 form; decode the text properly or use "
            "text.encode('utf-8', 'replace').decode()"
        ) from None
