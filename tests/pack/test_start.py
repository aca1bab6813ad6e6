"""What a process imports that begins for one pack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import govc.pack.indexer
print(*sorted({"typing", "re", "enum", "functools", "threading"} & set(sys.modules)))
import govc.odb.store
print(*sorted({"logging", "dataclasses", "inspect", "threading", "ctypes", "random"} & set(sys.modules)))
"""


@pytest.mark.parametrize("kernels", ["", "python"])
def test_what_takes_longer_to_import_than_indexing_itself_is_not_imported(kernels):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "GOVC_KERNELS": kernels}
    command = [sys.executable, "-S", "-c", SCRIPT]
    imported = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert "\n\n" == imported
