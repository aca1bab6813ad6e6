"""What a repository has to say to the lines of a fetch request, one by one, as they are read.

git looks at each line as it comes: a request with several things wrong is refused for the first of them. So the parser
shows its lines to these checks while it reads, in place of the whole request being judged afterwards.

Source: git's upload-pack.c (receive_needs, process_args, process_shallow, process_deepen_not); rows U0-24, U0-42,
U0-44, U0-52, V2-24, V2-39.
"""

from collections.abc import Callable, Sequence

from govc.graph.interface import Ticker
from govc.objects.types import COMMIT
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch import Command, parse_fetch_args
from govc.protocol.fetch_request import FetchRequest, LineChecks
from govc.protocol.object_filter import ObjectFilter
from govc.protocol.plain_fetch import check_wants
from govc.service.pacing import paced_runs
from govc.service.policy import UploadPolicy
from govc.service.selection import check_filter
from govc.service.shown import HEAD, ShownRefs

_REF_RULES = (b"%b", b"refs/%b", b"refs/tags/%b", b"refs/heads/%b", b"refs/remotes/%b", b"refs/remotes/%b/HEAD")
"""What a short name may stand for, as in git's expand_ref."""


class RequestLines(LineChecks):
    """The checks of one request; what they found out on the way is kept for what comes after."""

    def __init__(self, shown: ShownRefs, policy: UploadPolicy, pause: Callable[[], None]) -> None:
        """`pause` lets others run: a request may hold 200,000 lines. May switch."""
        self._shown = shown
        self._snapshot = shown.snapshot
        self._policy = policy
        self._pause = pause
        self._ticker = Ticker()
        self.wanted_refs: list[tuple[bytes, bytes]] = []
        self.excluded: dict[bytes, None] = {}
        self.is_sideband_all = False
        self._has_looked_again = False  # a client may name many commits that were never here

    def read(self, asked: Command | FetchRequest, *, has_uris: bool) -> FetchRequest:
        """Return what a fetch of version 2 asks for, and look at it. Raises RemoteProtocolError; may switch."""
        if isinstance(asked, FetchRequest):
            check_wants(asked, self)
            return asked
        request = parse_fetch_args(
            paced_runs(asked.args, self._pause),
            self._snapshot.algo,
            allow_filter=self._policy.allow_filter,
            allow_ref_in_want=self._policy.allow_ref_in_want,
            allow_sideband_all=self._policy.allow_sideband_all,
            allow_packfile_uris=has_uris,
            checks=self,
        )
        if asked.fault is not None:
            raise asked.fault
        return request

    def tick(self) -> None:
        """Let others run when it is time to. May switch."""
        if self._ticker.due():
            self._pause()
            self._ticker.restart()

    def want(self, oid: bytes) -> None:
        """Refuse an object that isn't here."""
        self.tick()
        if self._snapshot.store.find(oid) < 0:
            raise not_our_ref(oid)

    def wants(self, oids: Sequence[bytes]) -> bool:
        """Say whether all of them lie in packs, which the kernels find out at once."""
        self.tick()
        table = self._snapshot.store.pack_table()
        return table is not None and min(memoryview(table.find_many(b"".join(oids), False)).cast("q")) >= 0

    def want_ref(self, name: bytes) -> None:
        """Look the ref up; refuse one that isn't shown."""
        self.tick()
        ref = self._shown.find_ref(name)
        oid = ref.oid if ref is not None else self._shown.head().oid if name == HEAD else None
        if oid is None:
            raise RemoteProtocolError(f"unknown ref {name.decode('utf-8', 'replace')}")
        self.wanted_refs.append((oid, name))

    def shallow(self, oid: bytes) -> bool:
        """Say whether we have that commit; refuse what is no commit."""
        self.tick()
        store = self._snapshot.store
        number = store.find(oid, rescan=not self._has_looked_again)
        if number < 0:
            self._has_looked_again = True
            return False
        if store.type_of(number) != COMMIT:
            raise RemoteProtocolError(f"git upload-pack: invalid shallow object {oid.hex()}")
        return True

    def deepen_not(self, name: bytes) -> None:
        """Resolve a name as git's expand_ref does: it must stand for exactly one ref."""
        self.tick()
        found = {}
        for rule in _REF_RULES:
            full = rule % name
            ref = self._shown.find_ref(full)
            if ref is not None:
                found[full] = ref.oid
        if name == HEAD:
            head = self._shown.head()
            if head.oid is not None:
                found[name] = head.oid
        if len(found) != 1:
            raise RemoteProtocolError(f"git upload-pack: ambiguous deepen-not: {name.decode('utf-8', 'replace')}")
        self.excluded.update(dict.fromkeys(found.values()))

    def filter(self, object_filter: ObjectFilter) -> None:
        """Refuse a kind of filter that this repository doesn't serve."""
        check_filter(object_filter, self._snapshot, self._policy)

    def sideband_all(self) -> None:
        """Note it."""
        self.is_sideband_all = True


def not_our_ref(oid: bytes) -> RemoteProtocolError:
    """Return the refusal of an object that is not here, or not for this caller."""
    return RemoteProtocolError(f"upload-pack: not our ref {oid.hex()}")
