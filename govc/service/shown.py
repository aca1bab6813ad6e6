"""Which refs a caller is shown, and under which names.

One place for the three things that stand between the table of refs and a peer: namespaces (GIT_NAMESPACE cuts a prefix
off), hidden refs (`transfer.hideRefs` and the section's own), and refs whose object is not there, which git leaves out
with a warning.

Source: gitnamespaces, git-config "transfer.hideRefs"; rows U0-04..07, U0-68, V2-12..20, RP-10, RP-13.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from govc.config.config import Config
from govc.errors import CorruptPack
from govc.refs.namespace import expand_namespace, strip_namespace
from govc.refs.table import HeadState, Peel, Ref
from govc.refs.visibility import HiddenRefs
from govc.repo.snapshot import Snapshot

log = logging.getLogger(__name__)

HEAD = b"HEAD"


class ShownHead(NamedTuple):
    """HEAD as the peer sees it. `target` is None when detached, or when it names a ref outside the namespace."""

    oid: bytes | None
    target: bytes | None


def hidden_refs(config: Config, section: str) -> HiddenRefs:
    """Return the patterns of `section` ("uploadpack" or "receive") and of `transfer`, in configuration order."""
    return config.remembered(_hidden_of_receive if section == "receive" else _hidden_of_uploadpack)


def _hidden_of_receive(config: Config) -> HiddenRefs:
    return _hidden_of(config, "receive")


def _hidden_of_uploadpack(config: Config) -> HiddenRefs:
    return _hidden_of(config, "uploadpack")


def _hidden_of(config: Config, section: str) -> HiddenRefs:
    keys = ("transfer.hiderefs", f"{section}.hiderefs")
    return HiddenRefs(
        (entry.value or "").encode("utf-8", "surrogateescape") for entry in config.entries if entry.key in keys
    )


class ShownRefs:
    """The refs of a snapshot as one caller sees them. Cheap to make."""

    def __init__(self, snapshot: Snapshot, section: str, namespace: bytes) -> None:
        """`section` is "uploadpack" or "receive". Raises BadNamespace."""
        self.snapshot = snapshot
        self.section = section
        self.prefix = expand_namespace(namespace)
        self.hidden = hidden_refs(snapshot.config, section)
        self.is_complete = True
        """False once a ref was left out because its object wasn't there: that may change without any file's notice."""

    def is_hidden(self, name: bytes) -> bool:
        """Say whether the ref that the peer calls `name` is hidden from it."""
        return self.hidden.is_hidden(name, self.prefix + name)

    def full_name(self, name: bytes) -> bytes:
        """Return the name on disk of what the peer calls `name`."""
        return self.prefix + name

    def head(self) -> ShownHead:
        """Return HEAD: the repository's own, or the namespace's."""
        state = self._namespace_head() if self.prefix else self.snapshot.table.head
        oid = state.oid
        if oid is not None and not self._exists(HEAD, oid):
            oid = None
        target = state.symref_target
        return ShownHead(oid, strip_namespace(target, self.prefix) if target is not None else None)

    def _namespace_head(self) -> HeadState:
        """HEAD of a namespace is an ordinary symref, refs/namespaces/x/HEAD."""
        name = self.prefix + HEAD
        raw = self.snapshot.table.raw(name)
        if raw is None:
            return HeadState(None, None, False)
        end = self.snapshot.table.follow(name)
        if end is None:
            return HeadState(None, None, False)
        return HeadState(end[0] if raw.target is not None else None, end[1], raw.target is None)

    def iter_refs(self, prefix: bytes = b"", *, peel: Peel | None = None) -> Iterator[Ref]:
        """Yield the shown refs below refs/ whose shown name starts with `prefix`, in byte order.

        Names and symref targets come out as the peer sees them. Refs without an object are left out.
        """
        for ref in self.snapshot.table.iter_refs(self.prefix + (prefix or b"refs/"), peel):
            shown = self.show(ref)
            if shown is not None:
                yield shown

    def show(self, ref: Ref) -> Ref | None:
        """Return a ref as the peer sees it, None when it is hidden or its object isn't there."""
        cut = self.prefix
        name = ref.name[len(cut) :] if cut else ref.name
        if self.hidden and self.hidden.is_hidden(name, ref.name):
            return None
        if not self._exists(ref.name, ref.oid):
            return None
        if not cut:
            return ref
        target = ref.symref_target
        return Ref(name, ref.oid, ref.peeled, strip_namespace(target, cut) if target is not None else None)

    def iter_packed(self, low: int, high: int, *, peel: Peel | None = None) -> Iterator[Ref]:
        """Yield the packed refs at positions [low, high) as the peer sees them; one that isn't shown has an empty
        oid."""
        for ref in self.snapshot.table.iter_packed(low, high, peel):
            yield self.show(ref) or Ref(ref.name, b"", None, None)

    def find_ref(self, name: bytes) -> Ref | None:
        """Return the shown ref of that name, or None."""
        full = self.prefix + name
        if not name.startswith(b"refs/") or self.hidden.is_hidden(name, full):
            return None
        ref = self.snapshot.table.get(full)
        if ref is None or not self._exists(full, ref.oid):
            return None
        return ref

    def iter_hidden_tips(self) -> Iterator[bytes]:
        """Yield the values of hidden refs (which `allowTipSHA1InWant` lets a client want)."""
        if not self.hidden:
            return
        for ref in self.snapshot.table.iter_refs(self.prefix + b"refs/"):
            if self.hidden.is_hidden(ref.name[len(self.prefix) :], ref.name):
                yield ref.oid

    def iter_refs_everywhere(self) -> Iterator[tuple[Ref, bool]]:
        """Yield all refs in order and whether each is inside the namespace; names as the peer sees them (RP-11)."""
        cut = self.prefix
        for ref in self.snapshot.table.iter_refs(b"refs/"):
            name = strip_namespace(ref.name, cut)
            if self.hidden and self.hidden.is_hidden(name, ref.name):
                continue
            if self._exists(ref.name, ref.oid):
                yield (ref if name is None else ref._replace(name=name)), name is not None

    def _exists(self, name: bytes, oid: bytes) -> bool:
        if self.snapshot.store.find(oid) >= 0 or self.snapshot.is_partial:
            return True
        if self.snapshot.store.has_unusable_packs:
            # Leaving refs out would look like their deletion: a mirror that prunes would lose them.
            raise CorruptPack(f"a pack of this repository can't be used, and {oid.hex()} may be in it")
        log.warning("%s: ignoring broken ref %r", self.snapshot.layout.gitdir, name)
        self.is_complete = False
        return False
