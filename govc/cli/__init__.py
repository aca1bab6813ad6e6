"""The command line: one file per command, imported when it runs.

    govc serve [DIR]        gunicorn with gevent workers over a folder of bare repositories
    govc http-backend       one request as a CGI program, in the place of git-http-backend
    govc init DIR           a bare repository
    govc doctor PATH        why is this repository served, or not?
    govc maintain PATH...   what the server does by itself in the background
    govc checkpoint, recover, retire PATH...    the write-ahead log's upkeep by hand
    govc log dump|verify PATH                   looking at it
    govc fsck PATH          is it whole: objects, refs, the log against them
    govc set-head PATH BRANCH                   the default branch, through the log
    govc password USER      a user's password in the htpasswd file
    govc token ...          access tokens: make, list, revoke

What a command needs is imported when it runs: a CGI program must not pay for gunicorn, and the workers of
`serve` must import everything after gevent has patched the standard library. `_COMMANDS` names the module of each
command, `room` imports one of ours from inside a command.
"""

import importlib
from typing import Any

import click

from govc import __version__

_COMMANDS = {
    "checkpoint": ("durability", "checkpoint"),
    "doctor": ("doctor", "doctor"),
    "fsck": ("fsck", "fsck"),
    "http-backend": ("http_backend", "http_backend"),
    "init": ("init", "init"),
    "log": ("log", "log_group"),
    "maintain": ("maintain", "maintain"),
    "password": ("password", "password"),
    "recover": ("durability", "recover"),
    "retire": ("durability", "retire"),
    "serve": ("serve", "serve"),
    "set-head": ("set_head", "set_head"),
    "token": ("token", "token"),
}
"""Name of a command: (its module in this package, the command in it)."""


def room(name: str) -> Any:
    """Import a module of ours now."""
    return importlib.import_module(name)


class _Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(room(f"govc.cli.{module}"), attribute)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="govc")
def main() -> None:
    """Serve bare Git repositories over HTTP."""
