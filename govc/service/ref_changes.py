"""From commands that came with all their objects to refs that have moved, or reasons why not.

    branch protection refuses what it forbids → proc-receive takes what is its own → each command is judged, then update
    is asked → all that still stands is one transaction: locked, verified, staged → (reference-transaction) → published

Nothing has moved before the transaction; from then on the push can't be taken back, whether or not anybody still
listens: `has_moved` says so.

Source: git's builtin/receive-pack.c (execute_commands); rows RP-40..RP-66, RP-76, RP-79..RP-81.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial

from govc.auth.branches import BranchRules
from govc.errors import GovcError, RefUpdateRefused
from govc.protocol.proc_receive import FAILED_TO_RUN, ProcReceive
from govc.protocol.receive_pack import Command
from govc.refs.plan import REASON_DUPLICATE, REASON_HOOK, RefUpdate
from govc.refs.transaction import may_lock_packed
from govc.repo.checkout import NOT_UPDATED, CheckoutTask, checkout_job
from govc.repo.helper import Job, drain, run_helper
from govc.repo.push_hooks import PUSH_TO_CHECKOUT, REFERENCE_TRANSACTION, UPDATE, PushHooks
from govc.repo.repository import Repository
from govc.repo.snapshot import Snapshot
from govc.repo.writing import Origin, RefWriter, Stage, State, Steps
from govc.service.aliases import find_doubled, refuse_aliased
from govc.service.archive import line_ends, server_attributes
from govc.service.judge import CommandJudge, shown_name
from govc.service.pacing import Pace, paced
from govc.service.policy import ReceivePolicy
from govc.service.protection import RefProtection
from govc.service.push_state import ATOMIC_FAILURE, PushState
from govc.service.pushed_objects import PushedObjects
from govc.service.receive_tools import ReceiveTools
from govc.service.shown import ShownRefs
from govc.wal.errors import IN_DOUBT

log = logging.getLogger(__name__)

HOOK_DECLINED = "hook declined"
ATOMIC_FAILURE_LATE = "atomic transaction failed"
"""What befell the transaction of an atomic push, in place of what a rule forbids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSurroundings:
    """What the refs of one push are changed with; `objects` and `new_shallow` came with it, for its record.

    The objects move when the refs change, unless that was done before.
    """

    repository: Repository
    shown: ShownRefs
    policy: ReceivePolicy
    branch_rules: BranchRules
    hooks: PushHooks
    origin: Origin
    tools: ReceiveTools
    objects: PushedObjects
    new_shallow: tuple[bytes, ...]
    arrival: object = None


class RefChanges:
    """Carries out the commands of one push. `has_moved` is true once some ref may have changed."""

    def __init__(self, state: PushState, around: PushSurroundings) -> None:
        self._state = state
        self._around = around
        self._pause = around.tools.runtime.pause
        self.has_moved = False
        self.sequences: list[int] = []

    def carry_out(self, snapshot: Snapshot, missing_tips: frozenset[bytes]) -> Iterator[bytes]:
        """Do what still stands. `missing_tips`: new values that didn't come. May switch. Raises NotMoved."""
        state = self._state
        refuse_aliased(state, self._around.shown, snapshot.table, Pace(self._pause))
        state.fail_rest_if_atomic()
        if self._around.branch_rules:
            yield from self._protect(snapshot)
        if state.given_away:
            # Should it fail, what it reported as done stays done, atomic or not.
            yield from self._run_proc_receive()
            snapshot = self._around.repository.snapshot()
        yield from self._judge_all(snapshot, missing_tips)
        updates = {
            index: self._ref_update(command, snapshot)
            for index, command in paced(state.iter_standing(), self._pause)
            if index not in state.given_away and index not in state.done_elsewhere
        }
        self._refuse_doubled(updates, snapshot)
        if updates:
            yield from self._change_refs(updates)

    # Branch protection

    def _protect(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Ask the permission file's rules about every command, those of proc-receive too."""
        state, around = self._state, self._around
        is_signed = yield from around.hooks.is_well_signed()
        judge = CommandJudge(snapshot, around.shown, around.policy, say=state.say, pause=self._pause)
        protection = RefProtection(around.branch_rules, snapshot, around.shown, run=judge.run, is_signed=is_signed)
        for index, command in paced(list(state.iter_standing()), self._pause):
            reason = protection.judge(command)
            if reason is not None:
                state.fail(index, reason)

    # proc-receive

    def _run_proc_receive(self) -> Iterator[bytes]:
        state = self._state
        indexes = [index for index in sorted(state.given_away) if state.stands(index)]
        if not indexes:
            return
        request = state.request
        talk = ProcReceive(
            self._around.shown.snapshot.algo,
            [state.commands[index] for index in indexes],
            push_options=request.push_options,
            atomic=request.atomic,
            other_names=[c.refname for index, c in enumerate(state.commands) if index not in state.given_away],
        )
        yield from state.drain()
        # What the hook does to refs it does itself: from here on something may have moved.
        self.has_moved = True
        is_good = yield from self._around.hooks.proc_receive(talk)
        if is_good is None:
            state.say("error: cannot find hook 'proc-receive'")
        if talk.problem:
            state.say(f"error: {talk.problem}")
        self._take_outcomes(talk, indexes, is_good=bool(is_good))

    def _take_outcomes(self, talk: ProcReceive, indexes: Sequence[int], *, is_good: bool) -> None:
        state = self._state
        reported: set[int] = set()
        for index, outcome in zip(indexes, talk.outcomes, strict=True):
            if outcome.error is not None:
                state.fail(index, outcome.error)
            if outcome.falls_through:
                state.given_away.discard(index)
            elif outcome.is_reported:
                reported.add(index)
                state.reports[index] = outcome.reports
        if is_good:
            return
        for index, _ in list(state.iter_standing()):
            if index not in reported and (index in state.given_away or state.request.atomic):
                state.fail(index, FAILED_TO_RUN)

    # Judging

    def _judge_all(self, snapshot: Snapshot, missing_tips: frozenset[bytes]) -> Iterator[bytes]:
        state, around = self._state, self._around
        judge = CommandJudge(snapshot, around.shown, around.policy, say=state.say, pause=self._pause)
        asks_update = around.hooks.has(UPDATE)
        for index, command in paced(list(state.iter_standing()), self._pause):
            if index in state.given_away or index in state.done_elsewhere:
                continue
            reason = judge.judge(command, missing_tips)
            if reason is None and asks_update:
                reason = yield from self._ask_update(command)
            if reason is None and (worktree := judge.worktree_to_update(command)) is not None:
                reason = yield from self._update_worktree(command, *worktree)
            if reason is not None:
                state.fail(index, reason)
                if state.request.atomic:
                    state.fail_all(ATOMIC_FAILURE)
                    break
            elif judge.warn_of_odd_deletion(command):
                state.absent.add(index)

    def _ask_update(self, command: Command) -> Generator[bytes, None, str | None]:
        yield from self._state.drain()
        if (yield from self._around.hooks.update(command)):
            return None
        self._state.say(f"error: hook declined to update {shown_name(command.refname)}")
        return HOOK_DECLINED

    def _update_worktree(self, command: Command, gitdir: str, path: str) -> Generator[bytes, None, str | None]:
        hooks = self._around.hooks
        yield from self._state.drain()
        if not hooks.has(PUSH_TO_CHECKOUT):
            return self._checkout(command, gitdir, path)
        is_good = yield from hooks.push_to_checkout(command.new, gitdir=gitdir, worktree=path)
        return None if is_good else "push-to-checkout hook declined"

    def _checkout(self, command: Command, gitdir: str, path: str) -> str | None:
        """Bring a clean work tree to the new value ourselves. May switch."""
        around, tools = self._around, self._around.tools
        snapshot = around.shown.snapshot
        above, below = server_attributes(snapshot, tools.environ)
        task = CheckoutTask(
            gitdir=gitdir,
            worktree=path,
            objects_dir=snapshot.layout.objects_dir,
            algo_name=snapshot.algo.name,
            old=snapshot.table.resolve(around.shown.full_name(command.refname)),
            new=command.new,
            line_ends=line_ends(snapshot.config),
            above=above,
            below=below,
            file_mode=snapshot.config.get_bool("core.filemode", True),
            is_sparse=snapshot.config.get_bool("core.sparsecheckout", False),
        )
        try:
            if tools.slots is None:
                reason, detail = checkout_job(task, lambda _: None)
            else:
                reason, detail = drain(run_helper(Job("checkout", task), slots=tools.slots))
        except (GovcError, OSError) as error:
            log.error("%s: %s: work tree not updated: %s", around.origin.request_id, gitdir, error)
            return NOT_UPDATED
        if detail:
            self._state.say(f"error: {detail}")
        return reason or None

    # Changing

    def _refuse_doubled(self, updates: dict[int, RefUpdate], snapshot: Snapshot) -> None:
        """Refuse all of a transaction in which two updates would change one ref; git has one for deletions alone."""
        if len(updates) < 2:
            return
        phases: tuple[list[int], ...] = ([], [])
        for index, update in updates.items():
            phases[any(update.new) or self._state.request.atomic].append(index)
        for phase in phases:
            detail = find_doubled((updates[index] for index in phase), snapshot.table, Pace(self._pause))
            if detail is not None:
                self._state.say(f"error: {detail}")
                for index in phase:
                    self._state.fail(index, ATOMIC_FAILURE_LATE if self._state.request.atomic else REASON_DUPLICATE)
                    del updates[index]

    def _ref_update(self, command: Command, snapshot: Snapshot) -> RefUpdate:
        name = self._around.shown.full_name(command.refname)
        is_deletion = not any(command.new)
        if is_deletion and (not any(command.old) or snapshot.store.find(command.old) < 0):
            # As git: a deletion whose old value names nothing that we have doesn't ask for an old value.
            return RefUpdate(name, None, command.new)
        return RefUpdate(name, command.old, command.new)

    def _change_refs(self, updates: Mapping[int, RefUpdate]) -> Iterator[bytes]:
        around, atomic = self._around, self._state.request.atomic
        writer = RefWriter(
            around.repository,
            around.shown.snapshot,
            around.origin,
            around.tools.journal,
            clock=around.tools.clock,
            shallow=around.new_shallow,
            arrival=around.arrival,
        )
        wanted = tuple(updates.values())
        call = around.tools.runtime.call_blocking
        asks_hook = around.hooks.has(REFERENCE_TRANSACTION)
        if asks_hook:
            writer.take_objects(call(around.objects.move))
            turn = partial(around.repository.writers_turn, locks_packed=may_lock_packed(wanted))
            refused = yield from self._change_in_steps(writer.change_in_steps(wanted, atomic=atomic), turn)
        else:
            # Who asks no hook doesn't let go of his thread while he holds the lock of packed-refs.
            with around.repository.writers_turn():
                refused = call(_change, writer, around.objects, wanted, atomic)
        self.sequences += writer.sequences
        self.has_moved = self.has_moved or len(refused) < len(wanted)
        is_vetoed = any(error.reason == REASON_HOOK for error in refused.values())
        if refused and atomic and not is_vetoed:
            # git doesn't say in the report which of them it was; band 2 does.
            is_doubtful = any(error.reason.endswith(IN_DOUBT) for error in refused.values())
            self._state.fail_all(f"{ATOMIC_FAILURE_LATE}; {IN_DOUBT}" if is_doubtful else ATOMIC_FAILURE_LATE)
        self._refuse(refused, updates)
        if is_vetoed and atomic:
            self._state.fail_all(ATOMIC_FAILURE_LATE)

    def _change_in_steps(
        self, steps: Steps, take_turn: Callable[[], AbstractContextManager[None]]
    ) -> Generator[bytes, None, dict[bytes, RefUpdateRefused]]:
        """Change refs with reference-transaction's consent. What was prepared ends committed or aborted, always.

        The turn is kept while the hook is asked about what is locked, and then only: it may push here itself.
        """
        call = self._around.tools.runtime.call_blocking
        hooks = self._around.hooks
        owed: Stage | None = None
        consent: bool | None = None
        has_turn = False
        yield from self._state.drain()
        with ExitStack() as turn:
            try:
                while True:
                    if not has_turn:
                        turn.enter_context(take_turn())
                    stage, refused = call(_advance, steps, consent)
                    if stage is None:
                        return refused or {}
                    owed = stage if stage.state is State.PREPARED else None
                    has_turn = owed is not None
                    if not has_turn:
                        turn.close()
                    self.has_moved = self.has_moved or stage.state is State.COMMITTED
                    consent = yield from hooks.reference_transaction(self._named(stage))
                    if not consent:
                        owed = None
            finally:
                call(steps.close)
                turn.close()
                if owed is not None:
                    aborted = hooks.reference_transaction(self._named(Stage(State.ABORTED, owed.updates)))
                    for _ in aborted:
                        continue

    def _named(self, stage: Stage) -> Stage:
        """Return the stage as the hook sees it: with the refs that really change, not symrefs that lead to them."""
        if stage.state is State.PREPARING:
            return stage
        follow = self._around.repository.ref_database.follow
        ends = ((update, follow(update.name)) for update in stage.updates)
        return Stage(stage.state, tuple(update._replace(name=end[0]) if end else update for update, end in ends))

    def _refuse(self, refused: Mapping[bytes, RefUpdateRefused], updates: Mapping[int, RefUpdate]) -> None:
        indexes: dict[bytes, list[int]] = {}
        for index, update in updates.items():
            indexes.setdefault(update.name, []).append(index)
        for name, error in refused.items():
            for index in indexes.get(name, ()):
                self._state.fail(index, error.reason)
            if error.detail:
                self._state.say(f"error: {error.detail}")


def _change(
    writer: RefWriter, objects: PushedObjects, updates: tuple[RefUpdate, ...], atomic: bool
) -> dict[bytes, RefUpdateRefused]:
    """Do all that blocks, in one go."""
    try:
        writer.take_objects(objects.move())
        return writer.change(updates, atomic=atomic)
    finally:
        objects.release()


def _advance(steps: Steps, consent: bool | None) -> tuple[Stage | None, dict[bytes, RefUpdateRefused] | None]:
    """Take one step; the stage that was reached, or, at the end, what was refused."""
    try:
        return (next(steps) if consent is None else steps.send(consent)), None
    except StopIteration as stop:
        return None, stop.value
