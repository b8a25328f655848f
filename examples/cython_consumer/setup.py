# SPDX-License-Identifier: Apache-2.0
"""Build the same module with setuptools: ``python setup.py build_ext --inplace``."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(name="nearest", ext_modules=cythonize([Extension("nearest", ["nearest.pyx"])]))
