"""How much a push may bring: refs at once, refs of the repository, bytes of a pack, bytes of the repository.

Each is a setting of the server; 0 means no limit. The last one, the quota, may be another for one repository:

    git config govc.quota 5g            0: none

What is refused is refused in the report, per ref, with the reason that a person needs: the name of the limit, its value
and what is used. Deletions are always taken, since they are how room is made; it comes with the next `git gc`.

The use is what `govc.repo.disk_use` measures when a push begins. Pushes that are under way at once are measured alike,
so together they may go beyond the quota, or the number of refs, by what all but one of them bring. The next one meets
it.
"""

from dataclasses import dataclass, field

from govc.limits.watch import NO_WATCH, LimitWatch
from govc.protocol.receive_pack import COMMAND_BYTES_MAX
from govc.protocol.text import humanise_bytes
from govc.repo.disk_use import DiskUses
from govc.repo.runtime import Runtime
from govc.repo.snapshot import Snapshot
from govc.service.push_state import PushState

QUOTA_KEY = "govc.quota"
QUOTA = "repository_bytes_max"

COMMANDS_FLOOR_BYTES = 1 << 20
COMMAND_LINE_BYTES = 4096
"""The longest refname of a file system, about; so nobody who keeps to the number of refs meets the bound on bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLimits:
    """See the story of this module."""

    refs_per_push_max: int = 0
    refs_max: int = 0
    pack_bytes_max: int = 0
    repository_bytes_max: int = 0
    watch: LimitWatch = NO_WATCH
    disk_uses: DiskUses = field(default_factory=DiskUses)

    @property
    def command_bytes_max(self) -> int:
        """How much of commands is read at all: they are held in memory before their number is known."""
        if not self.refs_per_push_max:
            return COMMAND_BYTES_MAX
        return min(COMMAND_BYTES_MAX, COMMANDS_FLOOR_BYTES + self.refs_per_push_max * COMMAND_LINE_BYTES)


def text_of_size(size_max: int) -> str:
    """Return git's words for a pack that is too large."""
    return f"pack exceeds maximum allowed size ({humanise_bytes(size_max)})"


class PushRoom:
    """What one push may bring."""

    def __init__(self, limits: PushLimits, snapshot: Snapshot, runtime: Runtime) -> None:
        """May switch. Raises BadConfig, OSError."""
        self._limits = limits
        self._snapshot = snapshot
        self._zero = snapshot.algo.zero
        self.quota = snapshot.config.get_unsigned(QUOTA_KEY, limits.repository_bytes_max)
        self.used = 0
        if self.quota:
            self.used = runtime.call_blocking(limits.disk_uses.measure, snapshot.layout.objects_dir)

    def check_commands(self, state: PushState) -> bool:
        """Fail the commands that would bring more refs, or objects, than there may be; say whether there are any."""
        before = len(state.errors)
        self._check_commands(state)
        state.fail_rest_if_atomic()
        return len(state.errors) > before

    def _check_commands(self, state: PushState) -> None:
        limits = self._limits
        if limits.refs_per_push_max and len(state.commands) > limits.refs_per_push_max:
            limits.watch.refused("push_refs_max")
            state.fail_all(f"too many refs in one push: at most {limits.refs_per_push_max}")
            return
        if self.quota and self.used >= self.quota:
            self._fail_new(state, f"quota exceeded: {self._said_use()}")
            limits.watch.refused(QUOTA)
        if limits.refs_max:
            self._check_ref_count(state)

    def _check_ref_count(self, state: PushState) -> None:
        table, refs_max = self._snapshot.table, self._limits.refs_max
        standing = [(index, command, table.raw(command.refname) is None) for index, command in state.iter_standing()]
        created = [index for index, command, is_absent in standing if is_absent and command.new != self._zero]
        if not created or table.count_max + len(created) <= refs_max:
            return
        deleted = sum(command.new == self._zero and not is_absent for _, command, is_absent in standing)
        room = refs_max - sum(1 for _ in table.iter_refs()) + deleted
        if len(created) <= room:
            return
        self._limits.watch.refused("refs_max")
        for index in created[max(0, room) :]:
            state.fail(index, f"too many refs: this repository may have {self._limits.refs_max}")

    def _fail_new(self, state: PushState, reason: str) -> None:
        for index, command in list(state.iter_standing()):
            if command.new != self._zero:
                state.fail(index, reason)

    def check_pack(self, size: int) -> str | None:
        """Return why a pack that has `size` bytes so far is too large; None when it isn't."""
        if self._limits.pack_bytes_max and size > self._limits.pack_bytes_max:
            self._limits.watch.refused("pack_bytes_max")
            return text_of_size(self._limits.pack_bytes_max)
        if self.quota and self.used + size > self.quota:
            self._limits.watch.refused(QUOTA)
            return f"quota exceeded: {self._said_use()}, and the pack is larger than what is left"
        return None

    def _said_use(self) -> str:
        return f"{humanise_bytes(self.used)} of {humanise_bytes(self.quota)} used"
