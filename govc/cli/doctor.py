"""govc doctor: why is this repository served, or not?"""

import dataclasses
import os
import sys
from typing import Any

import click

from govc.auth.assembly import make_policy
from govc.auth.patterns import repository_name
from govc.auth.permissions import Permissions
from govc.auth.principal import ANONYMOUS, Principal
from govc.cli import room
from govc.cli.settings_flags import load_chosen
from govc.errors import NO_REPOSITORY, GovcError, RepositoryNotFound
from govc.kernels.choice import COMPILED, describe
from govc.kernels.indexing import describe as describe_indexing
from govc.protocol.errors import RemoteProtocolError
from govc.repo.creation import EXPORT_MARKER
from govc.repo.diagnosis import explain_absence
from govc.service.context import RECEIVE_PACK, UPLOAD_PACK, RequestContext
from govc.settings import BadSetting, Settings


@click.command()
@click.argument("path")
@click.option("--user", help="what the permission file gives this user")
@click.option("--config", help="a govc.toml")
def doctor(path: str, user: str | None, config: str | None) -> None:
    """Say why the repository in PATH is served, or not."""
    chosen = load_chosen(config, None, {})
    settings = dataclasses.replace(chosen, root=None)
    sentences, is_served = diagnose(room("govc.app").create_backend(settings), path)
    sentences += root_sentences(chosen, path)
    for sentence in [*sentences, *permission_sentences(chosen, path, user), kernel_sentence()]:
        click.echo(sentence)
    sys.exit(0 if is_served else 1)


def root_sentences(settings: Settings, path: str) -> list[str]:
    """Say so when no URL leads to the path, wherever it is."""
    if settings.root is None:
        return []
    # As the URL has it: a link below the root is a name of its own, wherever it leads.
    inside = os.path.relpath(os.path.abspath(path), os.path.abspath(settings.root))
    if inside == ".." or inside.startswith("../"):
        return [f"No URL leads to it: it lies outside of {settings.root}, which is the folder that is served."]
    return []


def permission_sentences(settings: Settings, path: str, user: str | None) -> list[str]:
    """Say what the permission file gives somebody (and nobody in particular) on the repository in `path`, and where."""
    if settings.permission_file is None:
        return []
    try:
        policy = make_policy(settings)
    except BadSetting as error:
        raise click.ClickException(str(error)) from error
    assert policy is not None
    permissions = policy()
    assert isinstance(permissions, Permissions)
    name = repository_name(os.path.relpath(path, settings.root) if settings.root else os.path.abspath(path))
    sentences = []
    for principal in dict.fromkeys((ANONYMOUS, Principal(user=user))):
        rule = permissions.deciding_rule(principal, name)
        level = permissions.level(principal, (name,)).name.lower()
        why = f"the rule in line {rule.line} decides" if rule is not None else "no rule speaks of them"
        who = "who has not logged in" if principal.user is None else repr(principal.user)
        sentences.append(f"{settings.permission_file} gives {who} {level} on {name!r}: {why}.")
    return sentences


def kernel_sentence() -> str:
    """Say which of the hot loops are compiled here."""
    choices = describe()
    parts = [" ".join(filter(None, (choice.question, choice.kind, choice.reason))) for choice in choices]
    is_slow = any(choice.kind != COMPILED for choice in choices)
    advice = " With a C compiler on the machine, installing govc again compiles them." if is_slow else ""
    return f"Kernels: {', '.join(parts)}.{advice} Packs are indexed with {describe_indexing()}."


def diagnose(backend: Any, path: str) -> tuple[list[str], bool]:
    """Return sentences about the repository in `path`, and whether it is served at all."""
    context = RequestContext(service=UPLOAD_PACK, request_id="doctor")
    path = os.path.abspath(path)
    try:
        handle = backend.open(path, context=context)
        handle.advertise(context)
        return [f"Served: {path}.", *_service_sentences(handle)], True
    except (GovcError, RemoteProtocolError) as error:
        is_absent = isinstance(error, RepositoryNotFound) and error.reason == NO_REPOSITORY
        why = explain_absence(path) if is_absent else ""
        sentences = [f"Not served: {why or error}. Clients see HTTP status {error.http_status}."]
        if not is_absent and "export" in str(error):
            sentences.append(f"To serve it, make the file {EXPORT_MARKER} in it, or set GIT_HTTP_EXPORT_ALL for all.")
        return sentences, False


def _service_sentences(handle: Any) -> list[str]:
    sentences = []
    for user, who in ((None, "anyone"), ("user", "authenticated users")):
        for service, verb in ((UPLOAD_PACK, "fetch"), (RECEIVE_PACK, "push")):
            allowed = handle.service_enabled(service, user)
            sentences.append(f"{who.capitalize()} may {'' if allowed else 'not '}{verb}.")
    if not handle.getanyfile_enabled():
        sentences.append("Dumb HTTP is off (http.getanyfile=false).")
    return sentences
