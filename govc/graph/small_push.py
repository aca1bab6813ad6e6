"""A small push that is plainly whole: seen with a few reads, where `connectivity` would set out to walk.

Nearly every push is some commits on top of what a ref names, with the trees and blobs that differ. Then each new
commit's parents came with it or are values of refs, and each entry of a new tree came, too, or stands at the same path
in a parent's tree, which is complete: a ref reaches it, or it was looked at here. That is a proof by what the push and
the parents' trees say; nothing else of the repository is asked.

Whatever is not so plain (a rename of something old, a commit that no ref names, a missing or damaged object, a wrong
type) is no finding: the answer is False, and `connectivity` looks and says what is wrong. No generator: the caller
bounds what came, and what is read of the parents is bounded here. A tree that came is looked at once, at whichever
path it is met first: what it reaches is all there or not, wherever it stands. Else a few dozen trees that list each
other twice would be as many as there are paths.

Source: git's connected.c (check_connected); storage rule 29.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

from govc.errors import GovcError, LimitExceeded
from govc.graph.trees import entry_kind, split_tree
from govc.objects.commit import parse_commit_links
from govc.objects.types import COMMIT, TREE
from govc.protocol.oid import HashAlgorithm

OBJECTS_MAX = 200
"""With more objects than this there is enough to do for the check that pauses."""

READ_BYTES_MAX = 2 << 20
"""Of commits and trees no more is read: some milliseconds in which everybody waits. Wide trees and merges of many
parents are for the check that pauses, too."""

_READ_BYTES_MIN = 256
"""What any read counts for."""

Read = Callable[[bytes], tuple[int, bytes]]
"""Takes an oid; returns (type, content), or raises a GovcError."""


class _Pair(NamedTuple):
    """A new tree, and the trees that the parents have at its path."""

    oid: bytes
    olds: tuple[bytes, ...]


def is_plainly_whole(
    new_tips: Sequence[bytes], came: Mapping[bytes, int], read: Read, *, ref_tips: Set[bytes], algo: HashAlgorithm
) -> bool:
    """Tell whether all that the new tips reach is surely there.

    `came`: the types of what the push brought, by oid. `ref_tips`: the values of refs, complete by definition.
    """
    left = READ_BYTES_MAX

    def read_bounded(oid: bytes) -> tuple[int, bytes]:
        nonlocal left
        found = read(oid)
        left -= max(len(found[1]), _READ_BYTES_MIN)
        if left < 0:
            raise LimitExceeded("what is read of a small push", READ_BYTES_MAX)
        return found

    try:
        pairs = _new_roots(new_tips, came, read_bounded, ref_tips, algo)
        return pairs is not None and _are_whole(pairs, came, read_bounded, algo.oid_size)
    except GovcError:
        return False


def _new_roots(
    new_tips: Sequence[bytes], came: Mapping[bytes, int], read: Read, ref_tips: Set[bytes], algo: HashAlgorithm
) -> list[_Pair] | None:
    """Return the new commits' root trees beside their parents'; None where the commits aren't plain."""
    roots: dict[bytes, bytes] = {}
    parents_of: dict[bytes, tuple[bytes, ...]] = {}
    stack = list(new_tips)
    while stack:
        oid = stack.pop()
        if oid in parents_of:
            continue
        if oid not in came:
            if oid in ref_tips:
                continue
            return None
        if came[oid] != COMMIT:
            return None
        roots[oid], parents_of[oid], _ = parse_commit_links(read(oid)[1], algo)
        stack += parents_of[oid]
    pairs = []
    for oid, parents in parents_of.items():
        for parent in parents:
            if parent not in roots:
                type_number, content = read(parent)
                if type_number != COMMIT:
                    return None
                roots[parent] = parse_commit_links(content, algo)[0]
        pairs.append(_Pair(roots[oid], tuple(roots[parent] for parent in parents)))
    return pairs


def _are_whole(pairs: list[_Pair], came: Mapping[bytes, int], read: Read, size: int) -> bool:
    """Tell whether the trees have nothing that didn't come and that no parent has at the same path."""
    seen: set[bytes] = set()
    while pairs:
        pair = pairs.pop()
        if pair.oid in pair.olds or pair.oid in seen:
            continue
        if came.get(pair.oid) != TREE:
            return False
        seen.add(pair.oid)
        entries = split_tree(read(pair.oid)[1], size)
        if entries is None:
            return False
        old: set[bytes] = set()
        for oid in pair.olds:
            type_number, content = read(oid)
            if type_number != TREE:
                return False
            old.update(split_tree(content, size) or ())
        below: dict[bytes, list[bytes]] = {}
        for entry in set(entries).difference(old):
            kind, oid = entry_kind(entry), entry[-size:]
            if kind == TREE:
                if not below:
                    for known in old:
                        below.setdefault(known[:-size], []).append(known[-size:])
                pairs.append(_Pair(oid, tuple(below.get(entry[:-size], ()))))
            elif kind and came.get(oid) != kind:
                return False
    return True
