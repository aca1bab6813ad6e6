"""Running a test against the compiled kernel and against its twin."""

import importlib
import os
import shutil

import pytest

from govc.kernels.choice import PYTHON, VARIABLE

HAVE_COMPILER = bool(shutil.which("cc") or shutil.which("gcc") or shutil.which("clang"))

ARE_TWINS_ASKED = os.environ.get(VARIABLE) == PYTHON
"""Whether this run is the one that asks nothing but the twins, as on a machine without a compiler."""

needs_compiled = pytest.mark.skipif(
    ARE_TWINS_ASKED or not HAVE_COMPILER, reason="only the twins are asked: without a compiler, or by GOVC_KERNELS"
)


def compiled(question):
    """The compiled kernel; where there is a compiler, one that is missing is an error and not a skip."""
    try:
        return importlib.import_module(f"govc.kernels._{question}_c")
    except ModuleNotFoundError:
        if HAVE_COMPILER:
            raise
        return None


def twin(question):
    return importlib.import_module(f"govc.kernels.{question}_py")


def both(question):
    return [module for module in (compiled(question), twin(question)) if module]


def variants(question):
    """Both as parameters of a fixture."""
    return [pytest.param(module, id=module.__name__.rpartition(".")[2].strip("_")) for module in both(question)]
