"""Requests of some kilobytes that unfold to very many lines: others have their turns meanwhile."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from govc.app import create_app
from govc.protocol.oid import SHA1
from govc.protocol.pktline import DELIM, FLUSH, encode_text
from govc.repo.creation import create_first_commit, create_repository
from govc.repo.runtime import Runtime
from govc.settings import Settings

LINES = 20_000
ZERO = "0" * 40


class Server:
    """The application over one repository, and how often it let others run."""

    def __init__(self, folder: Path) -> None:
        path = folder / "served" / "a.git"
        path.parent.mkdir()
        create_repository(str(path), SHA1, export=True, allow_push=True)
        create_first_commit(str(path), SHA1, now_seconds=1_700_000_000)
        self.main = (path / "refs/heads/main").read_text().strip()
        self.pauses = 0
        settings = Settings(root=str(path.parent), export_all=True, metrics=False, cache_bytes_max=0)
        self.app = create_app(settings, runtime=Runtime(pause=self._pause))

    def _pause(self) -> None:
        self.pauses += 1

    def ask(self, service: str, body: bytes, protocol: str) -> bytes:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": f"/a.git/git-{service}",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "CONTENT_TYPE": f"application/x-git-{service}-request",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_GIT_PROTOCOL": protocol,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
        }
        return b"".join(self.app(environ, lambda *_: None))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    # At each place where a pause may be due it is.
    monkeypatch.setattr("govc.graph.interface.TICK_SECONDS", -1.0)
    monkeypatch.setattr("govc.repo.runtime.PAUSE_AFTER_SECONDS", -1.0)
    return Server(tmp_path)


def line(text: str) -> bytes:
    return encode_text(text.encode())


def command(name: str, args: bytes) -> bytes:
    return line(f"command={name}") + line("object-format=sha1") + DELIM + args


def empty_lines() -> bytes:
    return command("fetch", b"0004" * LINES * 10 + FLUSH)


def capabilities() -> bytes:
    return line("command=ls-refs") + line("agent=x") * LINES * 2 + DELIM + FLUSH


def peels() -> bytes:
    return command("ls-refs", line("peel") * LINES * 2 + FLUSH)


@pytest.mark.parametrize("make", [empty_lines, capabilities, peels])
def test_a_request_of_many_lines_lets_others_run_while_it_is_read(server: Server, make: Callable[[], bytes]) -> None:
    body = make()
    server.ask("upload-pack", body, "version=2")
    assert server.pauses >= len(body) // (32 << 10)


def test_prefixes_that_match_nothing_share_one_pace(server: Server) -> None:
    prefixes = b"".join(line(f"ref-prefix refs/none/{number}/") for number in range(LINES))
    assert server.ask("upload-pack", command("ls-refs", prefixes + FLUSH), "version=2") == FLUSH
    assert server.pauses >= LINES


def test_more_arguments_than_any_client_has_are_refused(server: Server) -> None:
    answer = server.ask("upload-pack", command("ls-refs", line("peel") * 1_010_000 + FLUSH), "version=2")
    assert b"more than 1000000 arguments" in answer


def test_a_push_of_many_commands_lets_others_run_while_it_is_read(server: Server) -> None:
    first = line(f"{ZERO} {server.main} refs/heads/a\0 report-status object-format=sha1")
    body = first + line(f"{ZERO} {server.main} refs/heads/a") * LINES  # no flush: nothing is done
    server.ask("receive-pack", body, "version=0")
    assert server.pauses >= len(body) // (128 << 10)
