"""All that a project needs which cimports f1buf: C++17, and f1buf's headers."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import f1buf

producer = Extension(
    "nogil_producer",
    ["nogil_producer.pyx"],
    language="c++",
    include_dirs=[f1buf.get_include()],
    extra_compile_args=["-std=c++17"],
)

setup(ext_modules=cythonize([producer]))
