"""govc token: access tokens, which stand in for a user's password where a person isn't: CI, scripts, mirrors."""

import re
import time
from datetime import UTC, datetime

import click

from govc.auth.patterns import BadPattern, RepositoryPattern
from govc.auth.principal import BadAuthFile, Grant, Level, is_user_name
from govc.auth.token_file import changing_tokens, parse_tokens
from govc.auth.tokens import TokenRecord, hash_token, make_token, token_id
from govc.auth.watched import FILE_BYTES_MAX
from govc.cli.settings_flags import load_chosen
from govc.watch import read_regular

DAY_SECONDS = 86400
EXPIRES_DEFAULT = "90d"

_DURATION = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_UNIT_SECONDS = {"h": 3600, "d": DAY_SECONDS, "w": 7 * DAY_SECONDS, "y": 365 * DAY_SECONDS}


class _Failing(click.Group):
    """Turns what our files and the system complain about into click's errors."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BadAuthFile as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.group(cls=_Failing)
@click.option("--file", "path", help="the file of tokens; else the setting token_file")
@click.option("--config", help="a govc.toml")
@click.pass_context
def token(ctx: click.Context, path: str | None, config: str | None) -> None:
    """Make, list and revoke access tokens. Running servers see a change at their next request."""
    chosen = path or load_chosen(config, None, {}).token_file
    if chosen is None:
        raise click.UsageError("name the file of tokens: --file, or the setting token_file")
    ctx.obj = chosen


def _parse_expiry(text: str, now: int) -> int | None:
    if text == "never":
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter("wants a number with h, d, w or y, or 'never'")
    return now + int(match[1]) * _UNIT_SECONDS[match[2]]


@token.command()
@click.argument("user")
@click.option("--read", "reads", multiple=True, metavar="PATTERN", help="repositories that it may read")
@click.option("--write", "writes", multiple=True, metavar="PATTERN", help="repositories that it may read and write")
@click.option("--expires", default=EXPIRES_DEFAULT, show_default=True, help="after 12h, 90d, 4w, 1y, or never")
@click.option("--description", default="", help="what it is for")
@click.pass_obj
def create(
    path: str, user: str, reads: tuple[str, ...], writes: tuple[str, ...], expires: str, description: str
) -> None:
    """Make a token of USER. It may never do more than USER may. It is shown once, and kept only as a hash."""
    if not is_user_name(user):
        raise click.UsageError(f"{user!r} can't be a user's name")
    if not reads and not writes:
        raise click.UsageError("say what the token is for: --read PATTERN or --write PATTERN ('**' is everything)")
    try:
        grants = [Grant(RepositoryPattern(text), Level.READ) for text in reads]
        grants += [Grant(RepositoryPattern(text), Level.WRITE) for text in writes]
    except BadPattern as error:
        raise click.UsageError(str(error)) from error
    now = int(time.time())
    secret = make_token()
    record = TokenRecord(
        id=token_id(secret),
        hash=hash_token(secret),
        user=user,
        grants=tuple(grants),
        created_at=now,
        expires_at=_parse_expiry(expires, now),
        description=description,
    )
    with changing_tokens(path) as records:
        records[record.id] = record
    click.echo(f"Token {record.id} of {user}, {_expiry(record, now)}. It is not shown again:", err=True)
    click.echo(secret)


@token.command("list")
@click.option("--user", help="only this user's")
@click.pass_obj
def list_tokens(path: str, user: str | None) -> None:
    """List the tokens: id, user, what for, until when. Secrets are not kept, so they can't be listed."""
    now = int(time.time())
    for record in parse_tokens(read_regular(path, FILE_BYTES_MAX) or b"", path).values():
        if user is not None and record.user != user:
            continue
        grants = ", ".join(f"{grant.level.name.lower()} {grant.pattern.text}" for grant in record.grants)
        made = datetime.fromtimestamp(record.created_at, UTC).date()
        about = f"  {record.description}" if record.description else ""
        click.echo(f"{record.id}  {record.user}  {grants}  made {made}, {_expiry(record, now)}{about}")


def _expiry(record: TokenRecord, now: int) -> str:
    if record.expires_at is None:
        return "never expires"
    word = "expired" if record.expires_at <= now else "expires"
    return f"{word} {datetime.fromtimestamp(record.expires_at, UTC):%Y-%m-%d %H:%M} UTC"


@token.command()
@click.argument("ids", nargs=-1)
@click.option("--user", help="all tokens of this user")
@click.option("--expired", is_flag=True, help="all that have expired")
@click.pass_obj
def revoke(path: str, ids: tuple[str, ...], user: str | None, expired: bool) -> None:
    """Revoke tokens by id (a whole token is taken for its id), by user, or the expired ones."""
    if not ids and user is None and not expired:
        raise click.UsageError("name what to revoke: an id, --user or --expired")
    wanted = {token_id(given) if given.startswith("govc_") else given for given in ids}
    now = int(time.time())
    with changing_tokens(path) as records:
        unknown = sorted(wanted - records.keys())
        if unknown:
            raise click.ClickException(f"there is no token {unknown[0]}; nothing was revoked")
        gone = [
            record
            for record in records.values()
            if record.id in wanted
            or (user is not None and record.user == user)
            or (expired and record.expires_at is not None and record.expires_at <= now)
        ]
        for record in gone:
            del records[record.id]
    click.echo(f"{len(gone)} revoked")
