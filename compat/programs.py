"""Programs of the system that scenarios and measurements run: found where an administrator's lie, too.

`find_program` says where one is; `need_program` raises without it. Scenarios that are skipped without a program ask
compat/conftest.py.
"""

from __future__ import annotations

import os
import shutil

ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> str | None:
    """The path of a program, None when it is not installed."""
    return shutil.which(name, path=f"{os.environ['PATH']}:{ADMINISTRATORS}")


def need_program(name: str) -> str:
    """The same; RuntimeError when it is not installed."""
    found = find_program(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: run compat/install.sh")
    return found
