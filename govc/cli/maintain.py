"""govc maintain: merge packs, pack loose refs, remove leftovers, write what makes plain git quick."""

import os
import sys

import click

from govc.cli import room
from govc.errors import GovcError


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
def maintain(paths: tuple[str, ...]) -> None:
    """Look after the repositories PATHS, as the server does by itself.

    Packs and reftables are merged, loose refs packed, leftovers removed; commit-graph, multi-pack-index, reverse
    indexes and reachability bitmaps written.
    """
    maintenance = room("govc.repo.maintenance")
    failed = False
    for path in paths:
        try:
            report = maintenance.maintain_path(path, os.environ)
        except (GovcError, OSError) as error:
            click.echo(f"{path}: {error}", err=True)
            failed = True
            continue
        click.echo(
            f"{path}: {report.skipped}"
            if report.skipped
            else f"{path}: {report.packs_merged} packs merged, {report.refs_packed} files of refs packed, "
            f"{report.leftovers_removed} leftovers removed, {report.commits_graphed} commits graphed, "
            f"{report.packs_indexed} packs indexed together, {report.reverse_indexes} reverse indexes written, "
            f"{report.commits_bitmapped} commits bitmapped"
        )
    sys.exit(1 if failed else 0)
