"""The smart routes: discovery and the services.

Checks come in git-http-backend's order: may the service be used (403), is the Content-Type right (415), then
the body, which git looks at behind the headers of a success: what is wrong with it is told there. A service that is
unknown, switched off, or wants a user that nobody is, answers 403; never 401, since asking for a password is the front
server's affair.

Archives have no discovery of their own (a client asks upload-pack whether v2 is spoken here): 403.

Source: gitprotocol-http "Smart Server Response", "Smart Service git-upload-pack", "Smart Service
git-receive-pack".
"""

from collections.abc import Callable, Mapping
from typing import Any

from govc.errors import LimitExceeded
from govc.protocol.pktline import encode_error
from govc.service.context import RECEIVE_PACK, UPLOAD_ARCHIVE, UPLOAD_PACK, RequestContext
from govc.web.bodies import REQUEST_LIMIT, BodyError, open_body, read_bounded_body
from govc.web.interface import RepositoryHandle
from govc.web.responses import NEVER_CACHE, Response, error_response, whole_response

_SERVICES = {
    b"git-upload-pack": UPLOAD_PACK,
    b"git-receive-pack": RECEIVE_PACK,
    b"git-upload-archive": UPLOAD_ARCHIVE,
}
ARCHIVE_REQUEST_BYTES = 8 << 20
"""More than 64 arguments of a packet each."""

_SHOWN_TYPE_CHARACTERS_MAX = 200


def find_service(name: bytes) -> str | None:
    """Return "upload-pack" for "git-upload-pack", and so on; None for what is no service."""
    return _SERVICES.get(name)


def _is_allowed(handle: RepositoryHandle, service: str | None, context: RequestContext) -> bool:
    return service is not None and handle.service_enabled(service, context.remote_user)


def advertise(handle: RepositoryHandle, service: str | None, context: RequestContext) -> Response:
    """Answer GET info/refs?service=…"""
    if service == UPLOAD_ARCHIVE or not _is_allowed(handle, service, context):
        return error_response(403)
    content_type, body = f"application/x-git-{service}-advertisement", handle.advertise(context)
    if isinstance(body, bytes):
        return whole_response(content_type, body)
    headers = [*NEVER_CACHE, ("Content-Type", content_type), ("Content-Length", str(body.length))]
    return Response(200, headers, body.chunks)


def _wrong_content_type(expected: str, received: str) -> Response:
    shown = "".join(c if c.isprintable() else "?" for c in received[:_SHOWN_TYPE_CHARACTERS_MAX])
    sentence = f"Expected POST with Content-Type '{expected}', but received '{shown}' instead.\n"
    return error_response(415, sentence=sentence.encode("utf-8", "replace"))


def _is_told_within(error: BodyError | LimitExceeded) -> bool:
    """Whether git finds out behind the headers of a success: a body that can't be read, or is beyond maxRequestBuffer.

    What goes beyond a limit of ours that git doesn't have (body_bytes_max) gets a status of its own.
    """
    return isinstance(error, BodyError) or error.limit_name == REQUEST_LIMIT


def serve_rpc(
    handle: RepositoryHandle,
    service: str | None,
    context: RequestContext,
    environ: Mapping[str, Any],
    body_bytes_max: int = 0,
    note: Callable[[BodyError | LimitExceeded], None] = lambda error: None,
) -> Response:
    """Answer POST git-upload-pack, git-receive-pack or git-upload-archive; the body of the answer is produced while
    it is sent. `body_bytes_max` 0: the request's body may be as large as it is.

    A body that can't be taken is answered as git does, with a 200 (HB-49), and with an `ERR` packet that says why;
    `note` is told first.
    """
    if service is None or not _is_allowed(handle, service, context):
        return error_response(403)
    expected = f"application/x-git-{service}-request"
    received = environ.get("CONTENT_TYPE", "")
    if received != expected:
        return _wrong_content_type(expected, received)
    headers = [*NEVER_CACHE, ("Content-Type", f"application/x-git-{service}-result")]
    try:
        if service == UPLOAD_ARCHIVE:
            arguments = read_bounded_body(environ, ARCHIVE_REQUEST_BYTES, body_bytes_max)
            return Response(200, headers, handle.upload_archive(context, arguments))
        if service == UPLOAD_PACK:
            request = read_bounded_body(environ, handle.max_request_bytes(), body_bytes_max)
            return Response(200, headers, handle.upload_pack(context, request))
        return Response(200, headers, handle.receive_pack(context, open_body(environ, body_bytes_max)))
    except (BodyError, LimitExceeded) as error:
        if not _is_told_within(error):
            raise
        note(error)
        return Response(200, headers, encode_error(error.text if isinstance(error, BodyError) else error.public_text))
