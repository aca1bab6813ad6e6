"""A new worker's first steps, taken before it accepts anybody: the first request would pay for them.

The first answer of a process costs several times what the next one does. Its code runs for the first time (the
interpreter rewrites it as it runs), on pages that are the master's until it touches them; threads, buffers and heaps
are made. So a worker answers a few requests about a repository of its own first (`govc.repo.practice`), over a real
connection to itself, by an application that is like its own but for what it serves: listings, clones that are
produced, clones that are sent from the cache, a fetch.

Nobody else is answered, nothing of it is counted or logged, and everything it made is removed, in memory too. It ends
after SECONDS_MAX, whatever it has come to, and what is cut short then has a moment to end. Where it can't be done (no
room for a folder, no loopback) the worker starts as it is. What a worker leaves behind that is killed meanwhile, a
later one removes.
"""

import errno
import gc
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import gevent
from gevent import socket

from govc.errors import GovcError
from govc.protocol.pktline import DELIM, FLUSH, encode_text
from govc.repo.practice import BRANCH, Practice, make_practice

log = logging.getLogger(__name__)

SECONDS_MAX = 2.0
ENDING_SECONDS = 1.0
"""What is cut short has so long to end: until then it holds what it was made from, which would be kept for good."""

EXPECTED = (GovcError, OSError)
"""No room, no loopback: told in a line. Anything else is a fault of ours, and told with its traceback."""

PREFIX = "govc-practice-"
LEFT_SECONDS = 600.0
"""A folder of this age is nobody's any more."""

NAME = "practice.git"
ROUNDS = 3
"""Each asks for a clone of another tip, so that it is produced again, and again for the same, so that it isn't."""

RECEIVE_BYTES = 256 << 10
_CLIENT = (
    b"Host: localhost\r\nUser-Agent: git/2.39.5\r\nAccept-Encoding: deflate, gzip\r\nGit-Protocol: version=2\r\n"
    b"Connection: close\r\n"
)
_GOOD = b"HTTP/1.1 200 "
_POST = b"Content-Type: application/x-git-upload-pack-request\r\nAccept: application/x-git-upload-pack-result\r\n"


def _ask(command: bytes, arguments: Iterable[bytes]) -> bytes:
    lines = [b"command=" + command, b"agent=git/2.39.5", b"object-format=sha1"]
    body = b"".join((*map(encode_text, lines), DELIM, *map(encode_text, arguments), FLUSH))
    head = b"POST /%b/git-upload-pack HTTP/1.1\r\n" % NAME.encode()
    return head + _CLIENT + _POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _fetch(want: bytes, *haves: bytes) -> bytes:
    arguments = [b"thin-pack", b"include-tag", b"ofs-delta", b"want " + want.hex().encode()]
    return _ask(b"fetch", (*arguments, *(b"have " + have.hex().encode() for have in haves), b"done"))


def iter_requests(practice: Practice) -> Iterator[bytes]:
    """Yield what is asked, as it goes over the wire."""
    for number in range(ROUNDS):
        tip, before = practice.commits[-1 - number], practice.commits[-3 - number]
        yield b"GET /%b/info/refs?service=git-upload-pack HTTP/1.1\r\n" % NAME.encode() + _CLIENT + b"\r\n"
        yield _ask(b"ls-refs", (b"peel", b"symrefs", b"ref-prefix HEAD", b"ref-prefix " + BRANCH))
        yield _fetch(tip)
        yield _fetch(tip)
        yield _fetch(tip, before)


@contextmanager
def _silence() -> Iterator[None]:
    """Let nothing be logged that is no fault: requests that nobody made."""
    ours = logging.getLogger("govc")
    level = ours.level
    ours.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ours.setLevel(level)


def practise(worker: Any, make_application: Callable[[str, str], Any]) -> None:
    """Take a worker's first steps. `make_application` is given the folder to serve and one for a cache."""
    _practise(worker, make_application)
    gc.collect()  # from here, where nothing of it is held: what is frozen is never collected
    gc.freeze()  # what is there now stays


def _practise(worker: Any, make_application: Callable[[str, str], Any]) -> None:
    folder = ""
    try:
        with suppress(OSError):  # a folder that may be written to, and not be read
            _remove_left()
        folder = tempfile.mkdtemp(prefix=PREFIX)
        is_cut = True
        with _silence():
            with gevent.Timeout(SECONDS_MAX, False):
                requests = iter_requests(make_practice(f"{folder}/root/{NAME}"))
                with closing(make_application(f"{folder}/root", f"{folder}/cache")) as application:
                    worker.practise(application, lambda handle: exchange(handle, requests))
                is_cut = False
            if is_cut:
                gevent.sleep(ENDING_SECONDS)
    except Exception as error:  # whatever it is: who has not practised is a slower beginner, and no more
        log.warning("a worker starts without having practised: %s", error, exc_info=not isinstance(error, EXPECTED))
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_left() -> None:
    """Remove what workers of ours that were killed have left. Raises OSError."""
    before = time.time() - LEFT_SECONDS
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX):
                continue
            with suppress(FileNotFoundError):  # another worker was quicker
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mtime < before:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _accept(listener: socket.socket, wanted: Any) -> tuple[socket.socket, Any]:
    """Accept the connection from `wanted`, our own; others on this machine could be quicker, and are turned away."""
    while True:
        server, address = listener.accept()
        if address == wanted:
            return server, address
        server.close()


def exchange(handle: Callable[..., None], requests: Iterable[bytes]) -> None:
    """Let the worker's own function answer requests that come over connections of their own. Raises OSError."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        for request in requests:
            with socket.create_connection(listener.getsockname()) as client:
                server, address = _accept(listener, client.getsockname())
                answering = gevent.spawn(handle, listener, server, address)
                try:
                    client.sendall(request)
                    answer = client.recv(RECEIVE_BYTES)
                    if not answer.startswith(_GOOD):
                        raise OSError(errno.EPROTO, f"practising was answered {answer[:12]!r}")
                    while client.recv(RECEIVE_BYTES):
                        pass
                    answering.join()
                finally:
                    answering.kill(block=False)
