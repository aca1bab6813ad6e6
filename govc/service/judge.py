"""Which ref updates of a push are refused by rule, and in which words.

The rules and their order are those of receive-pack's `update()`: the form of the name, the branch that somebody has
checked out, the new value's presence, deletions, branches that hold commits only and may have to go forward only. The
words are git's, since scripts and people read them.

Source: git's builtin/receive-pack.c (update); git-config "receive.*"; rows RP-42..49, RP-64, RP-65.
"""

from collections.abc import Callable
from typing import TypeVar

from govc.graph.interface import Work
from govc.graph.walk import is_ancestor
from govc.objects.types import COMMIT
from govc.protocol.receive_pack import Command
from govc.protocol.refname import is_safe_refname, is_storable_refname
from govc.repo.snapshot import Snapshot
from govc.repo.worktrees import Worktree, find_linked_worktree, is_checked_out_elsewhere, own_worktree
from govc.service.policy import DenyAction, ReceivePolicy
from govc.service.shown import ShownRefs

_T = TypeVar("_T")

# What an admin reads who pushes to a branch that someone works on; the settings that it names are git's.
REFUSE_UNCONFIGURED_UPDATE = (
    "By default, updating the current branch in a non-bare repository is denied: the index and",
    "the work tree there would no longer fit what was pushed, and 'git reset --hard' would be",
    "needed to make them fit again.",
    "",
    "'receive.denyCurrentBranch' set to 'ignore' or 'warn' in the remote repository allows it.",
    "To be refused without this explanation, set it to 'refuse'.",
)
REFUSE_UNCONFIGURED_DELETION = (
    "By default, deleting the current branch is denied: the next clone would find no branch to",
    "check out.",
    "",
    "'receive.denyDeleteCurrent' set to 'warn' or 'ignore' in the remote repository allows it.",
    "To be refused without this explanation, set it to 'refuse'.",
)


def shown_name(name: bytes) -> str:
    """Return a refname as text for band 2."""
    return name.decode("utf-8", "surrogateescape")


class CommandJudge:
    """Judges the commands of one push against one snapshot; `say` takes lines for band 2."""

    def __init__(
        self,
        snapshot: Snapshot,
        shown: ShownRefs,
        policy: ReceivePolicy,
        *,
        say: Callable[[str], None],
        pause: Callable[[], None],
    ) -> None:
        self._snapshot = snapshot
        self._shown = shown
        self._policy = policy
        self._say = say
        self._pause = pause
        self._zero = snapshot.algo.zero

    def judge(self, command: Command, missing_tips: frozenset[bytes]) -> str | None:
        """Return git's reason why a command is refused by rule, or None (git: update())."""
        deletes = command.new == self._zero
        name = command.refname
        if not is_safe_refname(name, deleting=deletes):
            self._say(f"error: refusing to {'delete' if deletes else 'update'} funny ref '{shown_name(name)}' remotely")
            return "funny refname"
        if not is_storable_refname(self._shown.full_name(name)):
            return "failed to update ref"
        refusal = self._judge_current_branch(command)
        if refusal is not None:
            return refusal
        is_missing = command.new in missing_tips
        if not deletes and (is_missing or self._snapshot.store.find(command.new) < 0):
            self._say(f"error: unpack should have generated {command.new.hex()}, but I can't find it!")
            return "bad pack"
        if deletes:
            return self._judge_deletion(command)
        return self._judge_branch(command) if name.startswith(b"refs/heads/") else None

    def _judge_branch(self, command: Command) -> str | None:
        """A branch holds commits, and may have to go forward only."""
        if command.old != self._zero:
            refusal = self._judge_fast_forward(command)
            if refusal is not None:
                return refusal
        store = self._snapshot.store
        number = store.find(command.new)
        if number >= 0 and store.type_of(number) != COMMIT:
            self._say(
                f"error: cannot update ref '{shown_name(command.refname)}': trying to write non-commit object "
                f"{command.new.hex()} to branch '{shown_name(command.refname)}'"
            )
            return "failed to update ref"
        return None

    def _judge_deletion(self, command: Command) -> str | None:
        if command.old != self._zero:
            if command.refname.startswith(b"refs/heads/") and self._policy.deny_deletes:
                self._say(f"error: denying ref deletion for {shown_name(command.refname)}")
                return "deletion prohibited"
            return self._judge_deletion_of_head(command)
        return None

    def _judge_deletion_of_head(self, command: Command) -> str | None:
        """Apply receive.denyDeleteCurrent: HEAD's branch, and worktrees' branches."""
        full = self._shown.full_name(command.refname)
        is_current = command.refname == self._shown.head().target or is_checked_out_elsewhere(
            self._snapshot.layout, full
        )
        if not is_current or self._snapshot.table.raw(full) is None:
            return None
        action = self._policy.deny_delete_current
        if action is DenyAction.WARN:
            self._say("warning: deleting the current branch")
        elif action is not DenyAction.IGNORE:
            if self._snapshot.config.find_entry("receive.denydeletecurrent") is None:
                self._say_lines(REFUSE_UNCONFIGURED_DELETION)
            self._say(f"error: refusing to delete the current branch: {shown_name(command.refname)}")
            return "deletion of the current branch prohibited"
        return None

    def _judge_current_branch(self, command: Command) -> str | None:
        """Apply receive.denyCurrentBranch: HEAD's branch when not bare, and worktrees' branches."""
        return self._judge_checked_out(command) if self._find_worktree(command) is not None else None

    def _find_worktree(self, command: Command) -> Worktree | None:
        layout = self._snapshot.layout
        full = self._shown.full_name(command.refname)
        if not layout.is_bare and full == self._snapshot.table.head.symref_target:
            return own_worktree(layout)
        return find_linked_worktree(layout, full)

    def _judge_checked_out(self, command: Command) -> str | None:
        action = self._policy.deny_current_branch
        if action is DenyAction.WARN:
            self._say("warning: updating the current branch")
        elif action is DenyAction.REFUSE:
            self._say(f"error: refusing to update checked out branch: {shown_name(command.refname)}")
            if self._snapshot.config.find_entry("receive.denycurrentbranch") is None:
                self._say_lines(REFUSE_UNCONFIGURED_UPDATE)
            return "branch is currently checked out"
        return None

    def worktree_to_update(self, command: Command) -> Worktree | None:
        """Return the work tree that receive.denyCurrentBranch=updateInstead wants updated for a command that passed."""
        if self._policy.deny_current_branch is not DenyAction.UPDATE_INSTEAD or command.new == self._zero:
            return None
        return self._find_worktree(command)

    def warn_of_odd_deletion(self, command: Command) -> bool:
        """Say so when a deletion's old value is nothing that we have; True when the ref isn't there either."""
        if command.new != self._zero or (command.old != self._zero and self._snapshot.store.find(command.old) >= 0):
            return False
        is_absent = self._snapshot.table.raw(self._shown.full_name(command.refname)) is None
        what = "deleting a non-existent ref" if is_absent else "allowing deletion of corrupt ref"
        self._say(f"warning: {what}")
        return is_absent

    def _judge_fast_forward(self, command: Command) -> str | None:
        """Apply receive.denyNonFastForwards: branches, commits only."""
        if not self._policy.deny_non_fast_forwards:
            return None
        store = self._snapshot.store
        old, new = store.find(command.old), store.find(command.new)
        if old < 0 or new < 0 or store.type_of(old) != COMMIT or store.type_of(new) != COMMIT:
            self._say(f"error: bad sha1 objects {command.old.hex()} and {command.new.hex()}")
            return "bad ref"
        if not self.run(is_ancestor(self._snapshot.history(), old, new)):
            self._say(f"error: denying non-fast-forward {shown_name(command.refname)} (you should pull first)")
            return "non-fast-forward"
        return None

    def run(self, work: Work[_T]) -> _T:
        """Drive long work to its result, pausing between its steps."""
        while True:
            try:
                next(work)
            except StopIteration as stop:
                result: _T = stop.value
                return result
            self._pause()

    def _say_lines(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            self._say(f"error: {line}".rstrip())
