"""Bytecode of everything, before anything is measured: what an installation makes, and a tree that was edited lacks.

Without it every process that is started compiles what changed, where PYTHONDONTWRITEBYTECODE is set again and again.
"""

import compileall
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
ROOMS = ("govc", "protocol", "bench")


def compile_tree() -> None:
    """Compile what isn't yet."""
    for room in ROOMS:
        if not compileall.compile_dir(TREE / room, quiet=1):
            raise RuntimeError(f"{room} can't be compiled")
