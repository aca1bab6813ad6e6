"""Who pushed, as the reflog has it.

Source: http-backend's run_service (GIT_COMMITTER_NAME, GIT_COMMITTER_EMAIL); rows HB-68, SEC-34.
"""

import os
from collections.abc import Mapping

from govc.refs.reflog import encode_ident
from govc.service.context import RequestContext


def committer_variables(context: RequestContext, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return name and email: the server's own GIT_COMMITTER_* when set, else the user and its address."""
    user = context.remote_user or "anonymous"
    host = context.remote_addr or "(none)"
    name = environ.get("GIT_COMMITTER_NAME") or user
    email = environ.get("GIT_COMMITTER_EMAIL") or f"{user}@http.{host}"
    return name, email


def committer_ident(context: RequestContext, environ: Mapping[str, str]) -> bytes:
    """Return `name <email>` for reflogs."""
    name, email = committer_variables(context, environ)
    return encode_ident(os.fsencode(name), os.fsencode(email))
