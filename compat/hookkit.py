"""Hooks for tests: scripts that write down what they were given, and how to read that back.

Every hook writes to files in its working directory, which is the repository.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from compat.rawhttp import raw_head
from tests.waiting import SECONDS, wait_until

EVENTS = ("pre-receive", "update", "post-receive", "post-update")

# What a hook says to wait, for two minutes at most, until the test has written a file: `await go`.
AWAIT = "await() { n=0; until test -e $1 || test $n = 1200; do sleep 0.1; n=$((n + 1)); done; }\n"

# Each call of a hook is one folder: arguments, standard input, environment, working directory.
RECORDER = """#!/bin/sh
n=$(ls -d record-* 2>/dev/null | wc -l)
d=record-$(printf %03d "$n")-{event}
mkdir "$d"
for a in "$@"; do printf '%s\\n' "$a"; done > "$d/arguments"
pwd > "$d/folder"
env -0 > "$d/environment"
cat > "$d/stdin"
{body}
"""


def install(repository: Path, event: str, body: str = "", *, folder: str = "hooks", start: str = "#!/bin/sh\n") -> Path:
    """Write an executable hook."""
    path = repository / folder / event
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(start + body)
    path.chmod(0o755)
    return path


def record(repository: Path, event: str, body: str = "") -> None:
    """Install a hook that writes down what it gets, and then runs `body`."""
    install(repository, event, RECORDER.format(event=event, body=body), start="")


@dataclass(frozen=True)
class Call:
    """One call of a recorded hook."""

    event: str
    arguments: tuple[str, ...]
    stdin: str
    folder: str
    environment: dict[str, str]


def calls(repository: Path) -> list[Call]:
    """What the recorders wrote down, in order."""
    out = []
    for folder in sorted(repository.glob("record-*")):
        variables = dict(item.split("=", 1) for item in (folder / "environment").read_text().split("\0") if "=" in item)
        out.append(
            Call(
                event=folder.name.split("-", 2)[2],
                arguments=tuple((folder / "arguments").read_text().splitlines()),
                stdin=(folder / "stdin").read_text(),
                folder=(folder / "folder").read_text().strip(),
                environment=variables,
            )
        )
    return out


@dataclass(frozen=True)
class Piece:
    """A packet of an answer."""

    band: int
    data: bytes


def push_slowly(url: str, body: bytes, *, timeout: float = SECONDS) -> Iterator[Piece]:
    """Send a push and yield the side-band packets of the answer as they come: in chunks, or whole with its length."""
    place = urlsplit(url)
    head = raw_head(url, "receive-pack", f"Content-Length: {len(body)}\r\nConnection: close")
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=timeout) as connection:
        connection.sendall(head + body)
        stream = connection.makefile("rb")
        whole = 0
        while (field := stream.readline()) not in (b"\r\n", b""):
            if field.lower().startswith(b"content-length:"):
                whole = int(field.partition(b":")[2])
        buffer = b""
        while size := whole or int(stream.readline().strip() or b"0", 16):
            buffer += stream.read(size)
            stream.readline()
            if whole:
                whole, stream = 0, io.BytesIO()
            while len(buffer) >= 4 and len(buffer) >= max(4, int(buffer[:4], 16)):
                length = max(4, int(buffer[:4], 16))
                packet, buffer = buffer[4:length], buffer[length:]
                if packet:
                    yield Piece(packet[0], packet[1:])


def start_push(url: str, body: bytes) -> socket.socket:
    """Send a push and return the connection, with the answer unread."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname or "", place.port or 80), timeout=SECONDS)
    connection.sendall(raw_head(url, "receive-pack", f"Content-Length: {len(body)}") + body)
    return connection


def wait_for(path: Path) -> str:
    """The text of a file, once it is there and not empty."""
    wait_until(lambda: path.exists() and path.read_text(), f"{path} is written")
    return path.read_text()


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return re.search(r"\) Z ", Path(f"/proc/{pid}/stat").read_text()) is None
    except (FileNotFoundError, ProcessLookupError):  # gone, before or while it was read
        return False


def wait_until_gone(pid: int) -> None:
    """Fails unless a process ends in time."""
    wait_until(lambda: not is_alive(pid), f"process {pid} ends")
