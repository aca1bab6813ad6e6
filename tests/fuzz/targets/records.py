"""Our own files: the log with its segments, state and checkpoint, the cache's records, the introductions."""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import zlib
from array import array
from contextlib import suppress
from typing import Any

from govc.cache.record import FlightState, FlightStatus, decode_status, encode_status, read_part_id
from govc.graph import introduce as introducing
from govc.graph import path_file
from govc.graph.path_changes import LIMITS, find_changes
from govc.graph.segment import BadSegment, Segment, iter_encoded, parse_segment
from govc.graph.view import arrange
from govc.kernels import history_py, sweep_py
from govc.kernels.sweep import NO_LIMIT
from govc.objects.commit import parse_commit_links
from govc.odb import forward, ready, thin
from govc.protocol.oid import SHA1, HashAlgorithm
from govc.wal.checkpoint import Checkpoint, decode_checkpoint
from govc.wal.errors import LogDamaged, LogError
from govc.wal.reader import LogReader, Position
from govc.wal.record import (
    GENESIS,
    BadRecord,
    Draft,
    Kind,
    PackReference,
    RefChange,
    SymrefChange,
    decode_record,
    encode_record,
    peek_frame,
)
from govc.wal.segment import HEADER_BYTES, SegmentHeader, decode_header
from govc.wal.state import FILE_BYTES, Durability, SharedState, Tail, peek_tail
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.targets.packs import both
from tests.fuzz.targets.texts import folder_for, remove_scratch, write
from tests.fuzz.targets.wire import algo_of, refname
from tests.graph.test_closure import random_repository

# Our log


def draft(draw: Draw) -> Draft:
    size = draw.choice((20, 32))
    texts = [draw.word(b"ann", b"10.0.0.1", b"\xff").decode("utf-8", "surrogateescape") for _ in range(3)]
    return Draft(
        kind=draw.choice(list(Kind)),
        actor=texts[0],
        address=texts[1],
        request_id=texts[2],
        committer=draw.word(b"A <a@b>"),
        message=draw.word(b"push"),
        refs=tuple(RefChange(refname(draw) + b"x", bytes(size), b"\1" * size) for _ in range(draw.randrange(3))),
        symrefs=(SymrefChange(b"HEAD", b"", b"refs/heads/x"),) * draw.randrange(2),
        packs=(b"PACK" + draw.randbytes(9),) * draw.randrange(2),
        pack_references=(PackReference(b"\2" * size, 100, 3),) * draw.randrange(2),
        loose_objects=((b"\3" * size, b"content"),) * draw.randrange(2),
        shallow=(b"\4" * size,) * draw.randrange(2),
        push_options=(b"ci.skip",) * draw.randrange(2),
        certificate=draw.word(b""),
        number=draw.randrange(3),
    )


def record_bytes(draw: Draw, sequence: int, salt: bytes, previous: bytes) -> bytes:
    data = encode_record(
        draft(draw), sequence=sequence, salt=salt, durable=sequence - 1, writer=b"w" * 8, time_ns=5, previous=previous
    )
    if draw.chance(0.5):
        return data
    head, fields = data[:84], data[84:-32]
    if draw.broken() and fields:
        fields = draw.spoil(fields)
    body = bytearray(head + fields)
    body[4:8] = draw.number(len(body) + 32, 32).to_bytes(4, "big")
    for at, bits in ((8, 64), (24, 64), (32, 8), (33, 8), (44, 64)):
        size = bits // 8
        body[at : at + size] = draw.number(int.from_bytes(body[at : at + size], "big"), bits).to_bytes(size, "big")
    return bytes(body) + draw.raw(hashlib.sha256(body).digest())


def make_record(draw: Draw) -> bytes:
    return record_bytes(draw, 5, b"saltsalt", bytes(32))


def run_record(data: bytes) -> None:
    """What is read can be written again, and says the same."""
    peek_frame(data)
    record = decode_record(data)
    draft = record.draft
    assert record.size == len(data) and record.kind is draft.kind and record.time_seconds >= -(1 << 40)
    again = decode_record(
        encode_record(
            draft,
            sequence=record.sequence,
            salt=record.salt,
            durable=record.durable,
            writer=record.writer,
            time_ns=record.time_ns,
            previous=record.previous,
        )
    )
    assert draft == again.draft


def segment_header(draw: Draw, ordinal: int, first: int, previous: bytes, size: int) -> bytes:
    head = SegmentHeader(
        algo=SHA1, log_id=b"i" * 16, inode=1, salt=b"salt%04d" % ordinal, ordinal=ordinal, first_sequence=first,
        size=size, time_ns=0, previous=previous,
    ).encode()  # fmt: skip
    packed = bytearray(head[:112])
    for at, bits in ((8, 16), (10, 8), (11, 8), (48, 64), (56, 64)):
        length = bits // 8
        packed[at : at + length] = draw.number(int.from_bytes(packed[at : at + length], "big"), bits).to_bytes(
            length, "big"
        )
    return bytes(packed) + draw.raw(hashlib.sha256(packed).digest()) + head[144:]


def make_log(draw: Draw) -> tuple[list[bytes], int]:
    segments, sequence, previous = [], 1, GENESIS
    for ordinal in range(1, draw.choice((1, 1, 2)) + 1):
        first, before = sequence, previous
        body = b""
        for _ in range(draw.randrange(4)):
            record = record_bytes(draw, sequence, b"salt%04d" % ordinal, previous)
            body += record
            previous = record[-32:]
            sequence += 1
        body += draw.pick(b"", b"GREC", body[-100:])
        body = draw.spoil(body) if draw.chance(0.1) else body
        segments.append(segment_header(draw, ordinal, first, before, 4096) + body + bytes(200))
    return segments, draw.choice((0, 0, 1, 5))


def run_log(data: tuple[list[bytes], int]) -> None:
    """Strict or not, a reader yields records in order and without a gap, and then says how it ended."""
    segments, durable = data
    folder = folder_for("log")
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    for number, content in enumerate(segments, 1):
        write(f"{folder}/{number:012d}.seg", content)
        with suppress(LogError):
            decode_header(content, "x")
            decode_header(content[:100], "x")
    loose = LogReader(folder, durable=durable, strict=False)
    with suppress(LogError):
        seen = [located.record.sequence for located in loose]
        assert seen == list(range(seen[0], seen[0] + len(seen))) if seen else True
        assert loose.end is not None or loose.damage is not None
        if seen:
            after = Position(1, HEADER_BYTES, seen[0] - 1, GENESIS)
            list(LogReader(folder, durable=durable, strict=False, after=after))
    list(LogReader(folder, durable=durable))


def make_checkpoint(draw: Draw) -> bytes:
    names = {refname(draw): draw.pick(b"\1" * 20, b"") for _ in range(draw.randrange(3))}
    mark, loose = draw.choice((b"", b"mark")), (b"refs/heads/x",) * draw.randrange(3)
    data = Checkpoint(
        position=Position(1, 512, 3, bytes(32)), log_id=b"i" * 16, boot=b"b" * 16, time_ns=1, table_sequence=2,
        table_checksum=bytes(32), changes=names, packs=(b"pack-x",) * draw.randrange(2), head=b"ref: refs/heads/x",
        packed_mark=mark, loose=loose if mark else (),
    ).encode()  # fmt: skip
    body = bytearray(data[:-32])
    start = struct.calcsize(">8sH6xQQQ32s16s16sqQ32s")
    for at in range(start, start + 12, 4):
        body[at : at + 4] = draw.number(int.from_bytes(body[at : at + 4], "big"), 32).to_bytes(4, "big")
    body[8:10] = draw.number(1, 16).to_bytes(2, "big")
    if mark:
        at = len(body) - sum(2 + len(name) for name in loose) - len(mark) - 6
        sizes = struct.pack(">HI", draw.number(len(mark), 16), draw.number(len(loose), 32))
        body[at : at + 6] = sizes
        if draw.broken():
            body[at : at + 6 + len(mark)] = bytes(2) + sizes[2:]
    spoilt = draw.spoil(bytes(body)) if draw.chance(0.2) else bytes(body)
    return spoilt + draw.raw(hashlib.sha256(spoilt).digest())


def run_checkpoint(data: bytes) -> None:
    checkpoint = decode_checkpoint(data, "checkpoint")
    assert decode_checkpoint(checkpoint.encode(), "again") == checkpoint


def make_state(draw: Draw) -> tuple[bytes, list[tuple[int, int]]]:
    """Bytes over a state file, and published numbers."""
    return draw.randbytes(draw.choice((4, 600))), [
        (draw.randrange(FILE_BYTES), draw.randrange(1, 400)) for _ in range(2)
    ]


def run_state(data: tuple[bytes, list[tuple[int, int]]]) -> None:
    """Whatever is written over the file, a copy is read whole or not at all."""
    noise, places = data
    path = f"{folder_for('state')}/state"
    write(path, b"")
    state = SharedState(path, b"b" * 16)
    try:
        tail = Tail(
            boot=b"b" * 16,
            log_id=b"i" * 16,
            inode=1,
            ordinal=1,
            offset=512,
            next_sequence=9,
            checksum=bytes(32),
            published=2,
        )
        assert tail.with_published(1) is tail and tail.with_published(3).published == 3
        durability = Durability(boot=b"b" * 16, durable=4, cuts=((1, 2), (2, 3)))
        for generation in range(2):
            tail = tail.with_published(5 + generation)
            state.write_tail(tail._replace(generation=generation))
            state.write_durability(durability)
        with open(path, "r+b") as file:
            for at, size in places:
                file.seek(at)
                file.write(noise[:size])
        found, durable = state.read_tail(), state.read_durability()
        assert found is None or (found.next_sequence == 9 and 2 <= found.published < 9)
        assert durable is None or durable.durable == 4
        assert found is None or (not found.is_all_published and set(found.unpublished()) <= set(range(3, 9)))
        assert durable is None or (durable.is_cut(1, 3) and not durable.is_poisoned(1))
        assert peek_tail(path, b"b" * 16) == found and peek_tail(path, b"c" * 16) is None
        assert state.is_at(path) and not state.is_at(path + "x")
        again = SharedState(path, b"b" * 16)
        again.close()
        again.close()
    finally:
        state.close()


# The cache's records, our indexes


def make_flight(draw: Draw) -> bytes:
    data = encode_status(FlightStatus(draw.choice(list(FlightState)), 5, 0, 0))
    body = bytearray(data[:-4])
    body[4:8] = draw.number(int.from_bytes(body[4:8], "big"), 32).to_bytes(4, "big")
    spoilt = draw.raw(bytes(body))
    return spoilt + draw.raw(zlib.crc32(spoilt).to_bytes(4, "big")) + draw.raw(bytes(28) + b"0123456789abcdef")


def run_flight(data: bytes) -> None:
    status = decode_status(data)
    if status is not None:
        assert decode_status(encode_status(status)) == status
    fd = os.memfd_create("flight")
    try:
        os.write(fd, data)
        part = read_part_id(fd)
        assert part == "" or (len(part) == 16 and "/" not in part)
    finally:
        os.close(fd)


def columns_of(seed: int, algo: HashAlgorithm) -> tuple[bytes, bytes]:
    """Two segments of a small random history, the second on top of the first; few different ones, so kept."""
    key = (seed, algo.name)
    if key not in _SEGMENTS:
        repo, commits = random_repository(seed, size=8) if algo is SHA1 else random_repository(seed, size=8, algo=algo)
        first = introducing.introduce(repo, commits[:4], lambda oid: False)
        size = algo.oid_size
        known = {first.commit_oids[at : at + size] for at in range(0, len(first.commit_oids), size)}
        second = introducing.introduce(repo, commits, known.__contains__)
        _SEGMENTS[key] = tuple(b"".join(iter_encoded(part, algo)) for part in (first, second))  # type: ignore[assignment]
    return _SEGMENTS[key]


_SEGMENTS: dict[tuple[int, str], tuple[bytes, bytes]] = {}


def make_segment(draw: Draw) -> tuple[list[bytes], HashAlgorithm, int]:
    algo = SHA1
    files = list(columns_of(draw.randrange(6), algo))
    out = []
    for data in files:
        body = bytearray(data[: -algo.oid_size])
        if draw.chance(0.6):
            for _ in range(draw.choice((1, 1, 2, 6))):
                at = draw.choice((draw.randrange(12, 40), draw.randrange(64, len(body)))) & ~3
                value = int.from_bytes(body[at : at + 4], "little")
                kind = draw.randrange(4)
                if kind == 0:
                    value = draw.number(value, 32)
                elif kind == 1:
                    value = value + draw.choice((-1, 1))
                elif kind == 2:
                    value ^= 1 << draw.randrange(32)
                else:
                    value = draw.choice((0, 1, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 5))
                if 64 <= at or draw.chance(0.2):
                    body[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
        spoilt = draw.spoil(bytes(body)) if draw.chance(0.02) else bytes(body)
        if draw.chance(0.05):
            spoilt = draw.choice((draw.spoil(spoilt[:12]) + spoilt[12:], spoilt[:50]))
        out.append(spoilt + draw.raw(algo.new(spoilt).digest()))
    return out, algo, draw.getrandbits(30)


def sweep_of(module: Any, segments: list[Segment], size: int) -> Any:
    sweep = module.Sweep(size)
    for segment in segments:
        sweep = module.Sweep(size, sweep, segment.sweep_columns)
    return sweep


def sweep_answers(module: Any, segments: list[Segment], algo: HashAlgorithm, seed: int) -> Any:
    """Everything that a sweep can be asked, over columns that may lie."""
    try:
        sweep = sweep_of(module, segments, algo.oid_size)
    except ValueError:
        return "refused"
    rng = random.Random(seed)
    count, objects = sweep.commit_count, sweep.object_count
    said: list[Any] = [count, objects]
    if not count:
        return said
    wants, haves, cuts = (array("I", [rng.randrange(count) for _ in range(rng.randrange(3))]) for _ in range(3))
    for tops, bottoms, below in ((wants, haves, cuts), (wants, array("I"), array("I"))):
        painting = sweep.paint(tops, bottoms, below)
        said += [painting.range.tolist(), painting.cut.tolist()]
        said += [list(map(list, painting.collect(rng.random() < 0.8, True, rng.choice((0, 10, NO_LIMIT)))))]
        said += [painting.has(vid) for vid in range(objects + 1)]
        said += [(painting.reaches(cid), painting.had_commit(cid)) for cid in range(count + 1)]
        said += [painting.has_name(b"\1" * algo.oid_size), painting.place_commits(array("q", [-1, 0]))]
    said.append(sweep.reach(wants, haves, 0))
    said += [sweep.commit_row(cid)[1:3] for cid in range(count)]
    said += [sweep.object_oid(vid) for vid in range(objects)] + [sweep.commit_oid(cid) for cid in range(count)]
    said += [sweep.cid_of(b"\1" * algo.oid_size), sweep.vid_of(b"\1" * algo.oid_size)]
    for ask in (sweep.commit_row, sweep.commit_oid):
        with suppress(IndexError):
            ask(count)
            raise AssertionError("an answer about a commit that isn't there")
    return said


def is_in_order(segment: Segment) -> bool:
    size = segment.algo.oid_size
    objects = [segment.object_oid(rank) for rank in range(segment.object_count)]
    places = array("I", bytes(segment.sorted_places))
    names = [bytes(segment.commit_oids[place * size : place * size + size]) for place in places]
    multi = array("I", bytes(segment.multi_objects)).tolist()
    return all(column == sorted(set(column)) for column in (objects, names, multi))


def run_segment(data: tuple[list[bytes], HashAlgorithm, int]) -> None:
    files, algo, seed = data
    segments = [parse_segment(content, algo) for content in files]
    answers = [sweep_answers(module, segments, algo, seed) for module in both("sweep", sweep_py)]
    # Names out of order are found by chance, in each engine by another one.
    assert all(answer == answers[0] for answer in answers) or not all(map(is_in_order, segments))
    for content in files:
        parse_segment(content, algo, trusted=True)
    view, _troubles = arrange(algo, segments)
    for segment in segments:
        names = bytes(segment.commit_oids)
        for at in range(0, len(names), algo.oid_size):
            oid = names[at : at + algo.oid_size]
            with suppress(BadSegment):
                assert view.commit(oid) is None or view.knows(oid)
        for rank in range(segment.object_count):
            view.before(segment.object_oid(rank))
    assert view.commit(b"\xfe" * algo.oid_size) is None and view.before(b"\xfe" * algo.oid_size) is None
    assert not len(view.cids([b"\xfe" * algo.oid_size])) and view.is_empty in (True, False)
    for segment in segments:
        for place in range(segment.commit_count):
            with suppress(BadSegment):
                segment.tree_oid(place)
        segment.before(bytes(algo.oid_size))
        segment.before(b"\xff" * algo.oid_size)
        assert segment.introduced().times == bytes(segment.times)


def make_forward(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    size = algo.oid_size
    entries = [
        forward.Entry(
            bytes([draw.randrange(3)]) * size, bytes([draw.randrange(3, 6)]) * size, 5, draw.choice((b"abc", b""))
        )
        for _ in range(draw.randrange(4))
    ]
    data = bytearray(b"".join(forward.iter_encoded(entries, [b"\1" * size], algo))[:-size])
    for at in range(4, 20, 4):
        data[at : at + 4] = draw.number(int.from_bytes(data[at : at + 4], "little"), 32).to_bytes(4, "little")
    body = draw.raw(bytes(data))
    streams = len(b"".join(entry.stream for entry in entries))
    return body + draw.raw(algo.new(body[: len(body) - streams]).digest()), algo


def make_thin(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    size = algo.oid_size
    items = []
    for n in range(draw.randrange(5)):
        bases = [draw.choice((None, bytes([draw.randrange(8)]) * size)) for _ in range(draw.randrange(1, 3))]
        items.append(thin.Item(bytes([n]) * size, draw.randrange(1, 5), [thin.Row(base, 5, b"abc") for base in bases]))
    data = bytearray(b"".join(thin.iter_encoded(items, [b"\1" * size], algo))[:-size])
    for _ in range(draw.randrange(3)):
        at = draw.randrange(4, len(data) - 3)
        data[at : at + 4] = draw.number(int.from_bytes(data[at : at + 4], "little"), 32).to_bytes(4, "little")
    body = draw.raw(bytes(data))
    streams = 3 * sum(len(item.rows) for item in items)
    return body + draw.raw(algo.new(body[: len(body) - streams]).digest()), algo


def make_ready(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    file = io.BytesIO()
    writer = ready.ReadyWriter(file, algo)
    for n in range(draw.randrange(4)):
        writer.add(bytes([n]) * algo.oid_size, draw.randrange(1, 5), 5, draw.choice((b"abc", b"")))
    writer.finish([b"\1" * algo.oid_size] * draw.randrange(3))
    data = bytearray(file.getvalue()[: -algo.oid_size])
    for at in range(len(data) - 16, len(data), 4):
        data[at : at + 4] = draw.number(int.from_bytes(data[at : at + 4], "little"), 32).to_bytes(4, "little")
    body = draw.raw(bytes(data))
    start = max(0, min(int.from_bytes(body[-16:-8], "little"), len(body)))
    return body + draw.raw(algo.new(body[start:]).digest()), algo


def run_ready(data: tuple[bytes, HashAlgorithm]) -> None:
    content, algo = data
    path = f"{folder_for('ready')}/one.ready"
    write(path, content)
    file = ready.open_ready(path, algo)
    assert len(file.source().columns) >= file.count * (21 + algo.oid_size)
    assert len(file.packs) * algo.oid_size <= len(content)


def run_thin(data: tuple[bytes, HashAlgorithm]) -> None:
    content, algo = data
    entries = thin.parse_thin(content, algo)
    if entries.file is not None:
        rows = list(entries.iter_rows())
        assert all(len(target) == len(row.base or b"") == algo.oid_size for target, row in rows)
        assert len(rows) * 4 <= len(entries.columns[5])
        assert entries.file.count * algo.oid_size == len(entries.columns[0])


def run_forward(data: tuple[bytes, HashAlgorithm]) -> None:
    content, algo = data
    file = forward.parse_forward(content, algo)
    deltas = forward.ForwardDeltas((file, file))
    assert len(list(file.entries())) <= file.count
    assert len(list(deltas.entries())) == 2 * len(list(file.entries()))
    for targets, bases, sizes, offsets, streams, checksums in deltas.columns:
        assert len(targets) == len(bases) == file.count * algo.oid_size
        assert len(sizes) == len(checksums) == len(offsets) - 1 == file.count
        assert offsets[-1] == len(streams)


def paths_of(seed: int) -> tuple[Any, bytes]:
    """A small random history as a graph, and a file of what its commits change."""
    if seed not in _PATHS:
        repo, commits = random_repository(seed, size=8)

        def read(oid: bytes) -> tuple[int, bytes]:
            return repo.read(repo.find(oid))

        graphs = []
        for module in both("history", history_py):
            graph = module.Graph(20)
            graph.load(None, b"".join(commits), lambda oid: parse_commit_links(read(oid)[1], SHA1), {}, ())
            graphs.append(graph)
        cids = array("I", range(len(graphs[0])))
        found = find_changes(None, read, graphs[0], cids, 0, (), LIMITS._replace(changes_each=6))
        made = path_file.PathColumns(b"".join(graphs[0].oids(cids)), *found)
        _PATHS[seed] = graphs, b"".join(path_file.iter_encoded(made, SHA1))
    return _PATHS[seed]


_PATHS: dict[int, tuple[Any, bytes]] = {}


def make_paths(draw: Draw) -> tuple[int, bytes]:
    seed = draw.randrange(4)
    body = bytearray(paths_of(seed)[1][:-20])
    if draw.chance(0.7):
        for _ in range(draw.choice((1, 1, 2, 6))):
            at = draw.choice((draw.randrange(12, 32), draw.randrange(32, len(body)))) & ~3
            value = int.from_bytes(body[at : at + 4], "little")
            value = draw.choice((draw.number(value, 32), value + 1, value - 1, value ^ 1 << draw.randrange(32), 0))
            if 32 <= at or draw.chance(0.2):
                body[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    text = draw.raw(bytes(body))
    return seed, text + draw.raw(SHA1.new(text).digest())


def run_paths(data: tuple[int, bytes]) -> None:
    seed, content = data
    graphs, _ = paths_of(seed)
    file = path_file.parse_paths(content, SHA1)
    assert path_file.read_count(content[: path_file.HEADER_BYTES], SHA1) == len(file.commit_oids) // 20
    cid_of, others = graphs[0].find_many(file.commit_oids)
    assert graphs[-1].find_many(file.commit_oids) == (cid_of, others)
    tips = array("I", [len(graphs[0]) - 1])
    for name in (b"", b"a", b"nothing", *(file.name(rank) for rank in range(min(file.path_count, 9)))):
        with suppress(path_file.BadPaths):
            rank = file.find(name)
            assert rank < 0 or file.name(rank) == name
    for _name, places, parents in file.iter_known():
        answers = []
        for graph in graphs:
            try:
                answers.append(graph.order(tips, array("I"), 0, False, -1, None, [(places, parents, cid_of)]))
            except IndexError:
                answers.append(None)
        assert all(answer == answers[0] for answer in answers)


TARGETS = (
    Target(
        name="changed-paths",
        covers=("govc.graph.path_file:PathFile,parse_paths,read_count,_parse_header",),
        make=make_paths,
        run=run_paths,
        allowed=(path_file.BadPaths,),
        weight=0.3,
        kernels=True,
    ),
    Target(
        name="log-record",
        covers=("govc.wal.record",),
        make=make_record,
        run=run_record,
        allowed=(BadRecord,),
        weight=2,
    ),
    Target(
        name="log",
        covers=("govc.wal.reader", "govc.wal.segment:decode_header,list_segments,read_header"),
        make=make_log,
        run=run_log,
        allowed=(LogError,),
        weight=0.2,
        tidy=remove_scratch,
    ),
    Target(
        name="checkpoint",
        covers=("govc.wal.checkpoint:decode_checkpoint,Checkpoint",),
        make=make_checkpoint,
        run=run_checkpoint,
        allowed=(LogDamaged, LogError),
        weight=2,
    ),
    Target(
        name="log-state", covers=("govc.wal.state",), make=make_state, run=run_state, weight=0.2, tidy=remove_scratch
    ),
    Target(
        name="cache-record",
        covers=("govc.cache.record:encode_status,decode_status,read_part_id",),
        make=make_flight,
        run=run_flight,
        weight=1,
    ),
    Target(
        name="introductions",
        covers=(
            "govc.graph.segment:Segment,parse_segment",
            "govc.graph.column_file",
            "govc.kernels.sweep_py",
            "govc.graph.view",
        ),
        make=make_segment,
        run=run_segment,
        allowed=(BadSegment,),
        weight=0.15,
        kernels=True,
    ),
    Target(
        name="forward-deltas",
        covers=("govc.odb.forward:ForwardFile,parse_forward,ForwardDeltas",),
        make=make_forward,
        run=run_forward,
        allowed=(forward.BadForward,),
        weight=1,
    ),
    Target(
        name="thin-entries",
        covers=("govc.odb.thin:ThinEntries,parse_thin,_split",),
        make=make_thin,
        run=run_thin,
        allowed=(thin.BadThin,),
        weight=1,
    ),
    Target(
        name="ready-entries",
        covers=("govc.odb.ready:ReadyFile,open_ready,_read_columns",),
        make=make_ready,
        run=run_ready,
        allowed=(ready.BadReady,),
        weight=0.5,
        tidy=remove_scratch,
    ),
)
