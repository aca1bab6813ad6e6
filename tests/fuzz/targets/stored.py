"""Stored packs and their indexes: read, copied and introduced by the compiled kernels and by their twins.

A pack and its index belong together here, except for fields that lie; both engines have to read the same content, or
refuse both.
"""

from __future__ import annotations

import os
import zlib
from array import array
from typing import Any, NamedTuple

from govc.errors import CorruptPack
from govc.graph.introduce import introduce as introduce_twin
from govc.kernels import order_py
from govc.kernels.choice import find
from govc.objects.types import BLOB, COMMIT, OFS_DELTA, REF_DELTA, TREE, hash_object
from govc.odb import packs
from govc.odb.cache import BaseCache
from govc.odb.packs import PackFile
from govc.odb.resolve import Resolver
from govc.pack.copying import CopiedPack
from govc.pack.delta import make_delta
from govc.pack.entry import encode_entry_header, encode_ofs
from govc.pack.index import PackIndex
from govc.pack.index_writer import encode_index_v2, encode_reverse_index
from govc.pack.indexer import index_pack
from govc.pack.writer import write_pack
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.lowered import lowered
from tests.fuzz.targets.packs import LIMITS, OBJECT_MAX, PACK_ERRORS, both, contents, deflated, outcome_of
from tests.fuzz.targets.texts import folder_for, remove_scratch, write
from tests.fuzz.targets.wire import algo_of

# Indexes


def index_bytes(
    draw: Draw,
    algo: HashAlgorithm,
    oids: list[bytes],
    offsets: list[int],
    crcs: list[int],
    checksum: bytes,
    version: int,
) -> bytes:
    """An index of one of the two versions, with numbers that may lie and a checksum that is right again."""
    rows = sorted(zip(oids, offsets, crcs, strict=True))
    draw.shuffle_some(rows)
    counts = [sum(oid[0] <= byte for oid, _, _ in rows) for byte in range(256)]
    if draw.chance(0.1):
        counts[draw.randrange(256)] = draw.number(0, 32)
    fanout = b"".join((draw.number(c, 32) if draw.chance(0.01) else c).to_bytes(4, "big") for c in counts)
    if version == 1:
        body = fanout + b"".join(draw.number(offset, 32).to_bytes(4, "big") + oid for oid, offset, _ in rows)
    else:
        large: list[int] = []
        narrow = []
        for _, offset, _ in rows:
            if draw.chance(0.05):
                narrow.append(1 << 31 | draw.number(len(large), 31))
                large.append(draw.number(offset, 64))
            else:
                narrow.append(draw.number(offset, 32))
        body = draw.raw(b"\377tOc") + draw.number(version, 32).to_bytes(4, "big") + fanout
        body += b"".join(oid for oid, _, _ in rows) + b"".join(crc.to_bytes(4, "big") for _, _, crc in rows)
        body += b"".join(word.to_bytes(4, "big") for word in narrow) + b"".join(n.to_bytes(8, "big") for n in large)
    body = draw.spoil(body) if draw.chance(0.05) else body
    body += checksum
    return body + draw.raw(algo.new(body).digest())


def make_index(draw: Draw) -> tuple[bytes, HashAlgorithm, list[bytes]]:
    algo = algo_of(draw)
    oids = [bytes([draw.randrange(4) * 80]) + draw.randbytes(algo.oid_size - 1) for _ in range(draw.randrange(6))]
    offsets = [12 + 20 * n for n in range(len(oids))]
    version = draw.pick(2, 1, 3)
    version = 1 if draw.chance(0.3) else version
    data = index_bytes(draw, algo, oids, offsets, [7] * len(oids), b"\1" * algo.oid_size, version)
    return data, algo, [*oids, bytes(algo.oid_size), b"\xff" * algo.oid_size]


def run_index(data: tuple[bytes, HashAlgorithm, list[bytes]]) -> None:
    """Every question about a broken index has an answer within it, or is refused; the matching kernel agrees."""
    buffer, algo, oids = data
    index = PackIndex(buffer, algo)
    some = sorted(oids)[: 1 if len(buffer) % 3 == 0 else None]
    asked = b"".join(some)
    start = index._oid_start
    found = [
        module.match_oids(asked, algo.oid_size, buffer, start, index._stride, index.count)
        for module in both("order", order_py)
    ]
    for oid in oids:
        assert -1 <= index.find(oid) < index.count
    for position in range(-1, index.count + 1):
        for ask in (index.oid_at, index.offset_at, index.crc_at):
            try:
                ask(position)
            except (IndexError, CorruptPack):
                continue
    assert len(list(index.iter_oids())) == index.count
    outcome_of(index.offsets)
    try:
        index.verify()
    except CorruptPack:
        return
    # Only where the oids are in order do bisecting answers mean anything.
    assert all(ranks == found[0] for ranks in found)
    assert list(found[0]) == [rank for rank, oid in enumerate(some) if index.find(oid) >= 0]


class Stored(NamedTuple):
    """A pack on disk: its three files (b"" for no reverse index)."""

    pack: bytes
    idx: bytes
    rev: bytes
    algo: HashAlgorithm
    seed: int


def make_stored(draw: Draw) -> Stored:
    """A pack and an index that belong together, except where they don't."""
    algo = SHA1 if draw.chance(0.8) else SHA256
    made: list[bytes] = []
    names: list[bytes] = []
    offsets: list[int] = []
    placed: list[tuple[int, int, bytes, bytes]] = []
    at = 12
    for kind, content in contents(draw, algo):
        form = draw.randrange(3) if placed else 0
        target = content
        if form:
            start, kind, base, oid = draw.choice(placed)
            target = base + draw.randbytes(2)
            delta = draw.raw(make_delta(base, target))
            body = deflated(draw, delta)
            if form == 1:
                head = encode_entry_header(OFS_DELTA, draw.number(len(delta), 40))
                head += encode_ofs(max(1, draw.number(at - start, 40)))
            else:
                cycle = hash_object(algo, kind, target) if draw.chance(0.05) else oid
                head = encode_entry_header(REF_DELTA, draw.number(len(delta), 40)) + draw.raw(cycle)
        else:
            head = encode_entry_header(draw.number(kind, 3), draw.number(len(content), 40))
            body = deflated(draw, content)
        entry = draw.raw(head) + body
        oid = hash_object(algo, kind, target)
        placed.append((at, kind, target, oid))
        names.append(oid)
        offsets.append(at)
        made.append(entry)
        at += len(entry)
    body = b"PACK\0\0\0\2" + len(made).to_bytes(4, "big") + b"".join(made)
    trailer = algo.new(body).digest()
    idx = index_bytes(draw, algo, names, offsets, [0] * len(names), trailer, 2)
    rev = b""
    if draw.chance(0.5):
        order = {name: position for position, name in enumerate(sorted(names))}
        positions = array("I", [draw.number(order[name], 32) for name in names])
        rev = draw.raw(b"".join(encode_reverse_index(algo, positions, trailer)))
    return Stored(draw.pick(body + trailer, body[:20]), idx, rev, algo, draw.getrandbits(30))


def open_stored(stored: Stored) -> PackFile:
    folder = folder_for("stored")
    for suffix, data in (("pack", stored.pack), ("idx", stored.idx), ("rev", stored.rev)):
        path = f"{folder}/p.{suffix}"
        if data or suffix != "rev":
            write(path, data)
        elif os.path.exists(path):
            os.unlink(path)
    # Half of them are mapped, as large ones are.
    with lowered(*[(packs, "_MAP_BYTES_MIN", 100)][: stored.seed & 1]):
        pack = PackFile.open(f"{folder}/p.pack", stored.algo)
        outcome_of(pack.kernel_source)
        return pack


def run_stored(stored: Stored) -> None:
    """Each object read by the kernel and by its twin: the same content, or both refuse."""
    pack = open_stored(stored)
    try:
        read_stored(stored, pack)
    finally:
        pack.close()


def read_stored(stored: Stored, pack: PackFile) -> None:
    algo = stored.algo
    resolver = Resolver(algo, BaseCache(0), object_bytes_max=OBJECT_MAX)
    packread = find("packread")
    table = packread.PackTable([pack.kernel_source()], algo.oid_size) if packread is not None else None
    readers = [packread.PackReader(table, cache, OBJECT_MAX) for cache in (0, 1 << 20)] if packread is not None else []
    if table is not None:
        chains = find("chainread")
        readers += [
            chains.ChainReader(table, cache, OBJECT_MAX, lambda _: pack.map_content()) for cache in (0, 1 << 20)
        ]
    for position in range(pack.count):
        twin = outcome_of(lambda p=position: resolver.read(pack, pack.index.offset_at(p)))
        for reader in readers:
            ours = outcome_of(reader.read, position)
            assert is_refusal(ours) == is_refusal(twin) and (is_refusal(twin) or ours == twin), (position, ours, twin)
            small = reader.read_small(position, 1 << 20)
            assert small is None or small == twin
        if readers:
            size = outcome_of(readers[0].type_and_size, position)
            assert is_refusal(twin) or size == (twin[0], len(twin[1]))
            assert table.oid_of(position) == pack.index.oid_at(position)
        for ask in (
            resolver.type_of,
            resolver.size_of,
            pack.end_of,
            lambda _, o: list(resolver.iter_content(pack, o, 1 << 16)),
        ):
            outcome_of(lambda p=position, ask=ask: ask(pack, pack.index.offset_at(p)) if ask != pack.end_of else 0)
        outcome_of(resolver.entry, pack, position)
        outcome_of(lambda p=position: pack.end_of(pack.index.offset_at(p)))
    names = [pack.index.oid_at(position) for position in range(pack.count)]
    if table is not None:
        for name in [*names, bytes(algo.oid_size), b"\xff" * algo.oid_size]:
            assert -1 <= table.find(name) < pack.count
        pack.kernel_source()
        asked = array("q", table.find_many(b"".join(names), names == sorted(names))).tolist()
        try:
            pack.index.verify()
        except CorruptPack:
            return
        assert [table.find(name) for name in names] == asked


def is_refusal(outcome: Any) -> bool:
    return isinstance(outcome, tuple) and isinstance(outcome[0], str)


class OnePack:
    """A store of one pack, as far as writing and introducing ask."""

    def __init__(self, pack: PackFile) -> None:
        self.pack = pack
        self.algo = pack.algo
        self._resolver = Resolver(pack.algo, BaseCache(1 << 16), object_bytes_max=OBJECT_MAX)

    def entry(self, number: int) -> Any:
        return self._resolver.entry(self.pack, number)

    def find(self, oid: bytes) -> int:
        return self.pack.index.find(oid)

    def oid_of(self, number: int) -> bytes:
        return self.pack.index.oid_at(number)

    def read(self, number: int) -> tuple[int, bytes]:
        return self._resolver.read(self.pack, self.pack.index.offset_at(number))

    def type_of(self, number: int) -> int:
        return self._resolver.type_of(self.pack, self.pack.index.offset_at(number))

    def size_of(self, number: int) -> int:
        return self._resolver.size_of(self.pack, self.pack.index.offset_at(number))


def run_copied(stored: Stored) -> None:
    """What is copied out of a broken pack is refused, or is a pack whose objects are those of the source."""
    pack = open_stored(stored)
    try:
        source = OnePack(pack)
        draw = Draw(str(stored.seed))
        numbers = array("q", [number for number in range(pack.count) if draw.chance(0.7)])
        at_peer = {number for number in range(pack.count) if draw.chance(0.3)}
        thin = draw.chance(0.4)
        answers = []
        twin = outcome_of(
            lambda: b"".join(
                write_pack(
                    source,
                    array("Q", numbers),
                    ofs_delta=draw.chance(0.5),
                    thin_bases=at_peer.__contains__ if thin else None,
                    chunk_bytes=draw.choice((1, 100, 1 << 16)),
                    ticks=draw.chance(0.3),
                )
            )
        )
        answers.append(twin)
        packread = find("packread")
        if packread is not None:
            table = outcome_of(lambda: packread.PackTable([pack.kernel_source()], stored.algo.oid_size))
            reader = packread.PackReader(table, 1 << 16, OBJECT_MAX)
            answers.append(
                outcome_of(copy_all, source, reader, numbers, at_peer if thin else None, draw.choice((1, 100, 1 << 16)))
            )
        for answer in answers:
            if not is_refusal(answer):
                judge_copy(answer, source, numbers, at_peer if thin else set())
    finally:
        pack.close()


def copy_all(source: Any, reader: Any, numbers: array[int], at_peer: set[int] | None, chunk_bytes: int) -> bytes:
    copied = CopiedPack(
        source,
        reader,
        numbers,
        array("q"),
        at_peer=None if at_peer is None else at_peer.__contains__,
        chunk_bytes=chunk_bytes,
    )
    pieces = []
    while chunk := copied.next_chunk():
        pieces.append(chunk)
    return b"".join(pieces)


def judge_copy(answer: bytes, source: OnePack, numbers: array[int], at_peer: set[int]) -> None:
    """A client takes a pack apart as we do: it may find the damage that was copied, but nothing that wasn't there."""
    held = {}
    for number in range(source.pack.count):
        content = outcome_of(source.read, number)
        if not is_refusal(content):
            held[hash_object(source.algo, *content)] = content
    fd = os.memfd_create("copy")
    try:
        os.write(fd, answer)
        seen = outcome_of(index_pack, fd, source.algo, base_reader=held.get, limits=LIMITS)
    finally:
        os.close(fd)
    assert is_refusal(seen) or seen.object_count_received == len(numbers)


def run_introduced(stored: Stored) -> None:
    """Broken trees and commits in a pack: the kernel and its twin introduce the same, or both refuse."""
    pack = open_stored(stored)
    try:
        source = OnePack(pack)
        tips = [pack.index.oid_at(number) for number in range(pack.count)]
        commits = [oid for oid in tips if outcome_of(source.read, source.find(oid))[0] == COMMIT]
        draw = Draw(str(stored.seed))
        tips = commits if commits and draw.chance(0.9) else tips
        known = set(tips) if draw.chance(0.1) else set()
        limits = {"entries_max": draw.choice((1, 1000)), "commits_max": draw.choice((1, 1000))}
        twin = outcome_of(introduce_twin, source, tips, known.__contains__, **limits)
        kernel, packread = find("introduce"), find("packread")
        if kernel is None or packread is None:
            return
        table = packread.PackTable([pack.kernel_source()], stored.algo.oid_size)
        reader = packread.PackReader(table, 1 << 16, OBJECT_MAX)
        ours = outcome_of(
            kernel.introduce,
            reader,
            b"".join(tips),
            known.__contains__,
            lambda oid: None,
            limits["entries_max"],
            limits["commits_max"],
        )
        assert is_refusal(ours) == is_refusal(twin), (ours, twin)
        assert is_refusal(ours) or tuple(ours) == tuple(twin)
    finally:
        pack.close()


def make_history(draw: Draw) -> Stored:
    """A pack of a small history that hangs together, mostly: commits name the trees, trees the blobs."""
    algo = SHA1 if draw.chance(0.8) else SHA256
    made: list[tuple[int, bytes]] = []
    trees: list[bytes] = []
    commits: list[bytes] = []

    def add(kind: int, content: bytes) -> bytes:
        made.append((kind, content))
        return hash_object(algo, kind, content)

    blobs = [add(BLOB, b"%d" % n) for n in range(3)]
    for _ in range(draw.randint(1, 4)):
        rows = []
        for name in sorted(draw.sample((b"a", b"b", b"b.c", b"b0", b"z"), draw.randint(0, 4))):
            if trees and draw.chance(0.4):
                rows.append((draw.pick(b"40000", b"100644", b"040000"), name, draw.choice(trees)))
            else:
                rows.append((draw.pick(b"100644", b"120000", b"160000", b"40000", b"7"), name, draw.choice(blobs)))
        draw.shuffle_some(rows)
        tree = b"".join(mode + b" " + name + b"\0" + draw.raw(oid) for mode, name, oid in rows)
        trees.append(add(TREE, draw.raw(tree)))
        parents = draw.sample(commits, min(len(commits), draw.choice((0, 1, 1, 2))))
        lines = [b"tree " + draw.pick(trees[-1], draw.choice(blobs)).hex().encode()]
        lines += [b"parent " + draw.raw(oid).hex().encode() for oid in parents]
        lines += [b"author A <a@b> %d +0000" % draw.randrange(99), b"committer A <a@b> %d +0000" % draw.number(9, 64)]
        commits.append(add(COMMIT, draw.raw(b"\n".join(lines) + b"\n\nm\n")))
    unique = {hash_object(algo, kind, content): (kind, content) for kind, content in made}
    if draw.broken():
        del unique[draw.choice(list(unique))]
    body, offsets = b"PACK\0\0\0\2" + len(unique).to_bytes(4, "big"), []
    for kind, content in unique.values():
        offsets.append(len(body))
        body += encode_entry_header(kind, len(content)) + zlib.compress(content, 1)
    trailer = algo.new(body).digest()
    idx = plain_index(algo, list(unique), offsets, trailer)
    return Stored(body + trailer, idx, b"", algo, draw.getrandbits(30))


def plain_index(algo: HashAlgorithm, names: list[bytes], offsets: list[int], trailer: bytes) -> bytes:
    rows = sorted(zip(names, offsets, strict=True))
    crcs = array("I", bytes(4 * len(rows)))
    return b"".join(
        encode_index_v2(algo, b"".join(name for name, _ in rows), crcs, array("Q", [at for _, at in rows]), trailer)
    )


TARGETS = (
    Target(
        name="pack-index",
        covers=("govc.pack.index", "govc.kernels.order_py:match_oids"),
        make=make_index,
        run=run_index,
        allowed=PACK_ERRORS,
        weight=0.4,
        kernels=True,
    ),
    Target(
        name="stored-pack",
        covers=("govc.odb.resolve", "govc.odb.packs:_OpenPack"),
        make=make_stored,
        run=run_stored,
        allowed=PACK_ERRORS,
        weight=0.15,
        kernels=True,
        tidy=remove_scratch,
    ),
    Target(
        name="copied-pack",
        covers=("govc.pack.writer:write_pack,_encode_head,_iter_stored",),
        make=make_stored,
        run=run_copied,
        allowed=PACK_ERRORS,
        weight=0.1,
        kernels=True,
        tidy=remove_scratch,
    ),
    Target(
        name="introduced",
        covers=("govc.graph.introduce:introduce,_Builder",),
        make=make_history,
        run=run_introduced,
        allowed=PACK_ERRORS,
        weight=0.15,
        kernels=True,
        tidy=remove_scratch,
    ),
)
