"""The compiled kernels with AddressSanitizer and UndefinedBehaviorSanitizer, beside the ordinary ones.

They are built into build/sanitized/ (a few minutes, once) and found there because the folder is put in front of the
package's path. A sanitizer has to be in the process before anything else, so the program starts itself again with
LD_PRELOAD; PYTHONMALLOC=malloc makes Python ask malloc for each object, so that a kernel that reads one byte behind a
bytes object is caught. A report ends the process, which the engine tells with the input that caused it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUILT = PROJECT / "build/sanitized"
_MARK = "GOVC_FUZZ_SANITIZED"
_FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"


def _library(name: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def build() -> None:
    """Build what is older than its sources."""
    environ = os.environ | {"CFLAGS": _FLAGS, "LDFLAGS": _FLAGS}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(BUILT / "lib")]
    subprocess.run([*command, "--build-temp", str(BUILT / "objects")], cwd=PROJECT, env=environ, check=True)


def enter() -> None:
    """Go on in a process with the sanitizers and their kernels; returns in that process only."""
    if os.environ.get(_MARK) != "1":
        build()
        environ = os.environ | {
            _MARK: "1",
            "LD_PRELOAD": f"{_library('libasan.so')} {_library('libubsan.so')}",
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        }
        os.execve(sys.executable, [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]], environ)
    import govc.kernels

    govc.kernels.__path__.insert(0, str(BUILT / "lib/govc/kernels"))
    from govc.kernels import _packread_c

    assert str(BUILT) in _packread_c.__file__, "the ordinary kernels were imported before"
