"""setup.py: an ordinary `pip install` builds the kernels, and goes through where they can't be built.

A kernel of three lines stands for ours, which take minutes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.both import HAVE_COMPILER

SETUP = Path(__file__).parents[2] / "setup.py"
KERNEL = "_tiny_c"


@pytest.fixture
def sources(tmp_path):
    kernels = tmp_path / "govc/kernels"
    kernels.mkdir(parents=True)
    shutil.copy(SETUP, tmp_path)
    (kernels.parent / "__init__.py").touch()
    (kernels / "__init__.py").touch()
    (kernels / f"{KERNEL}.pyx").write_text("def answer():\n    return 42\n")
    return tmp_path


def build(sources, **environment):
    """What was built, by name; that it went through is asserted."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "built", "--build-temp", "temp"]
    done = subprocess.run(
        command, cwd=sources, env=os.environ | {"GOVC_BUILD": ""} | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [path.name.partition(".")[0] for path in sources.glob("built/**/*.so")], done.stderr


@pytest.mark.skipif(not HAVE_COMPILER, reason="no compiler")
def test_a_kernel_is_built_with_a_compiler(sources):
    assert build(sources)[0] == [KERNEL]


@pytest.mark.parametrize("compiler", ["/bin/false", "/nowhere/cc"])
def test_an_installation_goes_through_where_nothing_compiles(sources, compiler):
    built, said = build(sources, CC=compiler)
    assert [] == built
    assert f'building extension "govc.kernels.{KERNEL}" failed' in said


def test_an_installation_goes_through_where_one_kernel_does_not_compile(sources):
    (sources / "govc/kernels/_other_c.pyx").write_text('cdef extern from "nowhere.h":\n    int nothing\n')
    built, _said = build(sources)
    assert built == ([KERNEL] if HAVE_COMPILER else [])


def test_kernels_can_be_left_out(sources):
    assert build(sources, GOVC_BUILD="python")[0] == []
