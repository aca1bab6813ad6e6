"""Commands of one push that meet: a symbolic ref and its target, two symbolic refs to one ref, one ref twice.

    symref and its target, alike        the target is changed, and the symref's command succeeds with it
    symref and its target, not alike    both are refused, whatever else the target's command was refused for
    symref that leads nowhere           refused
    two commands that would change one ref   no transaction can do that: all that were to go into it are refused

Source: git's builtin/receive-pack.c (check_aliased_updates, execute_commands_non_atomic) and refs.c ("multiple updates
for ref ... not allowed"), as in git 2.55; rows RP-61, RP-63.
"""

from collections import Counter
from collections.abc import Iterable

from govc.refs.plan import REASON_ALIASED, REASON_BROKEN_SYMREF, RefUpdate, explain_aliased, shown
from govc.refs.table import RefTable
from govc.service.pacing import Pace
from govc.service.push_state import PushState
from govc.service.shown import HEAD, ShownRefs


def refuse_aliased(state: PushState, refs: ShownRefs, table: RefTable, pace: Pace) -> None:
    """Refuse commands for a symref and its target that don't agree; those that do go into `state.done_elsewhere`."""
    if len(state.commands) == 1 and not _is_symref(table, refs.full_name(state.commands[0].refname)):
        return
    targets = {command.refname: index for index, command in enumerate(state.commands)}
    for index, command in pace(list(state.iter_standing())):
        full = refs.full_name(command.refname)
        if not state.stands(index) or not _is_symref(table, full):
            continue
        end = table.follow(full)
        if end is None:
            state.say(f"error: refusing update to broken symref '{shown(command.refname)}'")
            state.fail(index, REASON_BROKEN_SYMREF)
            continue
        target = targets.get(end[0].removeprefix(refs.prefix)) if end[0].startswith(refs.prefix) else None
        if target is None:
            continue
        direct = state.commands[target]
        if (command.old, command.new) == (direct.old, direct.new):
            state.done_elsewhere.add(index)
            continue
        alias = RefUpdate(command.refname, command.old, command.new)
        detail = explain_aliased(alias, RefUpdate(direct.refname, direct.old, direct.new), direct.refname)
        state.say(f"error: {detail}")
        state.errors[index] = state.errors[target] = REASON_ALIASED


def find_doubled(updates: Iterable[RefUpdate], table: RefTable, pace: Pace) -> str | None:
    """Return what git says when two of the updates would change one ref; None when none do."""
    ends = Counter((table.follow(update.name) or (update.name,))[0] for update in pace(updates))
    if not ends or max(ends.values()) == 1:
        return None
    return f"multiple updates for ref '{shown(ends.most_common(1)[0][0])}' not allowed"


def _is_symref(table: RefTable, name: bytes) -> bool:
    if name == HEAD:
        return table.head.symref_target is not None
    found = table.raw(name)
    return found is not None and found.target is not None
