"""All targets, in the order of the rooms. Importing this imports every parser."""

from tests.fuzz.engine import Target
from tests.fuzz.targets import (
    bitmaps,
    logins,
    objects,
    packs,
    records,
    refs,
    settings,
    storage,
    stored,
    texts,
    web,
    wire,
)

TARGETS: tuple[Target, ...] = (
    *wire.TARGETS,
    *objects.TARGETS,
    *texts.TARGETS,
    *refs.TARGETS,
    *packs.TARGETS,
    *stored.TARGETS,
    *storage.TARGETS,
    *bitmaps.TARGETS,
    *records.TARGETS,
    *web.TARGETS,
    *logins.TARGETS,
    *settings.TARGETS,
)
"""Every parser that faces the network, a repository's files or the admin's."""


def find(names: tuple[str, ...]) -> list[Target]:
    """The targets of these names, all for none; KeyError."""
    by_name = {target.name: target for target in TARGETS}
    return [by_name[name] for name in names] if names else list(TARGETS)
