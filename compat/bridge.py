"""A small web server that runs one CGI program per request: what Apache's mod_cgi does, and nothing more.

It is the reference front end: with `git http-backend` behind it, it is the oracle that govc's answers are
compared with; with `govc http-backend` behind it, it shows that the CGI program is a drop-in. Bodies stream
in both directions (RFC 3875 for the CGI side, RFC 9112 chunked for the HTTP side); a request without
Content-Length reaches the program without CONTENT_LENGTH and ends with end of file.

Run as a program: `python -m compat.bridge ROOT -- git http-backend`; it prints its port as its first line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, BinaryIO, ClassVar
from urllib.parse import unquote_to_bytes

PIECE_BYTES = 65536
DRAIN_SECONDS = 20
GRACE_SECONDS = 10
TRUNCATED_SECONDS = 3


class TruncatedBody(Exception):
    """The client went away, or broke its framing, before its request body was complete."""


def iter_chunked(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the decoded pieces of a chunked body (RFC 9112 section 7.1)."""
    while True:
        line = stream.readline(1024)
        try:
            size = int(line.split(b";")[0].strip(), 16)
        except ValueError as error:
            raise TruncatedBody(line) from error
        if size == 0:
            while stream.readline(65536) not in (b"\r\n", b"\n", b""):
                pass
            return
        yield from iter_exactly(stream, size)
        stream.readline(16)


def iter_exactly(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield `size` bytes in pieces as they come."""
    while size > 0:
        piece = stream.read1(min(size, PIECE_BYTES))  # type: ignore[attr-defined]
        if not piece:
            raise TruncatedBody(f"{size} bytes missing")
        size -= len(piece)
        yield piece


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started: politely, so that git can tidy up, then for certain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


class CgiHandler(BaseHTTPRequestHandler):
    """One connection; every request on it starts the program anew."""

    protocol_version = "HTTP/1.1"
    program: ClassVar[list[str]] = []
    root: ClassVar[str] = ""
    script_name: ClassVar[str] = ""
    programs: ClassVar[set[subprocess.Popen[bytes]]] = set()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the tests look at answers."""

    def environment(self) -> dict[str, str]:
        """The CGI variables of this request, beside those the server was started with."""
        target = self.requestline.split(" ")[1]
        path, _, query = target.partition("?")
        env = dict(os.environ)
        env.setdefault("GIT_PROJECT_ROOT", self.root)
        env |= {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PROTOCOL": self.request_version,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": str(self.connection.getsockname()[1]),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": os.fsdecode(unquote_to_bytes(path)),
            "QUERY_STRING": query,
            "SCRIPT_NAME": self.script_name,
            "REMOTE_ADDR": self.client_address[0],
        }
        for name, value in self.headers.items():
            env["HTTP_" + name.upper().replace("-", "_")] = value
        for name, variable in (("Content-Type", "CONTENT_TYPE"), ("Content-Length", "CONTENT_LENGTH")):
            if self.headers.get(name) is not None:
                env[variable] = self.headers[name]
        if self.headers.get("X-Remote-User"):
            env["REMOTE_USER"] = self.headers["X-Remote-User"]
        return env

    def body(self) -> Iterator[bytes]:
        """The request body, decoded from its HTTP framing."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return iter_chunked(self.rfile)  # type: ignore[arg-type]
        return iter_exactly(self.rfile, int(self.headers.get("Content-Length") or 0))  # type: ignore[arg-type]

    def feed(self, process: subprocess.Popen[bytes]) -> None:
        """Copy the body to the program; when that stops reading, the client is drained all the same."""
        stdin = process.stdin
        assert stdin is not None
        reading = True
        try:
            for piece in self.body():
                if reading:
                    try:
                        stdin.write(piece)
                        stdin.flush()
                    except OSError:
                        reading = False
        except (TruncatedBody, OSError):
            self.close_connection = True
            # git http-backend may wait for ever for a body that will not come.
            timer = threading.Timer(TRUNCATED_SECONDS, end_group, (process,))
            timer.daemon = True
            timer.start()
        finally:
            with contextlib.suppress(OSError):
                stdin.close()

    def run_program(self) -> None:
        """Answer one request."""
        try:
            env = self.environment()
            process = subprocess.Popen(
                self.program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
            )
        except (ValueError, OSError):  # a NUL byte in the path, or a path beyond what execve takes
            self.send_error(400)
            self.close_connection = True
            return
        self.programs.add(process)
        feeder = threading.Thread(target=self.feed, args=(process,), daemon=True)
        feeder.start()
        try:
            assert process.stdout is not None
            self.relay(process.stdout)
        except OSError:
            self.close_connection = True
            end_group(process)
        finally:
            assert process.stdout is not None
            process.stdout.close()
            process.wait()
            self.programs.discard(process)
            feeder.join(DRAIN_SECONDS)
            if feeder.is_alive():
                self.close_connection = True

    def relay(self, stdout: IO[bytes]) -> None:
        """Turn the program's output into an HTTP answer."""
        status, reason, headers = "200", "OK", []
        seen = False
        while (line := stdout.readline(65536)) not in (b"\r\n", b"\n", b""):
            seen = True
            name, _, value = line.decode("latin-1").strip().partition(":")
            if name.lower() == "status":
                status, _, reason = value.strip().partition(" ")
            else:
                headers.append((name, value.strip()))
        if not seen:
            status, reason = "500", "Internal Server Error"
        self.send_response(int(status), reason)
        sized = False
        for name, value in headers:
            sized = sized or name.lower() == "content-length"
            self.send_header(name, value)
        chunked = not sized and self.request_version != "HTTP/1.0"
        if chunked and self.command != "HEAD":
            self.send_header("Transfer-Encoding", "chunked")
        if not sized and not chunked:
            self.close_connection = True
        self.end_headers()
        while piece := stdout.read1(PIECE_BYTES):  # type: ignore[attr-defined]
            if self.command == "HEAD":
                continue
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = run_program


class BridgeServer(ThreadingHTTPServer):
    """Threads that die with the process; errors of single connections are the client's business."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """A client that hangs up is no news."""


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    split = arguments.index("--")
    CgiHandler.root = arguments[0]
    CgiHandler.program = arguments[split + 1 :]
    server = BridgeServer(("127.0.0.1", 0), CgiHandler)
    print(server.server_address[1], flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.serve_forever()
    finally:
        for process in list(CgiHandler.programs):
            end_group(process)


if __name__ == "__main__":
    main(sys.argv[1:])
