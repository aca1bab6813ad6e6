"""Object folders that a repository borrows from: `objects/info/alternates`, and what it names in turn.

One path a line, relative to the objects folder that holds the file; lines that begin with `#` are comments;
a path in double quotes is unquoted as C strings are. Folders that are missing are skipped with a message,
cycles and repetitions silently; more than five levels are too deep.

Source: gitrepository-layout "objects/info/alternates"; git(1) "GIT_ALTERNATE_OBJECT_DIRECTORIES".
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

from govc.watch import OUR_TROUBLE

DEPTH_MAX = 5
_FILE_BYTES_MAX = 1 << 20
_ESCAPES = {
    b"a"[0]: 7,
    b"b"[0]: 8,
    b"f"[0]: 12,
    b"n"[0]: 10,
    b"r"[0]: 13,
    b"t"[0]: 9,
    b"v"[0]: 11,
    b"\\"[0]: 92,
    b'"'[0]: 34,
}
_OCTAL = b"01234567"


class ObjectDirectories(NamedTuple):
    """The objects folders in the order in which they are searched, the own one first.

    `watched` are the files and folders whose change may change the list; `messages` say what was left out.
    """

    directories: tuple[str, ...]
    watched: tuple[str, ...]
    messages: tuple[str, ...]

    @property
    def pack_folders(self) -> tuple[str, ...]:
        """Where the packs lie; some may not exist."""
        return tuple(f"{path}/pack" for path in self.directories)


def parse_quoted(data: bytes, pos: int) -> tuple[bytes, int] | None:
    """Return the C string whose opening quote is at `pos` and the position after it; None when it isn't
    one.
    """
    out = bytearray()
    pos += 1
    while pos < len(data):
        byte = data[pos]
        pos += 1
        if byte == b'"'[0]:
            return bytes(out), pos
        if byte != b"\\"[0]:
            out.append(byte)
            continue
        escape = data[pos] if pos < len(data) else -1
        digits = data[pos : pos + 3]
        if escape in _ESCAPES:
            out.append(_ESCAPES[escape])
            pos += 1
        elif len(digits) == 3 and digits[0] in b"0123" and all(digit in _OCTAL for digit in digits):
            out.append(int(digits, 8))
            pos += 3
        else:
            return None
    return None


def quote_path(path: bytes) -> bytes:
    """Return `path` as an entry of GIT_ALTERNATE_OBJECT_DIRECTORIES: in quotes when it could be misread."""
    if b":" not in path and not path.startswith((b'"', b"#")):
        return path
    plain = {byte for byte in range(256) if byte not in (34, 92)}
    return b'"' + b"".join(bytes([b]) if b in plain else b"\\" + bytes([b]) for b in path) + b'"'


def parse_alternates(data: bytes, separator: bytes) -> list[bytes]:
    """Return the paths in an alternates file (separator LF) or variable (separator ":"), as they are
    written.
    """
    data = data.partition(b"\0")[0]  # for git it ends there, and no path has one
    paths = []
    pos = 0
    while pos < len(data):
        end = data.find(separator, pos)
        end = len(data) if end < 0 else end
        path = data[pos:end]
        if path.startswith(b"#"):
            path = b""
        elif path.startswith(b'"'):
            quoted = parse_quoted(data, pos)
            if quoted is not None:
                path, end = quoted
                path = path.partition(b"\0")[0]
        if path:
            paths.append(path)
        pos = end + 1
    return paths


def parse_alternates_variable(value: str, cwd: str) -> list[str]:
    """Return the folders that GIT_ALTERNATE_OBJECT_DIRECTORIES names; relative ones start at `cwd`."""
    return [os.path.join(cwd, os.fsdecode(path)) for path in parse_alternates(os.fsencode(value), b":")]


def _read_alternates(objects_dir: str, messages: list[str]) -> list[str]:
    try:
        with open(f"{objects_dir}/info/alternates", "rb") as file:
            data = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno in OUR_TROUBLE:
            raise
        messages.append(f"unable to read alternates of {objects_dir}: {error.strerror}")
        return []
    real = os.path.realpath(objects_dir)  # "..", below, means what it means to the file system
    return [os.path.join(real, os.fsdecode(path)) for path in parse_alternates(data, b"\n")]


def find_object_directories(objects_dir: str, extra: Iterable[str] = ()) -> ObjectDirectories:
    """Follow the alternates of `objects_dir`, after the folders in `extra` (those of the environment).

    Raises OSError when we lack descriptors or memory.
    """
    directories = [objects_dir]
    watched = [f"{objects_dir}/info/alternates"]
    messages: list[str] = []
    # A stack of (path, depth of the file that names it), the next one to look at on top: depth first, as
    # git does.
    stack = [(path, 0) for path in _read_alternates(objects_dir, messages)]
    stack = [*((path, 0) for path in extra), *stack][::-1]
    seen = {os.path.realpath(objects_dir)} if stack else set()
    while stack:
        path, depth = stack.pop()
        path = os.path.normpath(path)
        real = os.path.realpath(path)
        if real in seen:
            continue
        if not os.path.isdir(path):
            messages.append(f"object directory {path} does not exist; check info/alternates")
            watched.append(path)
            continue
        seen.add(real)
        directories.append(path)
        watched.append(f"{path}/info/alternates")
        nested = _read_alternates(path, messages)
        if nested and depth >= DEPTH_MAX:
            messages.append(f"{path}: ignoring alternate object stores, nesting too deep")
            continue
        stack.extend((inner, depth + 1) for inner in reversed(nested))
    return ObjectDirectories(tuple(directories), tuple(watched), tuple(messages))
