"""What may lie on the disk afterwards: after a killed process one state, after a power cut many; and putting one there.

An `Outcome` is names of folders plus content of files. `killed` is the page cache. `power_cuts` yields extremes first
(nothing unsynced survived; everything did; only names; only content), all or, when few outcomes are asked for, some of
them; then every combination, when these are few; then seeded random ones. A torn write keeps a number of whole sectors,
the last change of a file any number of bytes.

`materialise` makes a folder look like an outcome in place: the folder itself keeps its inode, files with two names are
hard links, and mtimes are those of the changes.
"""

import hashlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tests.simulation.model import ROOT, Change, Content, File, Model, NameChange, Part

SECTOR_BYTES = 512
EXHAUSTIVE_MAX = 64

Names = Mapping[int, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One state of the disk; `label` says how it came about."""

    label: str
    names: Names
    contents: Mapping[int, Content]
    model: Model

    @property
    def is_cut(self) -> bool:
        """Whether it is a power cut's."""
        return self.label.startswith("cut")

    def entries(self, number: int = ROOT, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every path with its node, folders before what is in them."""
        for name, node in sorted(self.names.get(number, {}).items()):
            path = f"{prefix}{name}"
            yield path, node
            if node in self.model.folders:
                yield from self.entries(node, f"{path}/")

    def fingerprint(self) -> bytes:
        """Equal for equal states: names, contents, which names share an inode."""
        digest = hashlib.blake2b(digest_size=16)
        numbers: dict[int, int] = {}
        for path, node in self.entries():
            digest.update(b"\0%b\0%d" % (os.fsencode(path), numbers.setdefault(node, len(numbers))))
            content = self.contents.get(node)
            if content is not None:
                digest.update(b"\0%d\0" % content.size)
                digest.update(content.data)
        return digest.digest()


def killed(model: Model, label: str = "killed") -> Outcome:
    """The page cache."""
    names = {number: folder.cached for number, folder in model.folders.items()}
    return Outcome(label, names, {number: file.cached for number, file in model.files.items()}, model)


def power_cuts(model: Model, seed: str, count_max: int) -> Iterator[Outcome]:
    """At most `count_max` different states that a power cut may leave."""
    chance = random.Random(seed)
    seen: set[bytes] = set()
    extremes = list(_extremes(model))
    if count_max < 2 * len(extremes):
        extremes = chance.sample(extremes, count_max // 2)
    for outcome in itertools.chain(extremes, _combinations(model, chance, count_max)):
        mark = outcome.fingerprint()
        if mark in seen:
            continue
        seen.add(mark)
        yield outcome
        if len(seen) >= count_max:
            return


def _extremes(model: Model) -> Iterator[Outcome]:
    nothing, everything = _weak_names(model, []), _weak_names(model, model.unsynced)
    durable = {number: _choose(file, _lose) for number, file in model.files.items()}
    cached = {number: _choose(file, _keep) for number, file in model.files.items()}
    yield Outcome("cut: nothing unsynced survived", nothing, durable, model)
    yield Outcome("cut: names survived, content did not", everything, durable, model)
    yield Outcome("cut: all survived", everything, cached, model)
    yield Outcome("cut: content survived, names did not", nothing, cached, model)


def _combinations(model: Model, chance: random.Random, count_max: int) -> Iterator[Outcome]:
    """All combinations of whole changes when they are few; then random ones, with torn writes among them."""
    loose = [number for number, file in model.files.items() if file.changes]
    weight = len(model.unsynced) + sum(len(model.files[number].changes) for number in loose)
    if 2**weight <= min(EXHAUSTIVE_MAX, count_max * 4):
        yield from _every(model, loose)
    for turn in range(count_max * 3):
        ordered = turn % 2 == 0
        names = _ordered_names(model, chance) if ordered else _weak_names(model, _pick(model.unsynced, chance))
        share = chance.choice((0.1, 0.5, 0.9))
        contents = {
            number: _choose(file, lambda change, is_last: _toss(change, is_last, chance, share))  # noqa: B023
            for number, file in model.files.items()
        }
        yield Outcome(f"cut: {'ordered' if ordered else 'weak'} sample {turn}", names, contents, model)


def _every(model: Model, loose: list[int]) -> Iterator[Outcome]:
    """Every closed choice of name changes with every choice of whole or lost content changes."""
    changes = [change for number in loose for change in model.files[number].changes]
    base = {number: file.durable for number, file in model.files.items()}
    for kept_names in itertools.product((False, True), repeat=len(model.unsynced)):
        chosen = [change for change, kept in zip(model.unsynced, kept_names, strict=True) if kept]
        if not _is_closed(model.unsynced, chosen):
            continue
        names = _weak_names(model, chosen)
        for kept_content in itertools.product((False, True), repeat=len(changes)):
            kept = {id(change) for change, wanted in zip(changes, kept_content, strict=True) if wanted}
            contents = dict(base)
            for number in loose:
                contents[number] = _choose(
                    model.files[number],
                    lambda change, _: change.data if id(change) in kept else None,  # noqa: B023
                )
            yield Outcome("cut: one of all combinations", names, contents, model)


# Names


def _is_closed(changes: list[NameChange], chosen: list[NameChange]) -> bool:
    """Whether no chosen change skips an earlier one of the same name."""
    picked = {id(change) for change in chosen}
    stopped: set[tuple[int, str]] = set()
    for change in changes:
        keys = {(part.folder, part.name) for part in change.parts}
        if id(change) in picked:
            if keys & stopped:
                return False
        else:
            stopped |= keys
    return True


def _pick(changes: list[NameChange], chance: random.Random) -> list[NameChange]:
    """A random choice in which no change skips an earlier one of the same name."""
    share = chance.choice((0.2, 0.5, 0.8, 0.95))
    chosen: list[NameChange] = []
    stopped: set[tuple[int, str]] = set()
    for change in changes:
        keys = {(part.folder, part.name) for part in change.parts}
        if keys & stopped or chance.random() > share:
            stopped |= keys
        else:
            chosen.append(change)
    return chosen


def _weak_names(model: Model, chosen: list[NameChange]) -> Names:
    names = {number: dict(folder.durable) for number, folder in model.folders.items()}
    for change in chosen:
        _apply(names, change.parts)
    _drop_strangers(model, names)
    return names


def _drop_strangers(model: Model, names: dict[int, dict[str, int]]) -> None:
    """Take away locks and `.keep` files that lost the second name by which govc knows its own.

    The link is made after the file that it links to. Every file system with a journal keeps that order, so none leaves
    such a file; a file system that promises no order at all does, and there an administrator has to remove it.
    """
    own, own_before = _own_locks(names), _own_locks(model.first)
    for number, folder in names.items():
        for name, file in list(folder.items()):
            was_there = model.first.get(number, {}).get(name) == file and file not in own_before
            if name.endswith((".lock", ".keep")) and file in model.files and file not in own and not was_there:
                del folder[name]
        if "packed-refs.lock" not in folder:
            folder.pop("packed-refs.new", None)


def _own_locks(names: Names) -> set[int]:
    """What lies in govc/locks."""
    node = names.get(ROOT, {}).get("govc", -1)
    return set(names.get(names.get(node, {}).get("locks", -1), {}).values())


def _ordered_names(model: Model, chance: random.Random) -> Names:
    names = {number: dict(first) for number, first in model.first.items()}
    for change in model.history[: chance.randint(model.committed, len(model.history))]:
        _apply(names, change.all_parts)
    return names


def _apply(names: dict[int, dict[str, int]], parts: tuple[Part, ...]) -> None:
    for part in parts:
        if part.node is None:
            names[part.folder].pop(part.name, None)
        else:
            names[part.folder][part.name] = part.node


# Content

Decide = Callable[[Change, bool], bytes | None]
"""What is kept of an unsynced change: its bytes (all, or the first ones), None for nothing."""


def _choose(file: File, decide: Decide) -> Content:
    content = file.durable
    for index, change in enumerate(file.changes):
        if change.kind.startswith("sure "):
            content = replace(change, kind=change.kind[5:]).apply(content)
            continue
        kept = decide(change, index == len(file.changes) - 1)
        if kept is not None:
            content = change.apply(content, kept)
    return content


def _lose(change: Change, is_last: bool) -> None:
    return None


def _keep(change: Change, is_last: bool) -> bytes:
    return change.data


def _toss(change: Change, is_last: bool, chance: random.Random, share: float) -> bytes | None:
    if chance.random() > share:
        return None
    if change.kind == "write" and chance.random() < 0.3:
        return change.data[: _tear(change, is_last, chance)]
    return change.data


def _tear(change: Change, is_last: bool, chance: random.Random) -> int:
    """Where a write breaks off: between sectors of the file, or anywhere when it is the last."""
    if is_last:
        return chance.randint(0, len(change.data))
    first = -change.offset % SECTOR_BYTES
    borders = range(first, len(change.data), SECTOR_BYTES)
    return chance.choice(borders) if borders else 0


# Putting it there


def materialise(outcome: Outcome, root: str) -> None:
    """Make `root` look like the outcome; the folder keeps its inode."""
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    made: dict[int, str] = {}
    for path, node in outcome.entries():
        full = f"{root}/{path}"
        if node in outcome.model.folders:
            os.mkdir(full)
            os.chmod(full, outcome.model.folders[node].mode)
        elif node in made:
            os.link(made[node], full)
        elif node in outcome.model.links:
            os.symlink(outcome.model.links[node], full)
        else:
            content = outcome.contents[node]
            descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, content.data)
            os.ftruncate(descriptor, content.size)
            os.fchmod(descriptor, outcome.model.files[node].mode)
            os.utime(descriptor, ns=(content.time_ns, content.time_ns))
            os.close(descriptor)
            made[node] = full
