"""govc set-head: which branch a clone checks out."""

import os

import click

from govc.cli import room
from govc.errors import GovcError


@click.command("set-head")
@click.argument("repository")
@click.argument("branch")
def set_head(repository: str, branch: str) -> None:
    """Make BRANCH the default branch of REPOSITORY: HEAD points to it, through the log."""
    writing, journal_room = room("govc.repo.writing"), room("govc.repo.journal")
    target = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
    try:
        gitdir = os.path.realpath(room("govc.repo.discover").enter_repository(repository).gitdir)
        opened = room("govc.app").open_repository(gitdir)
        user = os.environ.get("USER") or "govc"
        origin = writing.Origin(
            committer=room("govc.refs.reflog").encode_ident(os.fsencode(user), os.fsencode(f"{user}@localhost")),
            message=b"govc set-head",
            actor=user,
        )
        options = journal_room.JournalOptions()
        writing.change_symref(opened, opened.snapshot(), origin, options, b"HEAD", os.fsencode(target))
        opened.close()
    except (GovcError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{repository}: HEAD is {target}")
