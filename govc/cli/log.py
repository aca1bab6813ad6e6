"""govc log: look at a repository's write-ahead log.

Exit codes: 0 sound, 1 damaged, 2 can't be read.
"""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import click

from govc.cli import room
from govc.errors import GovcError


@click.group(name="log")
def log_group() -> None:
    """Look at a repository's write-ahead log."""


@log_group.command()
@click.argument("repository")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
def dump(repository: str, as_json: bool) -> None:
    """Print the records that REPOSITORY's log still holds, oldest first."""
    view_room = room("govc.repo.log_view")
    view = view_room.LogView()
    try:
        site = room("govc.repo.checkpoint_schedule").load_site(_git_folder(repository))
        for located in view_room.iter_located(site.layout.commondir, view):
            described = view_room.describe_record(located)
            click.echo(json.dumps(described) if as_json else format_record(described))
    except (GovcError, OSError) as error:
        click.echo(f"{repository}: {error}", err=True)
        sys.exit(2)
    if view.damage:
        click.echo(f"{repository}: {view.damage}", err=True)
        sys.exit(1)


@log_group.command()
@click.argument("repository")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def verify(repository: str, as_json: bool) -> None:
    """Read REPOSITORY's whole log and say whether it is sound."""
    try:
        site = room("govc.repo.checkpoint_schedule").load_site(_git_folder(repository))
        view = room("govc.repo.log_view").verify(site.layout.commondir)
    except (GovcError, OSError) as error:
        click.echo(f"{repository}: {error}", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(vars(view)))
    else:
        state = f"damaged: {view.damage}" if view.damage else "sound"
        click.echo(
            f"{repository}: {state}. {view.records} records in {view.segments} segments, up to number {view.last}; "
            f"checkpoint at {view.checkpoint}; {view.torn_bytes} bytes of a torn tail"
        )
        for note in view.notes:
            click.echo(f"{repository}: {note}")
    sys.exit(1 if view.damage else 0)


def format_record(described: dict[str, Any]) -> str:
    """Return a record as a few lines of text."""
    when = datetime.fromtimestamp(described["time_ns"] / 1e9, UTC).isoformat(timespec="milliseconds")
    who = described.get("actor") or "-"
    where = described.get("address") or "-"
    lines = [f"{described['sequence']} {described['kind']} {when} {who} {where} {described['bytes']} bytes"]
    lines += [f"    {ref['old']} {ref['new']} {ref['name']}" for ref in described.get("refs", ())]
    lines += [f"    {ref['name']} -> {ref['new']} (was {ref['old'] or '-'})" for ref in described.get("symrefs", ())]
    for pack in described.get("packs", ()):
        lines.append(f"    pack {pack.get('checksum', 'inline')} {pack['bytes']} bytes")
    lines += [f"    option {option}" for option in described.get("push_options", ())]
    if "number" in described:
        lines.append(f"    record {described['number']}")
    return "\n".join(lines)


def _git_folder(repository: str) -> str:
    found: str = os.path.realpath(room("govc.repo.discover").enter_repository(repository).gitdir)
    return found
