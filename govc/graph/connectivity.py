"""Is a push whole? Everything that the new tips reach must exist, stopping at what our refs reach.

The cost is in proportion to the push. The commit walk stops at ref tips; only when it comes to an older
commit that is neither in the push nor a tip are the refs walked, to see whether one of them reaches it. A
leftover that no ref reaches may lack anything, so it is walked as if it were new (storage rule 29). Trees are
compared with the parents' trees: what a parent has at the same path has been verified with the parent, or is
complete because a ref reaches it. Everything else is looked up, trees are read, and types must be what the
links say.

Source: git's connected.c (check_connected), `rev-list --objects --not --all --alternate-refs`.
"""

from collections.abc import Callable, Iterable, Set
from typing import NamedTuple

from govc.errors import CorruptObject, ObjectMissing
from govc.graph.commits import History, follow_tags
from govc.graph.interface import Ticker, Work
from govc.graph.marks import NumberMarks
from govc.graph.trees import TREE_DEPTH_MAX, Introductions, entry_kind, parents_first, walk_commits
from govc.graph.walk import find_range
from govc.objects.errors import MalformedObject
from govc.objects.tag import parse_tag_links
from govc.objects.types import BLOB, COMMIT, TREE, TYPE_NAMES

PROBLEMS_MAX = 100
"""Problems listed before the check gives up looking for more."""


class Problem(NamedTuple):
    """One broken link: `kind` is what the link says ("tree"), `needed_by` the oid of the object that has the
    link.

    `reason` is "missing" or a text that tells what is wrong with the object. `needed_by` is empty for a tip.
    """

    oid: bytes
    kind: str
    needed_by: bytes
    reason: str


class _EnoughError(Exception):
    """PROBLEMS_MAX problems were found."""


class _Checker(Introductions):
    """An `Introductions` that lists what is wrong instead of raising, and checks the types of blobs."""

    def __init__(self, history: History, tree_depth_max: int) -> None:
        super().__init__(
            history.reader,
            note_old=False,
            may_be_missing=history.may_be_missing,
            tree_depth_max=tree_depth_max,
        )
        self.problems: list[Problem] = []
        self._promised = history.may_be_missing

    def report(self, oid: bytes, kind: str, holder: bytes, reason: str = "missing") -> None:
        self.problems.append(Problem(oid, kind, holder, reason))
        if len(self.problems) >= PROBLEMS_MAX:
            raise _EnoughError

    def on_missing(self, oid: bytes, kind: int, holder: bytes) -> None:
        if not self._promised(oid):
            self.report(oid, TYPE_NAMES[kind].decode("ascii"), holder)

    def on_wrong_type(self, oid: bytes, kind: int, actual: int, holder: bytes) -> None:
        expected = TYPE_NAMES[kind].decode("ascii")
        self.report(oid, expected, holder, f"is a {TYPE_NAMES[actual].decode('ascii')}, not a {expected}")

    def read_entries(self, oid: bytes, number: int) -> frozenset[bytes]:
        try:
            return super().read_entries(oid, number)
        except CorruptObject as error:
            self.report(oid, "tree", b"", error.reason)
            return frozenset()

    def check_blob(self, oid: bytes, number: int, holder: bytes) -> bool:
        type_number = self.reader.type_of(number)
        if type_number != BLOB:
            self.on_wrong_type(oid, BLOB, type_number, holder)
            return False
        return True


def check_connectivity(
    history: History,
    new_tips: Iterable[bytes],
    *,
    ref_tips: Set[bytes],
    is_new: Callable[[int], bool],
    tree_depth_max: int = TREE_DEPTH_MAX,
    marks: NumberMarks | None = None,
) -> Work[list[Problem]]:
    """Return what is broken below `new_tips`, an empty list when nothing is.

    `ref_tips` are the oids that existing refs have (hidden ones and alternates' included): complete by
    definition. `is_new(number)` tells whether an object came with this push. The shallow commits of the
    repository and of the push are in `history`, so is the promisor predicate. `marks` is filled with what was
    met: commits, trees and blobs. Raises LimitExceeded for too deep trees.
    """
    checker = _Checker(history, tree_depth_max)
    if marks is not None:
        checker.marks = marks
    try:
        starts = yield from _check_tips(history, new_tips, ref_tips, checker)
        commits = yield from _find_new_commits(history, starts, ref_tips, is_new, checker)
        order = yield from parents_first(history, commits)
        yield from walk_commits(history, order, checker)
        for number in commits if marks is not None else ():
            checker.marks.set(number, COMMIT)
    except _EnoughError:
        return checker.problems
    except CorruptObject as error:
        # A commit that is read for its parents' or its own sake and can't be.
        checker.problems.append(Problem(error.oid, "commit", b"", error.reason))
    return checker.problems


def check_links(history: History, numbers: Iterable[int], met: NumberMarks) -> Work[list[Problem]]:
    """Return which links of objects lead nowhere or to another type, though no new tip reaches the objects.

    What is in `met` was looked at before. git's unpackers want as much when they check what they receive.
    """
    checker = _Checker(history, TREE_DEPTH_MAX)
    reader = history.reader
    ticker = Ticker()
    try:
        for number in numbers:
            type_number = reader.type_of(number)
            if type_number == BLOB or met.get(number) == type_number:
                continue
            oid = reader.oid_of(number)
            if type_number == COMMIT:
                _checked_parents(history, number, checker)
                _check_link(checker, history.tree_oid(number), TREE, oid)
            elif type_number == TREE:
                for entry in sorted(checker.read_entries(oid, number)):
                    kind = entry_kind(entry)
                    if kind:
                        _check_link(checker, entry[-len(oid) :], kind, oid)
            else:
                links = parse_tag_links(reader.read(number)[1], reader.algo)
                _check_link(checker, links.oid, links.type_number, oid)
            if ticker.due():
                yield
                ticker.restart()
    except _EnoughError:
        return checker.problems
    except CorruptObject as error:
        checker.problems.append(Problem(error.oid, "object", b"", error.reason))
    except MalformedObject as error:
        checker.problems.append(Problem(oid, "tag", b"", str(error)))
    return checker.problems


def _check_link(checker: _Checker, oid: bytes, kind: int, holder: bytes) -> None:
    number = checker.reader.find(oid)
    if number < 0:
        checker.on_missing(oid, kind, holder)
    elif (actual := checker.reader.type_of(number)) != kind:
        checker.on_wrong_type(oid, kind, actual, holder)


def _check_tips(
    history: History, new_tips: Iterable[bytes], ref_tips: Set[bytes], checker: _Checker
) -> Work[list[int]]:
    """Follow tags; check trees and blobs that are tips; return the commits."""
    reader = history.reader
    commits: list[int] = []
    for oid in new_tips:
        if oid in ref_tips:
            continue
        number = reader.find(oid)
        if number < 0:
            if not history.may_be_missing(oid):
                checker.report(oid, "object", b"")
            continue
        try:
            _tags, target, type_number = follow_tags(reader, number, history.may_be_missing)
        except ObjectMissing as error:
            checker.report(error.oid, error.kind, oid)
            continue
        except CorruptObject as error:
            checker.report(error.oid, "tag", oid, error.reason)
            continue
        if target < 0:
            continue
        if type_number == COMMIT:
            commits.append(target)
        elif type_number == TREE:
            yield from checker.add_tree(reader.oid_of(target), target)
    return commits


def _find_new_commits(
    history: History,
    starts: list[int],
    ref_tips: Set[bytes],
    is_new: Callable[[int], bool],
    checker: _Checker,
) -> Work[list[int]]:
    """Return the commits to verify: reachable from the starts and not from a ref; report missing parents."""
    oid_of = history.reader.oid_of
    ticker = Ticker()
    seen: set[int] = set()
    fresh: list[int] = []
    older: list[int] = []
    stack = list(dict.fromkeys(starts))
    seen.update(stack)
    while stack:
        number = stack.pop()
        if oid_of(number) in ref_tips:
            continue
        if not is_new(number):
            older.append(number)
            continue
        parents = _checked_parents(history, number, checker)
        if parents is not None:
            fresh.append(number)
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        if ticker.due():
            yield
            ticker.restart()
    if older:
        fresh += yield from _find_leftovers(history, older, ref_tips, seen, checker)
    return fresh


def _find_leftovers(
    history: History, older: list[int], ref_tips: Set[bytes], seen: set[int], checker: _Checker
) -> Work[list[int]]:
    """Return the commits below `older` that no ref reaches: they were left by something and prove nothing."""
    reader = history.reader
    ticker = Ticker()
    tips: list[int] = []
    for oid in ref_tips:
        number = reader.find(oid)
        if number >= 0:
            try:
                _tags, target, type_number = follow_tags(reader, number, history.may_be_missing)
            except ObjectMissing:
                continue
            if type_number == COMMIT and target >= 0:
                tips.append(target)
        if ticker.due():
            yield
            ticker.restart()
    gentle = _TolerantHistory(history, checker)
    leftovers = yield from find_range(gentle, older, tips)
    return [number for number in leftovers.commits if number not in gentle.broken]


class _TolerantHistory(History):
    """A history in which a missing parent is reported to the checker instead of raised."""

    __slots__ = ("_checker", "_inner", "broken")

    def __init__(self, history: History, checker: _Checker) -> None:
        super().__init__(history.table, shallow=history.shallow, may_be_missing=history.may_be_missing)
        self._inner = history
        self._checker = checker
        self.broken: set[int] = set()

    def parents(self, number: int) -> tuple[int, ...]:
        parents = _checked_parents(self._inner, number, self._checker)
        if parents is None:
            self.broken.add(number)
            return ()
        return parents

    def known_parents(self, number: int) -> tuple[int, ...]:
        return self._inner.known_parents(number)


def _checked_parents(history: History, number: int, checker: _Checker) -> tuple[int, ...] | None:
    """Return the parents that are there, reporting the others; None when the commit itself can't be read."""
    oid = history.reader.oid_of(number)
    try:
        for missing in history.missing_parents(number):
            checker.report(missing, "commit", oid)
        parents = history.known_parents(number)
    except CorruptObject as error:
        checker.report(error.oid, "commit", b"", error.reason)
        return None
    reader = history.reader
    good = []
    for parent in parents:
        if reader.type_of(parent) == COMMIT:
            good.append(parent)
        else:
            name = TYPE_NAMES.get(reader.type_of(parent), b"object").decode("ascii")
            checker.report(reader.oid_of(parent), "commit", oid, f"is a {name}, not a commit")
    return tuple(good)
