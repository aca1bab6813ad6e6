"""Which object does a name stand for? What `git rev-parse` knows, as far as a server or a library is asked for it.

    NAME            a ref, by git's rules: as it is, below refs/, refs/tags/, refs/heads/, refs/remotes/, .../HEAD
    REV:path        what lies at a path below a revision
    40 or 64 digits, or the beginning of an id;  REV~n  REV^n  REV^{type}  REV^{}

What is not known: reflogs (`@{..}`), upstreams, searches in messages (`^{/..}`, `:/..`), the names that `git
describe` makes.

Source: gitrevisions "SPECIFYING REVISIONS".
"""

import re

from govc.archive.abbreviate import Shortener
from govc.errors import GovcError
from govc.graph.commits import follow_tags
from govc.objects.commit import parse_commit_links
from govc.objects.tree import parse_tree
from govc.objects.types import COMMIT, TREE, TYPE_NUMBERS
from govc.repo.snapshot import Snapshot

RULES = (b"%b", b"refs/%b", b"refs/tags/%b", b"refs/heads/%b", b"refs/remotes/%b", b"refs/remotes/%b/HEAD")
STEPS_MAX = 1_000_000

_SUFFIX = re.compile(rb"(?:~(\d*)|\^(\d+)|\^\{(commit|tree|blob|tag|object|)\}|(\^))")
_HEX = re.compile(rb"[0-9a-f]{4,64}")


class BadRevision(GovcError):
    """An expression that stands for nothing, or for more than one thing; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def find_ref(snapshot: Snapshot, name: bytes) -> tuple[bytes, bytes] | None:
    """Return (full name of the ref that the name leads to, its oid): the first of git's rules that fits."""
    for rule in RULES:
        full = rule % (b"HEAD" if name == b"@" else name)
        if full == b"HEAD":
            head = snapshot.table.head
            if head.oid is not None:
                return head.symref_target or full, head.oid
            continue
        if not full.startswith(b"refs/"):
            continue
        end = snapshot.table.follow(full)
        if end is not None and end[1] is not None:
            return end[0], end[1]
    return None


def resolve(snapshot: Snapshot, expression: bytes) -> bytes | None:
    """Return the oid that an expression stands for, or None."""
    try:
        return resolve_strictly(snapshot, expression)
    except GovcError:
        return None


def resolve_strictly(snapshot: Snapshot, expression: bytes) -> bytes:
    """Return the oid that an expression stands for. Raises BadRevision, ObjectMissing, Corrupt."""
    revision, colon, path = expression.partition(b":")
    oid = _resolve_revision(snapshot, revision)
    if not colon:
        return oid
    found = _entry_at(snapshot, oid, path)
    if found is None:
        raise BadRevision(f"nothing lies at {path!r} there")
    return found


def _resolve_revision(snapshot: Snapshot, text: bytes) -> bytes:
    base = re.split(rb"[~^]", text, maxsplit=1)[0]
    oid: bytes | None = _resolve_base(snapshot, base)
    position = len(base)
    while oid is not None and position < len(text):
        match = _SUFFIX.match(text, position)
        if match is None:
            raise BadRevision(f"{text[position:]!r} is not understood")
        position = match.end()
        generations, nth, type_name, lone = match.groups()
        if generations is not None:
            oid = _ancestor(snapshot, oid, int(generations[:7] or b"1"))
        elif nth is not None or lone is not None:
            oid = _parent(snapshot, oid, int(nth[:7]) if nth else 1)
        else:
            oid = _peel(snapshot, oid, type_name)
    if oid is None:
        raise BadRevision(f"{text[:position]!r} names nothing")
    return oid


def _resolve_base(snapshot: Snapshot, name: bytes) -> bytes:
    algo = snapshot.algo
    oid = algo.parse_hex(name)
    if oid is not None:
        if snapshot.store.find(oid) < 0:
            raise BadRevision("no object has that id")
        return oid
    found = find_ref(snapshot, name)
    if found is not None:
        return found[1]
    digits = name.lower()
    if _HEX.fullmatch(digits) and len(digits) < algo.hex_size:
        candidates = Shortener(snapshot.store).candidates(digits.decode("ascii"))
        if len(candidates) > 1:
            raise BadRevision("more than one object's id begins so")
        if candidates:
            return candidates[0]
    raise BadRevision("no ref of that name, and no object whose id begins so")


def _peel(snapshot: Snapshot, oid: bytes, type_name: bytes) -> bytes | None:
    store = snapshot.store
    number = store.find(oid)
    if type_name == b"object":
        return oid
    if number < 0:
        return None
    wanted = TYPE_NUMBERS.get(type_name)
    if wanted == store.type_of(number):
        return oid
    _tags, number, type_number = follow_tags(store, number)
    if type_number == COMMIT and wanted == TREE:
        return parse_commit_links(store.read(number)[1], snapshot.algo).tree
    return store.oid_of(number) if wanted in (None, type_number) else None


def _parent(snapshot: Snapshot, oid: bytes, nth: int) -> bytes | None:
    commit = _peel(snapshot, oid, b"commit")
    if commit is None or nth == 0:
        return commit
    parents = parse_commit_links(snapshot.store.read_oid(commit)[1], snapshot.algo).parents
    return parents[nth - 1] if nth <= len(parents) else None


def _ancestor(snapshot: Snapshot, oid: bytes, generations: int) -> bytes | None:
    found: bytes | None = _peel(snapshot, oid, b"commit")
    for _ in range(min(generations, STEPS_MAX)):
        if found is None:
            return None
        found = _parent(snapshot, found, 1)
    return found


def _entry_at(snapshot: Snapshot, oid: bytes, path: bytes) -> bytes | None:
    found: bytes | None = _peel(snapshot, oid, b"tree")
    for name in filter(None, path.split(b"/")):
        if found is None:
            return None
        type_number, data = snapshot.store.read_oid(found)
        if type_number != TREE:
            return None
        found = next((entry.oid for entry in parse_tree(data, snapshot.algo) if entry.name == name), None)
    return found


def peel_to_tree(snapshot: Snapshot, oid: bytes) -> tuple[bytes | None, bytes | None]:
    """Return (commit or None, tree or None) that an object leads to. Raises GovcError."""
    commit = _peel(snapshot, oid, b"commit")
    return commit, _peel(snapshot, oid, b"tree")
