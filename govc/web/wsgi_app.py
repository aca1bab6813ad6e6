"""The WSGI application: environ in, iterable out. The only place where an environ is opened.

Order of checks, as in git-http-backend: is the path in its plain form (500), is there such a route (404), is the
method right (405), is there such a repository and is it exported (404), may the service be used (403), is the
Content-Type right (415). Where logins are checked here, that comes before the repository is looked for (401), and who
has not logged in is asked to (401) instead of being told 403 or 404.

The first chunk of an answer is produced before the status is sent, so that what fails early has an HTTP
status of its own. What fails later can only be said inside the stream, which the services do; when even that
fails the exception goes on to the server, which cuts the connection: an answer that merely ended would look
complete to the client.

A client that goes away makes the server call `close()` on the answer, which closes the service's generator.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any

from govc.auth.authenticator import Authenticator
from govc.auth.gate import client_key
from govc.auth.principal import AccessDenied, LoginBusy, LoginFailed, Principal
from govc.cache.bodies import Chunk
from govc.cache.span import FileSpan
from govc.errors import GovcError, LimitExceeded
from govc.limits.rates import Rates
from govc.limits.watch import NO_WATCH, LimitWatch
from govc.repo.runtime import PLAIN, Runtime
from govc.service.context import RECEIVE_PACK, UPLOAD_PACK, RequestContext, is_never_gone
from govc.web.access_log import Exchange, write_plainly
from govc.web.again import LESSON_VARIABLE, KnownRequest, Lesson, known_request
from govc.web.bodies import BodyError
from govc.web.dumb import serve_dumb
from govc.web.failures import answer_error, wrong_method
from govc.web.health import Health
from govc.web.identity import Identity, TrustedProxies, header_variable, identify
from govc.web.interface import Backend, RepositoryHandle
from govc.web.json_lines import CURRENT
from govc.web.lane import BODY_BYTES_MAX as LANE_BYTES_MAX
from govc.web.lane_answer import LaneAnswer
from govc.web.metrics import Metrics
from govc.web.own_pages import PREFIX as OWN_PREFIX
from govc.web.own_pages import OwnPages
from govc.web.request import (
    find_parameter,
    hook_variables,
    parse_protocol_version,
    request_path,
    wsgi_text,
)
from govc.web.responses import Header, Response, error_response, status_line
from govc.web.routes import Route, RouteKind, find_route
from govc.web.sending import NO_ACCEL_VARIABLE, WaitWritable, find_outlet
from govc.web.slow_clients import SlowClients, has_hung_up
from govc.web.smart import advertise, find_service, serve_rpc
from govc.web.streams import CountedInput, Stream, Whole, close_chunks, next_chunk
from govc.web.trace_context import Tracing

_LOG = logging.getLogger("govc.web")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SOMEBODY = "somebody"
_REMEMBERED_MAX = 4096
_REMEMBERED_CHARACTERS_MAX = 256

StartResponse = Callable[[str, list[Header]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """What the web layer takes from the settings.

    `root_is_set`: repositories are found by PATH_INFO below a root, else by PATH_TRANSLATED.
    `remote_user_header`: such as "X-Remote-User"; None: REMOTE_USER of the environ.
    `sendfile`, `accel_location`: how spans of files are sent (`sending`).
    `git_protocol`, `namespace`: GIT_PROTOCOL and GIT_NAMESPACE of the server; those of an environ win.
    `body_bytes_max`: of any request; 0: as large as it is.
    """

    root_is_set: bool = True
    remote_user_header: str | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128", "unix")
    git_protocol: str | None = None
    namespace: bytes = b""
    metrics: bool = True
    sendfile: bool = False
    accel_location: str | None = None
    body_bytes_max: int = 0


class Application:
    """The whole of govc as a WSGI callable."""

    def __init__(
        self,
        backend: Backend,
        options: WebOptions,
        *,
        metrics: Metrics | None = None,
        authenticator: Authenticator | None = None,
        runtime: Runtime = PLAIN,
        wait_writable: WaitWritable | None = None,
        health: Health | None = None,
        rates: Rates | None = None,
        slow_clients: SlowClients | None = None,
        limit_watch: LimitWatch = NO_WATCH,
        tracing: Tracing | None = None,
    ) -> None:
        """`authenticator` None: who somebody is, only the server in front of us says. `wait_writable` waits until a
        connection takes bytes again; None where connections can't be had. `rates` None: everybody may ask as often as
        he likes; `slow_clients` None: and take as long. `tracing` None: nothing is
        traced.
        """
        self._rates = rates
        self.slow_clients = slow_clients
        self.limit_watch = limit_watch
        self._tracing = tracing
        self._runtime = runtime
        self._wait_writable = wait_writable if options.sendfile else None
        self._accel_location = (options.accel_location or "").rstrip("/")
        self._health = health if health is not None else Health()
        self._backend = backend
        self._authenticator = authenticator
        self._options = options
        self._routes: dict[str, tuple[Route | None, str]] = {}
        self._services: dict[str, tuple[bytes | None, str | None]] = {}
        self._proxies = TrustedProxies(options.trusted_proxies)
        self._user_variable = header_variable(options.remote_user_header) if options.remote_user_header else None
        self._metrics = metrics if metrics is not None else (Metrics() if options.metrics else None)
        self._own_pages = OwnPages(self._health, self._metrics)

    def start(self) -> None:
        """Begin what runs in the background: for a process that lives longer than a request."""
        self._backend.start()

    def close(self) -> None:
        """End cleanly: the process answers no more requests."""
        self._health.end()
        self._backend.close()
        if self._metrics is not None:
            self._metrics.flush()
        if self._tracing is not None:
            self._tracing.close()

    def watch_ending(self, is_ending: Callable[[], bool]) -> None:
        """Ask this from now on whether the server shuts down; /-/readyz says so."""
        self._health.watch_ending(is_ending)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        if path.startswith(OWN_PREFIX):
            own = self._own_pages.answer(path, environ)
            if own is not None:
                start_response(status_line(own.status), own.headers)
                return [own.body] if isinstance(own.body, bytes) and own.body else []
        identity = identify(environ, header=self._user_variable, proxies=self._proxies)
        exchange = Exchange(
            request_id=self._request_id(environ.get("HTTP_X_REQUEST_ID", ""), environ.get("REMOTE_ADDR")),
            method=environ.get("REQUEST_METHOD", ""),
            path=wsgi_text(path),
            remote_addr=identity.remote_addr,
            metrics=self._metrics,
        )
        if self._tracing is not None:
            self._tracing.begin(exchange, environ, is_trusted=self._proxies.contains(environ.get("REMOTE_ADDR")))
        if self.slow_clients is not None:
            exchange.waits = self.slow_clients.begin(environ.get("gunicorn.socket"))
        CURRENT.set(exchange)
        return self._begin(partial(self._answer, environ, identity, exchange), exchange, environ, start_response)

    def _begin(
        self,
        answer: Callable[[], Response],
        exchange: Exchange,
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        response, first = self._answer_guarded(answer, exchange)
        exchange.status = response.status
        if isinstance(first, FileSpan):
            if exchange.teach is not None:
                exchange.teach()
            response, first = self._hand_over(response, first, environ, exchange)
        return self._send(response, first, exchange, environ, start_response)

    def _hand_over(
        self, response: Response, span: FileSpan, environ: dict[str, Any], exchange: Exchange
    ) -> tuple[Response, Chunk | None]:
        """Let nginx send a whole body, when it is nginx that asks."""
        if not span.whole_name or not self._sends_files(environ):
            return response, span
        assert not isinstance(response.body, bytes)
        close_chunks(response.body, exchange)
        exchange.bytes_sent = span.length
        target = f"{self._accel_location}/{span.whole_name}"
        # Of an answer whose length isn't told nginx doesn't know that it is over, and gives the connection up.
        headers = [*response.headers, ("X-Accel-Redirect", target), ("Content-Length", "0")]
        return Response(response.status, headers, b""), None

    def _sends_files(self, environ: dict[str, Any]) -> bool:
        """Whether it is nginx that asks, and may be told to send a file."""
        if not self._accel_location or NO_ACCEL_VARIABLE in environ:
            return False
        return self._proxies.contains(environ.get("REMOTE_ADDR"))

    def _send(
        self,
        response: Response,
        first: Chunk | None,
        exchange: Exchange,
        environ: dict[str, Any],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        body = response.body
        try:
            start_response(status_line(response.status), response.headers)
        except BaseException:
            if not isinstance(body, bytes):
                close_chunks(body, exchange)
            raise
        if exchange.method == "HEAD" or first is None:
            if not isinstance(body, bytes):
                close_chunks(body, exchange)
            exchange.finish()
            if exchange.waits is not None:
                exchange.waits.end_request()
            return []
        if isinstance(body, bytes):
            exchange.bytes_sent = len(body)
            exchange.finish()
            return [body] if exchange.waits is None else Whole(body, exchange.waits)
        outlet = find_outlet(environ, start_response, self._wait_writable, self._runtime)
        return Stream(first, iter(body), exchange, outlet)

    def _answer_guarded(self, answer: Callable[[], Response], exchange: Exchange) -> tuple[Response, Chunk | None]:
        """Return an answer and its first chunk (None when it is empty); whatever is raised becomes an
        answer."""
        response: Response | None = None
        try:
            response = answer()
            if isinstance(response.body, bytes):
                return response, response.body or None
            chunks = iter(response.body)
            return response._replace(body=chunks), next_chunk(chunks)
        except Exception as error:
            self._drop(response, exchange)
            if isinstance(error, GovcError) and error.limit_name:
                self.limit_watch.refused(error.limit_name)
            failed = answer_error(error, exchange)
            return failed, failed.body or None  # type: ignore[return-value]
        except BaseException:
            self._drop(response, exchange)
            raise

    @staticmethod
    def _drop(response: Response | None, exchange: Exchange) -> None:
        if response is not None and not isinstance(response.body, bytes):
            close_chunks(response.body, exchange)

    def _answer(self, environ: dict[str, Any], identity: Identity, exchange: Exchange) -> Response:
        is_first = exchange.method != "POST"
        if self._rates is not None:  # all without an address are one client
            self._rates.check_address(client_key(identity.remote_addr), is_first=is_first)
        route, repository = self._find_route(environ)
        if route is None:
            exchange.error = "no such route"
            return error_response(404)
        exchange.route = route.kind.value
        exchange.repository = repository
        method = "GET" if exchange.method == "HEAD" else exchange.method
        if method != route.method:
            return wrong_method(route, environ.get("SERVER_PROTOCOL", ""))
        try:
            principal = self._authenticate(environ, identity, exchange)
            if self._rates is not None and principal.user is not None:
                self._rates.check_user(principal.user, is_first=is_first)
            return self._answer_route(environ, route, identity.of(principal), exchange)
        except LoginFailed as error:
            return self._challenge(str(error), exchange)
        except AccessDenied as error:
            if exchange.remote_user is not None or self._authenticator is None:
                raise
            return self._challenge(str(error), exchange)

    def _authenticate(self, environ: dict[str, Any], identity: Identity, exchange: Exchange) -> Principal:
        """Return who asks: whom the server in front names, else whom the Authorization header proves. May switch.

        Raises LoginFailed, LoginBusy.
        """
        principal = identity.principal
        if principal.user is None and self._authenticator is not None:
            try:
                principal = self._authenticator.authenticate(environ.get("HTTP_AUTHORIZATION"), identity.remote_addr)
            except (LoginFailed, LoginBusy) as error:
                self._count_login(error.method, "refused" if isinstance(error, LoginFailed) else "busy")
                raise
            if principal.user is not None:
                self._count_login(principal.method, "accepted")
        exchange.remote_user = principal.user
        exchange.login = f"token:{principal.token_id}" if principal.token_id else principal.method
        return principal

    def _count_login(self, method: str, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.count_login(method, outcome)

    def _challenge(self, reason: str, exchange: Exchange) -> Response:
        """Ask who it is: git then asks its credential helper, or its user, and comes again."""
        assert self._authenticator is not None
        exchange.error = reason
        return error_response(401, *(("WWW-Authenticate", value) for value in self._authenticator.challenges))

    def _must_log_in(self, handle: RepositoryHandle, service: str | None, context: RequestContext) -> bool:
        """Say whether the repository's own settings would let somebody use the service, and not nobody."""
        return (
            self._authenticator is not None
            and service is not None
            and context.remote_user is None
            and not handle.service_enabled(service, None)
            and handle.service_enabled(service, _SOMEBODY)
        )

    def _find_route(self, environ: dict[str, Any]) -> tuple[Route | None, str]:
        """Return the route and the repository's path. Clients ask for the same paths again and again."""
        path_info = environ.get("PATH_INFO", "")
        known = self._routes.get(path_info)
        if known is not None:
            return known
        route = find_route(request_path(environ, root_is_set=self._options.root_is_set))
        found = (route, os.fsdecode(route.repository) if route is not None else "")
        if route is not None and self._options.root_is_set and len(path_info) <= _REMEMBERED_CHARACTERS_MAX:
            if len(self._routes) >= _REMEMBERED_MAX:
                self._routes.clear()
            self._routes[path_info] = found
        return found

    def _find_service(self, query: str) -> tuple[bytes | None, str | None]:
        """Return the `service` parameter and what it stands for."""
        known = self._services.get(query)
        if known is None:
            wanted = find_parameter(query, b"service")
            known = (wanted, find_service(wanted) if wanted is not None else None)
            if known[1] is not None and len(query) <= _REMEMBERED_CHARACTERS_MAX:
                if len(self._services) >= _REMEMBERED_MAX:
                    self._services.clear()
                self._services[query] = known
        return known

    def _answer_route(self, environ: dict[str, Any], route: Route, identity: Identity, exchange: Exchange) -> Response:
        wanted: bytes | None = None
        service: str | None = None
        if route.kind is RouteKind.RPC:
            environ["wsgi.input"] = CountedInput(environ["wsgi.input"], exchange)
            wanted = route.tail
            service = find_service(wanted)
        elif route.kind is RouteKind.INFO_REFS:
            wanted, service = self._find_service(environ.get("QUERY_STRING", ""))
        context = self._context(environ, route, service, identity, exchange)
        started = monotonic()
        try:
            handle = exchange.held = self._backend.open(exchange.repository, context=context)
        finally:
            exchange.note_validated(started)
        if self._must_log_in(handle, service, context):
            return self._challenge("the service wants a login", exchange)
        if route.kind is RouteKind.RPC:
            exchange.listen()
            note = partial(self._note_refused_body, exchange)
            response = serve_rpc(handle, service, context, environ, self._options.body_bytes_max, note)
        elif wanted is not None:
            response = advertise(handle, service, context)
        else:
            return serve_dumb(handle, route)
        lesson: Lesson | None = environ.get(LESSON_VARIABLE)
        if lesson is not None and response.status == 200:
            body = lesson.body if route.kind is RouteKind.RPC else None
            peer = environ.get("REMOTE_ADDR")
            teach = partial(self._teach, lesson, handle, context, body, peer, response.headers, exchange)
            if isinstance(response.body, bytes):
                teach()
            else:
                exchange.teach = teach
                self._teach_head(lesson, handle, context, peer, response.headers, exchange)
        return response

    def _teach_head(
        self,
        lesson: Lesson,
        handle: RepositoryHandle,
        context: RequestContext,
        peer: str | None,
        headers: list[Header],
        exchange: Exchange,
    ) -> None:
        """Tell what was found out about the head of a fetch, as `_teach` does about all of a request."""
        place = handle.known_place(exchange.repository, context) if lesson.learn_head is not None else None
        if place is None or lesson.learn_head is None or self._looks_each_time:
            return
        bytes_max = min(handle.max_request_bytes(), self._options.body_bytes_max or LANE_BYTES_MAX, LANE_BYTES_MAX)
        known = known_request(place, headers, peer, exchange)
        lesson.learn_head(replace(known, streams=True, body_bytes_max=bytes_max))

    @property
    def _looks_each_time(self) -> bool:
        """Whether the same words may mean something else next time."""
        return self._authenticator is not None or self._rates is not None or self._tracing is not None

    def _teach(
        self,
        lesson: Lesson,
        handle: RepositoryHandle,
        context: RequestContext,
        body: bytes | None,
        peer: str | None,
        headers: list[Header],
        exchange: Exchange,
    ) -> None:
        """Tell what was found out about a request, unless the same words may mean something else next time."""
        exchange.teach = None
        known = handle.known_listing(exchange.repository, context, body) if not self._looks_each_time else None
        if known is not None:
            lesson.learn(known_request(known, headers, peer, exchange))

    def answer_again(self, known: KnownRequest, request_id: str) -> bytes | None:
        """Return the body that a known request gets, logged and counted; None: ask in full.

        `request_id` is what the request's header says, "" for none.
        """
        started = monotonic()
        try:
            body = self._backend.answer_known(known.listing)
        except AccessDenied:
            return None
        if body is None:
            return None
        validated = monotonic()
        if not write_plainly(
            self._request_id(request_id, known.peer), known.log_middle, len(body), validated - started
        ):
            exchange = self._exchange_again(known, request_id, started)
            exchange.note_validated(started)
            exchange.bytes_sent = len(body)
            exchange.finish()
        elif self._metrics is not None:
            self._metrics.count_known(known.route, len(body), known.bytes_received, validated - started)
        return body

    def stream_again(self, known: KnownRequest, request_id: str, answer: LaneAnswer) -> Iterable[bytes] | None:
        """Begin the answer to a known request that gets a body; return its bytes, which are to be closed. None: ask in
        full.
        """
        started = monotonic()
        try:
            chunks = self._backend.stream_known(known.listing)
        except AccessDenied:
            return None
        first = next_chunk(chunks) if chunks is not None else None
        if chunks is None or not isinstance(first, FileSpan):
            return None
        exchange = self._exchange_again(known, request_id, started)
        exchange.note_validated(started)
        environ = self._watch_again(known, exchange, answer)
        response, chunk = self._hand_over(Response(200, known.headers, chunks), first, environ, exchange)
        if chunk is not None and first.whole_name:
            response = response._replace(headers=[*known.headers, ("Content-Length", str(first.length))])
        return self._send(response, chunk, exchange, environ, answer.start)

    def fetch_again(
        self, known: KnownRequest, request_id: str, lesson: Lesson, answer: LaneAnswer
    ) -> Iterable[bytes] | None:
        """Begin the answer to a fetch whose head is known, as `stream_again` does; `lesson` has its body."""
        started = monotonic()
        body = lesson.body
        if len(body) > known.body_bytes_max:
            return None
        exchange = self._exchange_again(known, request_id, started)
        gone = partial(has_hung_up, answer.connection)
        context = known.listing.context.for_another(exchange.request_id, gone)
        try:
            handle = self._backend.open_known(known.listing, context)
        except AccessDenied:
            return None
        if handle is None:
            return None
        exchange.note_validated(started)
        exchange.held = handle
        exchange.bytes_received = len(body)
        environ = self._watch_again(known, exchange, answer)
        exchange.listen()
        exchange.teach = partial(self._teach, lesson, handle, context, body, known.peer, known.headers, exchange)

        def make() -> Response:
            return Response(200, known.headers, handle.upload_pack(context, body))

        return self._begin(make, exchange, environ, answer.start)

    def _watch_again(self, known: KnownRequest, exchange: Exchange, answer: LaneAnswer) -> dict[str, Any]:
        """Watch the client of a known request, and return as much of an environ as sending an answer takes."""
        if self.slow_clients is not None:
            exchange.waits = self.slow_clients.begin(answer.connection)
        CURRENT.set(exchange)
        return {"REMOTE_ADDR": known.peer, "REQUEST_METHOD": known.method, "gunicorn.socket": answer.connection}

    def _exchange_again(self, known: KnownRequest, request_id: str, started: float) -> Exchange:
        return Exchange(
            request_id=self._request_id(request_id, known.peer),
            method=known.method,
            path=known.path,
            remote_addr=known.remote_addr,
            remote_user=known.remote_user,
            login=known.login,
            route=known.route,
            repository=known.repository,
            status=200,
            bytes_received=known.bytes_received,
            started_seconds=started,
            metrics=self._metrics,
            known_middle=known.log_middle,
        )

    def _note_refused_body(self, exchange: Exchange, error: BodyError | LimitExceeded) -> None:
        """Note why a body is not taken; raise it again when its client was too slow, which is a 408."""
        if exchange.waits is not None and exchange.waits.broken_limit:
            raise error
        exchange.error = str(error)
        if isinstance(error, LimitExceeded):
            self.limit_watch.refused(error.limit_name)

    def _context(
        self,
        environ: dict[str, Any],
        route: Route,
        service: str | None,
        identity: Identity,
        exchange: Exchange,
    ) -> RequestContext:
        git_protocol = environ.get("GIT_PROTOCOL") or self._options.git_protocol or environ.get("HTTP_GIT_PROTOCOL")
        version = parse_protocol_version(git_protocol)
        if service == RECEIVE_PACK and version == 2 and route.kind is RouteKind.RPC:
            version = 0  # There is no v2 of pushing; git answers such a request as v0.
        variables: dict[str, str] = {}
        if route.kind is RouteKind.RPC and service == RECEIVE_PACK:  # nothing else runs hooks
            variables = hook_variables(
                environ,
                remote_user=identity.remote_user,
                remote_addr=identity.remote_addr,
                git_protocol=git_protocol,
                auth_type=_auth_type(environ, identity),
            )
        namespace = environ.get("GIT_NAMESPACE")
        connection = environ.get("gunicorn.socket")
        return RequestContext(
            service=service or UPLOAD_PACK,
            protocol_version=version,
            remote_user=identity.remote_user,
            principal=identity.principal,
            remote_addr=identity.remote_addr,
            request_id=exchange.request_id,
            namespace=os.fsencode(wsgi_text(namespace)) if namespace else self._options.namespace,
            is_discovery=route.kind is not RouteKind.RPC,
            environ=variables,
            is_gone=partial(has_hung_up, connection) if connection is not None else is_never_gone,
            takes_whole=self._sends_files(environ),
        )

    def _request_id(self, given: str, peer: str | None) -> str:
        """Return the proxy's X-Request-Id, so that its log and ours can be joined, or one of our own."""
        if given and _REQUEST_ID.fullmatch(given) and self._proxies.contains(peer):
            return given
        return os.urandom(8).hex()


def _auth_type(environ: dict[str, Any], identity: Identity) -> str | None:
    """Return the scheme of the login that we checked, None when it wasn't us."""
    if identity.principal.method in ("none", "proxy"):
        return None
    scheme: str = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")[0]
    return scheme.capitalize()
