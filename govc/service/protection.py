"""Branch protection, applied: what the permission file's rules need to know of a command, and what they say.

Stands behind receive-pack's own rules (`judge`): it is asked only about what they let through. Which commit descends
from which is asked of the snapshot, only when a rule wants to know.
"""

import re
from collections.abc import Callable

from govc.auth.branches import BranchRules, UpdateFacts
from govc.graph.interface import Work
from govc.graph.walk import is_ancestor
from govc.objects.types import COMMIT
from govc.protocol.receive_pack import Command
from govc.repo.snapshot import Snapshot
from govc.service.shown import ShownRefs

_NAMESPACE = re.compile(rb"refs/namespaces/[^/]+/")

Run = Callable[[Work[bool]], bool]


class RefProtection:
    """The rules that bind one push. `run` drives long work to its result."""

    def __init__(self, rules: BranchRules, snapshot: Snapshot, shown: ShownRefs, *, run: Run, is_signed: bool) -> None:
        self._rules = rules
        self._snapshot = snapshot
        self._shown = shown
        self._run = run
        self._is_signed = is_signed
        self._zero = snapshot.algo.zero

    def judge(self, command: Command) -> str | None:
        """Return why the command is forbidden, for its `ng` line, or None."""
        if not self._rules:
            return None
        facts = UpdateFacts(
            deletes=command.new == self._zero,
            creates=command.old == self._zero,
            goes_forward=lambda: self._goes_forward(command),
            is_signed=self._is_signed,
        )
        return self._rules.refusal(self._names(command.refname), facts)

    def _names(self, refname: bytes) -> tuple[str, ...]:
        """Return every name of what is updated: as the peer calls it, and what a symbolic ref leads to; both also
        without their namespace, or a rule would not hold for who comes in by another one.
        """
        full = self._shown.full_name(refname)
        names = [refname, full]
        end = self._snapshot.table.follow(full)
        if end is not None:
            names.append(end[0])
        names += [_without_namespace(name) for name in names]
        return tuple(dict.fromkeys(name.decode("utf-8", "surrogateescape") for name in names))

    def _goes_forward(self, command: Command) -> bool:
        """Say whether both values are commits and the new one descends from the old. A moved tag never does."""
        store = self._snapshot.store
        old, new = store.find(command.old), store.find(command.new)
        if old < 0 or new < 0 or store.type_of(old) != COMMIT or store.type_of(new) != COMMIT:
            return False
        return self._run(is_ancestor(self._snapshot.history(), old, new))


def _without_namespace(name: bytes) -> bytes:
    while (match := _NAMESPACE.match(name)) is not None:
        name = name[match.end() :]
    return name
