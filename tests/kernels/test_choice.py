import re
import subprocess
import sys
from pathlib import Path

import pytest

from govc.kernels.choice import QUESTIONS
from tests.kernels.both import needs_compiled

PROJECT = Path(__file__).parents[2]
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


def test_every_room_that_asks_a_kernel_is_asked_with_the_twins_alone():
    """`make twins`, which is part of `make test`."""
    asking = re.compile(r"^\s*(from govc\.kernels|import govc\.kernels|from govc import .*kernels)", re.MULTILINE)
    rooms = {
        file.relative_to(PROJECT / "govc").parts[0]
        for file in PROJECT.glob("govc/*/**/*.py")
        if asking.search(file.read_text())
    }
    text = (PROJECT / "Makefile").read_text()
    (named,) = re.findall(r"^TWINS \?= \$\(addprefix tests/,(.*)\)", text, re.MULTILINE)
    assert {"odb", "refs", "repo"} < rooms
    assert rooms - {"kernels", "cli"} - set(named.split()) == set()
    assert "test_cli.py" in named.split()
    assert re.search(r"^\t\$\(MAKE\) .* twins$", text, re.MULTILINE)


def test_the_table_of_kernels_has_every_kernel_once():
    text = (PROJECT / "docs/architecture.md").read_text()
    table = text[text.index("| question | answers | twin |") :].split("\n\n")[0]
    assert list(QUESTIONS) == re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)


def test_the_kernels_that_hold_the_gil_are_those_that_are_said_to():
    text = (PROJECT / "docs/architecture.md").read_text()
    (said,) = re.findall(r"runs without the GIL; it is held by (.*?)\. One question", text, re.DOTALL)
    sources = {question: (PROJECT / f"govc/kernels/_{question}_c.pyx").read_text() for question in QUESTIONS}
    holding = {question for question, source in sources.items() if "with nogil" not in source}
    assert holding == set(re.findall(r"`(\w+)`", said))
