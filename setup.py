"""Only the compiled kernels are here; everything else about the package is in setup.cfg.

Each `govc/kernels/_QUESTION_c.pyx` becomes one extension module. All are optional: where there is no C compiler the
install goes through and the twins in pure Python serve (`govc doctor` says so). GOVC_BUILD=python leaves them out.
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-O2", "-g0", "-fno-tree-vectorize", "-Wno-psabi", "-Wno-unused-function"]
"""Vectors are written out where they are wanted: what compilers make of the rest stalls on stores (3x slower)."""

HEADERS = {name: sorted(glob("govc/kernels/*.h")) for name in ("_indexing_c", "_sha1_c")}
"""What else each module depends on; its .pxd files Cython finds by itself."""


def make_extension(path: str) -> Extension:
    """Return the extension module for a .pyx file."""
    name = path.removesuffix(".pyx").replace("/", ".")
    depends = HEADERS.get(name.rpartition(".")[2], [])
    return Extension(name, [path], depends=depends, libraries=["z"], extra_compile_args=FLAGS)


def make_kernels(paths: list[str]) -> list[Extension]:
    """Return the extension modules, in C. Cython's copies of them forget that they are optional."""
    extensions = cythonize(
        [make_extension(path) for path in paths], compiler_directives={"language_level": "3"}, quiet=True
    )
    for extension in extensions:
        extension.optional = True
    return extensions


paths = [] if os.environ.get("GOVC_BUILD") == "python" else sorted(glob("govc/kernels/_*_c.pyx"))
setup(ext_modules=make_kernels(paths))
