"""govc checkpoint, recover, retire: the log's upkeep by hand.

Exit codes: 0 done, 1 some repository could not be done (each failure is a line on stderr).
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from govc.cli import room
from govc.errors import GovcError

_Work = Callable[[str], str]

ALL_HELP = "every repository below FOLDER that has a log: up to eight folders deep, not beyond symbolic links"


def _git_folders(paths: tuple[str, ...], everything: str | None) -> Iterator[str]:
    """Yield the git folders of the repositories named, and of all below `everything`."""
    for path in paths:
        yield os.path.realpath(room("govc.repo.discover").enter_repository(path).gitdir)
    if everything is not None:
        yield from room("govc.repo.eager_recovery").iter_logged(os.path.abspath(everything))


def _for_each(paths: tuple[str, ...], everything: str | None, work: _Work) -> None:
    """Do `work` for each repository and print its sentence; exit with 1 when one failed."""
    if not paths and everything is None:
        raise click.UsageError("name repositories, or --all FOLDER")
    failed = False
    try:
        folders = list(_git_folders(paths, everything))
    except (GovcError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for number, folder in enumerate(folders, 1):
        if sys.stderr.isatty() and len(folders) > 1:
            click.echo(f"\r{number}/{len(folders)}", err=True, nl=False)
        try:
            click.echo(f"{folder}: {work(folder)}")
        except (GovcError, OSError) as error:
            click.echo(f"{folder}: {error}", err=True)
            failed = True
    sys.exit(1 if failed else 0)


@click.command()
@click.argument("repositories", nargs=-1)
@click.option("--all", "everything", metavar="FOLDER", help=ALL_HELP)
@click.option("--archive", default="", metavar="FOLDER", help="keep retired parts of the log there")
@click.option("--close", "close_log", is_flag=True, help="retire the whole log when nothing is left in it")
def checkpoint(repositories: tuple[str, ...], everything: str | None, archive: str, close_log: bool) -> None:
    """Make git's own files durable and retire what the log no longer needs."""

    def work(gitdir: str) -> str:
        report = room("govc.repo.checkpoint_schedule").checkpoint_path(gitdir, archive_dir=archive, close_log=close_log)
        return (
            f"durable up to record {report.sequence}: {report.records} records, {report.observed} observed changes, "
            f"{report.segments_retired} segments and {report.packs_retired} packs retired"
        )

    _for_each(repositories, everything, work)


@click.command()
@click.argument("repositories", nargs=-1)
@click.option("--all", "everything", metavar="FOLDER", help=ALL_HELP)
@click.option("--json", "as_json", is_flag=True, help="the report as JSON")
@click.option("--adopt", is_flag=True, help="replay a log that was made for another folder (a copy, a restored backup)")
@click.option("--cut", is_flag=True, help="let a damaged log end where the damage begins; what follows is lost")
@click.option("--discard", is_flag=True, help="set the log aside unread; the refs stay as they are")
def recover(
    repositories: tuple[str, ...], everything: str | None, as_json: bool, adopt: bool, cut: bool, discard: bool
) -> None:
    """Finish what killed processes or a power cut have left, and say what was done."""
    if sum((adopt, cut, discard)) > 1:
        raise click.UsageError("--adopt, --cut and --discard exclude one another")

    def work(gitdir: str) -> str:
        site = room("govc.repo.checkpoint_schedule").load_site(gitdir)
        if discard:
            return f"the log was set aside as {room('govc.repo.retire').discard(site)}"
        options = room("govc.repo.journal").JournalOptions()
        journal, report = room("govc.repo.open_journal").open_journal(site, options, adopt=adopt, cut=cut)
        journal.close()
        return format_report(report, as_json)

    _for_each(repositories, everything, work)


def format_report(report: Any, as_json: bool) -> str:
    """Return a recovery's report as one line."""
    values = dataclasses.asdict(report)
    if as_json:
        return json.dumps(values)
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items() if value and name != "kind")
    return f"{report.kind}: {told}" if told else str(report.kind)


@click.command()
@click.argument("repositories", nargs=-1)
@click.option("--all", "everything", metavar="FOLDER", help=ALL_HELP)
def retire(repositories: tuple[str, ...], everything: str | None) -> None:
    """Empty the log into git's own files and remove it: the way back to git-http-backend. Stop the server first."""

    def work(gitdir: str) -> str:
        site = room("govc.repo.checkpoint_schedule").load_site(gitdir)
        options = room("govc.repo.journal").JournalOptions()
        report = room("govc.repo.retire").retire(site, options)
        return f"retired at record {report.sequence}" if report.was_there else "has no log"

    _for_each(repositories, everything, work)
