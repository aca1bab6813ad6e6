"""govc http-backend: one request as a CGI program, in the place of git-http-backend."""

import logging
import os
import signal
import sys
from functools import partial
from typing import Any

import click

from govc.cli import room
from govc.settings import BadSetting, load_settings


@click.command("http-backend")
def http_backend() -> None:
    """Answer one CGI request, as git-http-backend does."""
    logging.basicConfig(level=logging.WARNING, format="govc http-backend: %(message)s")
    try:
        application = room("govc.app").create_app(load_settings(os.environ), metrics=False, helper_processes_max=0)
    except BadSetting as error:
        click.echo(f"govc http-backend: {error}", err=True)
        responses = room("govc.web.responses")
        answer = responses.error_response(500)
        lines = (f"{name}: {value}\r\n" for name, value in [("Status", responses.status_line(500)), *answer.headers])
        click.echo("".join(lines) + "\r\n", nl=False)
        return
    # A web server that has lost its client ends its program: what a push began is undone, its hooks are ended.
    startup = room("govc.repo.hook_runner").startup

    def leave(number: int, _frame: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)  # said once is enough: ending hooks must not be broken off
        startup.leave(partial(sys.exit, 128 + number))

    signal.signal(signal.SIGTERM, leave)
    # Unbuffered: a request that comes slowly must be seen as it comes.
    with (
        open(0, "rb", buffering=0, closefd=False) as body,
        open(1, "wb", buffering=0, closefd=False) as answer,
    ):
        status = room("govc.web.cgi").run_cgi(
            application, variables=os.environ, request_body=body, answer=answer, errors=sys.stderr
        )
    sys.exit(status)
