"""govc fsck: is a repository whole?

Exit codes: 0 whole, 1 problems found, 2 can't be looked at.
"""

import dataclasses
import json
import os
import sys
import time

import click

from govc.cli import room
from govc.errors import GovcError

_PROGRESS_SECONDS = 0.5


@click.command()
@click.argument("repository")
@click.option("--json", "as_json", is_flag=True, help="the report as JSON")
@click.option("--quiet", is_flag=True, help="problems only, no notes and no summary")
def fsck(repository: str, as_json: bool, quiet: bool) -> None:
    """Check REPOSITORY's objects, refs, and the log against them. Nothing is changed."""
    last = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if sys.stderr.isatty() and time.monotonic() - last > _PROGRESS_SECONDS:
            last = time.monotonic()
            click.echo(f"\rchecking {what}: {done}" + (f"/{total}" if total else ""), err=True, nl=False)

    try:
        gitdir = os.path.realpath(room("govc.repo.discover").enter_repository(repository).gitdir)
        report = room("govc.repo.fsck").fsck(room("govc.repo.checkpoint_schedule").load_site(gitdir), tell)
    except (GovcError, OSError) as error:
        click.echo(f"{repository}: {error}", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for problem in report.problems:
            click.echo(f"error: {problem}")
        if not quiet:
            for note in report.notes:
                click.echo(f"note: {note}")
            state = f"{len(report.problems)} problems" if report.problems else "whole"
            counts = f"{report.objects} objects, {report.refs} refs, {report.log_records} log records"
            click.echo(f"{repository}: {state}; {counts}")
    sys.exit(1 if report.problems else 0)
