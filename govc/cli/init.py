"""govc init: an empty bare repository."""

import os

import click

from govc.protocol.oid import find_algorithm
from govc.repo.creation import EXPORT_MARKER, create_repository


@click.command()
@click.argument("directory")
@click.option("--object-format", type=click.Choice(["sha1", "sha256"]), default="sha1", show_default=True)
@click.option("--ref-format", type=click.Choice(["files", "reftable"]), default="files", show_default=True)
@click.option("--export", is_flag=True, help=f"serve it: makes {EXPORT_MARKER}")
@click.option("--allow-push", is_flag=True, help="let anyone push: http.receivepack=true")
def init(directory: str, object_format: str, ref_format: str, export: bool, allow_push: bool) -> None:
    """Make a bare repository in DIRECTORY."""
    algo = find_algorithm(object_format)
    assert algo is not None
    try:
        create_repository(directory, algo, export=export, allow_push=allow_push, ref_storage=ref_format)
    except FileExistsError as error:
        raise click.ClickException(f"{directory}: there is something already") from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Made an empty bare repository in {os.path.abspath(directory)}")
