import subprocess
import sys

import pytest

from govc.kernels.choice import QUESTIONS
from tests.kernels.both import needs_compiled

SCRIPT = "import govc.kernels as k; print(*(f'{c.question}={c.kind}' for c in k.describe()))"


def described(**environment):
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@needs_compiled
def test_compiled_kernels_are_chosen_when_they_were_built():
    assert [f"{question}=compiled" for question in QUESTIONS] == described()


@pytest.mark.parametrize("value", ["python"])
def test_the_environment_forces_the_twins(value):
    assert [f"{question}=python" for question in QUESTIONS] == described(GOVC_KERNELS=value)
