"""gunicorn's gevent worker, with the fast lane in front of its parser.

A connection is read here; what the lane takes (`lane`) is answered here, anything else goes to gunicorn with the
bytes that were read, and comes back when gunicorn has answered and the connection stays open. The application is the
same one, called by the same interface.

Idle connections are closed by one greenlet per worker that looks at all of them every second, instead of by a timer
per request. When the worker is asked to end, a client that is about to send its next request (git between its two, a
proxy that has just had an answer) must not find its connection closed: it gets its answer, with `Connection: close`.
Connections go that have been idle for longer than the configured proxies keep one (conf/nginx.conf), so that none is
closed while a proxy sends a push on it, which nobody may send twice; for a shorter time when the whole server stops.

How long a worker that ends gives its requests: `reload_seconds` when the server goes on without it, `stop_seconds` from
the moment that the server stops (`gunicorn_master`).

Signals for a worker that is being born are held back until it has handlers of its own: in between it has its master's,
which take them down for a master that it isn't, and it would live on, told to end or not.

What comes again in the same bytes, or in the same head of a fetch, is answered from what was found out the first time
(`again`).

The master process imports this before gevent patches anything, so nothing here may need the patched library at import.
"""

import errno
import io
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gevent
from gunicorn import SERVER_SOFTWARE, http, util
from gunicorn.workers.ggevent import GeventWorker

from govc.repo.runtime import Breather
from govc.web.again import (
    KNOWN_MAX,
    LESSON_VARIABLE,
    FetchHead,
    KnownRequest,
    Lesson,
    Words,
    fetch_head_of,
    may_be_known,
    words_of,
)
from govc.web.counted_socket import CountedSocket
from govc.web.depth import bound_unsent, send_all
from govc.web.gevent_runtime import GEVENT
from govc.web.gunicorn_master import STOPPING
from govc.web.lane import HEAD_BYTES_MAX, SCHEME_VARIABLE, encode_whole, make_environ, read_request
from govc.web.lane_answer import LaneAnswer
from govc.web.lane_body import LaneBody

RECEIVE_BYTES = 64 << 10
DROP_BYTES = 64 << 10
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)


IDLE_SECONDS_AT_RELOAD = 10.0
IDLE_SECONDS_AT_STOP = 2.0
_HELD = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
_holding_for: set[int] = set()


def _hold_signals_at_fork() -> None:
    """In this process, the master, let no signal arrive while it forks; its child takes them when it can."""
    master = os.getpid()
    if master in _holding_for:
        return
    _holding_for.add(master)

    def hold() -> None:
        if os.getpid() == master:
            signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)

    def release() -> None:
        if os.getpid() == master:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)

    os.register_at_fork(before=hold, after_in_parent=release)


def _called_name(path: str, host: str, scheme: str) -> tuple[str, str]:
    """Return the name and the port by which a client called the proxy in front of a Unix socket, which has neither.

    Without a word of the client's: the socket's path, and no port.
    """
    if not host:
        return path, ""
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return name, port
    return host, "443" if scheme == "https" else "80"


class _Known(NamedTuple):
    request: KnownRequest
    stays: bool
    """Whether the client keeps the connection."""


class GovcWorker(GeventWorker):  # type: ignore[misc]
    """See the story of this module."""

    wsgi: Any
    nr: int  # requests so far
    _had_turn: Any = None
    """The connection that was served last."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _hold_signals_at_fork()  # this is still the master
        self.stop_seconds: int | None = None
        self._ending_since: float | None = None
        self._idle: dict[Any, float] = {}
        self._names: dict[int, Any] = {}
        self._known: dict[tuple[str | None, bool, bytes], _Known] = {}
        self._date = ""
        self._date_at = 0

    def init_signals(self) -> None:
        """Take signals from now on (gunicorn's own hook)."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)

    def run(self) -> None:
        """Serve until told to end (gunicorn's own hook)."""
        for listener in self.sockets:
            bound_unsent(listener)
            # Asked now: a worker that ends closes its listeners before its connections.
            self._names[id(listener)] = listener.getsockname()
        watcher = gevent.spawn(self._watch)
        try:
            super().run()
        finally:
            watcher.kill()
            # What is left is to end. The interpreter takes its handlers away then: either signal would kill it.
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)

    def practise(self, application: Any, exchange: Callable[[Callable[..., None]], None]) -> None:
        """Have `exchange` use this worker's way of answering, with another application, as if nothing had been."""
        own, count = self.wsgi, self.nr
        self.wsgi = application
        try:
            exchange(self.handle)
        finally:
            self.wsgi, self.nr = own, count
            self._known.clear()

    def _watch(self) -> None:
        while True:
            gevent.sleep(1.0)
            if not self.alive:
                self._limit_ending()
            self._close_idle(self.cfg.keepalive if self.alive else self._idle_seconds_at_end())

    @staticmethod
    def _idle_seconds_at_end() -> float:
        return IDLE_SECONDS_AT_STOP if STOPPING[0] else IDLE_SECONDS_AT_RELOAD

    def _close_idle(self, seconds: float) -> None:
        limit = time.monotonic() - seconds
        for client, since in list(self._idle.items()):
            if since < limit:
                client.close()

    def _limit_ending(self) -> None:
        """Once the server stops, what was said for a reload counts no more; gunicorn looks at this every second."""
        now = time.monotonic()
        if self._ending_since is None:
            self._ending_since = now
        if STOPPING[0] and self.stop_seconds is not None:
            self.cfg.set("graceful_timeout", int(now - self._ending_since) + self.stop_seconds)
            self.stop_seconds = None

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection (gunicorn's own hook)."""
        if client.family == socket.AF_UNIX:
            addr = ""  # a peer may bind its end to a path that looks like an address, or a line of a log
            if not self.cfg.is_ssl:
                client = CountedSocket.of(client)
        if self.cfg.is_ssl or not self.cfg.keepalive or self.cfg.proxy_protocol != "off":
            super().handle(listener, client, addr)
            return
        client.setblocking(1)
        try:
            self._serve_connection(listener, client, addr)
        except OSError as error:
            if error.errno not in _GONE:
                self.log.exception("Socket error processing request.")
        except gevent.GreenletExit:
            self.log.debug("a connection was ended")
        except Exception:
            self.log.exception("Error handling request")
        finally:
            self._idle.pop(client, None)
            util.close(client)

    def _serve_connection(self, listener: Any, client: Any, addr: Any) -> None:
        slow = getattr(self.wsgi, "slow_clients", None)
        waits = slow.begin(client, is_lasting=True) if slow is not None else None
        try:
            self._answer_requests(listener, client, addr, waits)
        finally:
            if slow is not None:
                slow.end(waits)

    def _answer_requests(self, listener: Any, client: Any, addr: Any, waits: Any) -> None:
        name = self._names.get(id(listener)) or listener.getsockname()
        base = self._base_environ(name, addr)
        peer = base["REMOTE_ADDR"]
        says_scheme = not isinstance(addr, tuple) or not {peer, "*"}.isdisjoint(self.cfg.forwarded_allow_ips)
        idle, now = self._idle, time.monotonic
        # A head within this has no line that is longer.
        head_bytes_max = min(HEAD_BYTES_MAX, self.cfg.limit_request_field_size or HEAD_BYTES_MAX)
        fields_max = self.cfg.limit_request_fields
        breathe = Breather(GEVENT)
        data = b""
        while True:
            if not data:
                idle[client] = now()
                data = client.recv(RECEIVE_BYTES)
                del idle[client]
                if not data:
                    return
            # Whose next request is always there already never waits, and nobody else would have a turn.
            if self._had_turn is client:
                breathe()
            else:
                self._had_turn = client
                breathe.has_paused()
            words = words_of(peer, data)
            known = self._known.get(words.key) if words is not None else None
            if known is not None and words is not None:
                answer = self._stream_again if known.request.streams else self._answer_again
                again = answer(client, known, words.request_id, waits)
                if again is not None:
                    data = b""
                    if not again:
                        return
                    continue
            head = fetch_head_of(peer, data)
            known = self._known.get(head.words.key) if head is not None else None
            if known is not None and head is not None and words is not None:
                again = self._fetch_again(client, known, head, words)
                if again is not None:
                    data = b""
                    if not again:
                        return
                    continue
            request = read_request(data, head_bytes_max, fields_max)
            if request is None:
                left = self._serve_otherwise(name, client, addr, data, waits)
                if left is None:
                    return
                data = left
                continue
            body = LaneBody(client, request.body, request.rest) if request.is_push else None
            environ = make_environ(base, request, body or io.BytesIO(request.body))
            if says_scheme and environ.get(SCHEME_VARIABLE) == "https":
                environ["wsgi.url_scheme"] = "https"
            if request.is_push and not isinstance(name, tuple):  # hooks are told the server's name and port
                environ["SERVER_NAME"], environ["SERVER_PORT"] = _called_name(
                    base["SERVER_NAME"], environ.get("HTTP_HOST", ""), environ["wsgi.url_scheme"]
                )
            if words is not None and may_be_known(request, words, data):
                learn = partial(self._learn, words, request.stays)
                learn_head = partial(self._learn, head.words, request.stays) if head is not None else None
                environ[LESSON_VARIABLE] = Lesson(request.body, learn, learn_head)
            data = data[request.size :]
            self._count_request()
            stays = request.stays and self.alive
            watches_itself = request.streams or request.is_push
            if watches_itself:
                environ["gunicorn.socket"] = client  # as gunicorn has it: who waits for the client asks there
            self._answer(
                client, environ, stays=stays, waits=None if watches_itself else waits, holds_first=not request.is_push
            )
            # Also where the connection ends: to close it with bytes unread would reset it under who still sends.
            if body is not None and not body.is_read and not self._drop_rest(body, breathe, waits):
                return
            if not stays:  # whoever was told that the connection stays may use it at once, told to end or not
                return

    @staticmethod
    def _drop_rest(body: LaneBody, breathe: Breather, waits: Any) -> bool:
        """Read what nobody wanted of a body, before what follows it; False when it broke off. May switch."""
        if waits is not None:
            waits.begins()
        try:
            return body.drop_rest(breathe)
        finally:
            if waits is not None:
                waits.ends()

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False

    def _learn(self, words: Words, stays: bool, request: KnownRequest) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[words.key] = _Known(request, stays)

    def _answer_again(self, client: Any, known: "_Known", request_id: str, waits: Any) -> bool | None:
        """Answer a request that was answered before. Return whether the connection stays, None when it has to be asked
        in full."""
        request = known.request
        body = self.wsgi.answer_again(request, request_id)
        if body is None:
            return None
        self._count_request()
        stays = known.stays and self.alive
        for piece in encode_whole(request.headers, body, self._http_date(), stays=stays):
            # Mostly all of it goes at once, and nobody waits.
            try:
                sent = os.write(client.fileno(), piece)
            except BlockingIOError:
                sent = 0
            if sent < len(piece):
                if waits is not None:
                    waits.begins()
                send_all(client, memoryview(piece)[sent:])
                if waits is not None:
                    waits.ends()
        return stays

    def _stream_again(self, client: Any, known: "_Known", request_id: str, _waits: Any) -> bool | None:
        """The same, where the answer is a body that lies in a file. May switch."""
        answer = LaneAnswer(client, self._http_date(), stays=known.stays and self.alive)
        chunks = self.wsgi.stream_again(known.request, request_id, answer)
        if chunks is None:
            return None
        self._count_request()
        self._send(answer, chunks)
        return answer.stays

    def _fetch_again(self, client: Any, known: "_Known", head: FetchHead, words: Words) -> bool | None:
        """The same, where the head of a fetch is known and its body isn't. May switch."""
        answer = LaneAnswer(client, self._http_date(), stays=known.stays and self.alive)
        lesson = Lesson(head.body, partial(self._learn, words, known.stays))
        chunks = self.wsgi.fetch_again(known.request, head.words.request_id, lesson, answer)
        if chunks is None:
            return None
        self._count_request()
        self._send(answer, chunks)
        return answer.stays

    def _base_environ(self, name: Any, addr: Any) -> dict[str, Any]:
        host, port = (name[0], str(name[1])) if isinstance(name, tuple) else (str(name), "")
        base: dict[str, Any] = {
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": SERVER_SOFTWARE,
            "SERVER_NAME": host,
            "SERVER_PORT": port,
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": self.cfg.workers > 1,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        if isinstance(addr, tuple):
            base["REMOTE_ADDR"], base["REMOTE_PORT"] = addr[0], str(addr[1])
        else:
            base["REMOTE_ADDR"] = addr
        return base

    def _answer(
        self, client: Any, environ: dict[str, Any], *, stays: bool, waits: Any, holds_first: bool = True
    ) -> None:
        """Answer one request of the lane. `waits` None: the application watches the client's pace itself.
        `holds_first`: see LaneAnswer.
        """
        answer = LaneAnswer(client, self._http_date(), stays=stays, holds_first=holds_first)
        self._send(answer, self.wsgi(environ, answer.start), waits)

    @staticmethod
    def _send(answer: LaneAnswer, chunks: Any, waits: Any = None) -> None:
        try:
            if waits is None:
                answer.send(chunks)
            else:
                made = list(chunks)
                waits.begins()
                answer.send(made)  # an error ends the connection, and with it the waiting
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        if waits is not None:
            waits.ends()

    def _http_date(self) -> str:
        seconds = int(time.time())
        if seconds != self._date_at:
            self._date_at, self._date = seconds, util.http_date()
        return self._date

    def _serve_otherwise(self, listener_name: Any, client: Any, addr: Any, data: bytes, waits: Any) -> bytes | None:
        """Let gunicorn answer the next request; return what it read beyond it, None when the connection is over."""
        parser = http.get_parser(self.cfg, client, addr)
        parser.unreader.unread(data)
        request = None
        try:
            with self.timeout_ctx():
                request = next(parser)
            if not request:
                return None
            request.proxy_protocol_info = request.proxy_protocol_info or {}
            self.handle_request(listener_name, request, client, addr)
            if waits is not None:
                waits.begins()
            if request.should_close():
                return None
            breathe = Breather(GEVENT)
            # gunicorn's own way of dropping it copies all that has come for each KiB, and lets nobody else have a turn.
            while not request.body.failed and request.body.read(DROP_BYTES):
                breathe()
            if not parser.finish_body():
                return None
            if waits is not None:
                waits.ends()
            left: bytes = parser.unreader.take_buffered()
            return left
        except (http.errors.NoMoreData, StopIteration):
            return None
        except OSError:
            raise
        except Exception as error:
            self.handle_error(request, client, addr, error)
            return None

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Answer what gunicorn's parser has read (its own hook): by the name and the port that the lane would give."""
        if not isinstance(listener_name, tuple):
            host = next((value for name, value in reversed(req.headers) if name == "HOST"), "")
            listener_name = _called_name(str(listener_name), host, req.scheme)
        return super().handle_request(listener_name, req, sock, addr)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what could not be parsed (gunicorn's own hook); count heads that are too large."""
        watch = getattr(self.wsgi, "limit_watch", None)
        if watch is not None and isinstance(exc, http.errors.LimitRequestLine | http.errors.LimitRequestHeaders):
            watch.refused("header_bytes_max")
        super().handle_error(req, client, addr, exc)
