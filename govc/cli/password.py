"""govc password: a user's password in the htpasswd file that the server reads (`htpasswd_file`)."""

import sys

import click

from govc.auth.htpasswd import parse_htpasswd
from govc.auth.passwords import PASSWORD_BYTES_MAX
from govc.auth.principal import BadAuthFile, is_user_name
from govc.auth.replacing import locked, replace_file
from govc.auth.watched import FILE_BYTES_MAX, decode_text
from govc.cli import room
from govc.cli.settings_flags import load_chosen
from govc.watch import read_regular


@click.command()
@click.argument("user")
@click.option("--file", "path", help="the htpasswd file; else the setting htpasswd_file")
@click.option("--delete", is_flag=True, help="take the user out of the file")
@click.option("--config", help="a govc.toml")
def password(user: str, path: str | None, delete: bool, config: str | None) -> None:
    """Set the password of USER: asked for on a terminal, else the first line of the input. It is hashed by argon2."""
    path = path or load_chosen(config, None, {}).htpasswd_file
    if path is None:
        raise click.UsageError("name the file: --file, or the setting htpasswd_file")
    if not is_user_name(user) or ":" in user or user.startswith("#"):
        raise click.UsageError(f"{user!r} can't be a user's name here")
    try:
        hashes = None if delete else room("govc.auth.hashes")
    except ImportError as error:
        raise click.ClickException(f"{error}: pip install 'govc[auth]'") from error
    line = None if hashes is None else f"{user}:{hashes.hash_password(_ask())}"
    try:
        existed = _put(path, user, line)
    except BadAuthFile as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    if delete and not existed:
        raise click.ClickException(f"{path}: there is no user {user!r}")
    click.echo(f"{path}: user {user!r} {'deleted' if delete else 'changed' if existed else 'added'}")


def _ask() -> bytes:
    if sys.stdin.isatty():
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        text = sys.stdin.readline().rstrip("\n")
    secret = text.encode("utf-8", "surrogateescape")
    if not secret or len(secret) > PASSWORD_BYTES_MAX:
        raise click.ClickException(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes")
    return secret


def _put(path: str, user: str, line: str | None) -> bool:
    """Replace, add or (None) take out the line of a user; other lines stay as they are. Say whether there was one."""
    with locked(path):
        content = read_regular(path, FILE_BYTES_MAX) or b""
        parse_htpasswd(content, path)
        lines = decode_text(content, path).splitlines()
        kept = [other for other in lines if other.startswith("#") or other.partition(":")[0] != user]
        if line is not None:
            kept.append(line)
        replace_file(path, "".join(f"{other}\n" for other in kept).encode())
        return len(kept) - (line is not None) < len(lines)
