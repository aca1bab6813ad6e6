"""What a helper does, and that it imports nothing else."""

import importlib
import subprocess
import sys

import pytest

from govc.repo.helper_main import JOB_PLACES


@pytest.mark.parametrize("name", JOB_PLACES)
def test_every_job_is_where_it_is_said_to_be(name):
    module_name, function_name = JOB_PLACES[name]
    assert getattr(importlib.import_module(module_name), function_name).__module__ == module_name


def test_a_helper_starts_without_what_its_job_does_not_need():
    code = "import govc.repo.helper_main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "govc.repo.helper_main" in imported
    assert not imported & {module_name for module_name, _ in JOB_PLACES.values()}
