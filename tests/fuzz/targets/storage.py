"""Binary files of git's: reftables, commit-graphs, multi-pack-indexes, loose objects.

Each file is encoded by hand here or by the project's writer, with fields that lie, and its checksum made right again.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import NamedTuple

from govc.errors import Corrupt, CorruptObject, CorruptRefs, LimitExceeded
from govc.graph.commit_graph_file import CommitGraph, _Layer, open_commit_graph
from govc.objects.types import encode_object_header
from govc.odb.loose import iter_loose_content, loose_path, read_loose_header, read_loose_object
from govc.odb.midx import MultiPackIndex
from govc.pack.chunks import encode_chunks
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from govc.refs.reftable import columns as columns_module
from govc.refs.reftable import table as table_module
from govc.refs.reftable.block import parse_block
from govc.refs.reftable.columns import TableRefs
from govc.refs.reftable.format import (
    Footer,
    Header,
    LogEntry,
    LogRecord,
    RefRecord,
    encode_footer,
    encode_header,
    encode_varint,
)
from govc.refs.reftable.merged import merge_tables
from govc.refs.reftable.table import open_table
from govc.refs.reftable.writer import EntryTooLarge, ReftableOptions, encode_table
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.lowered import Limit, lowered
from tests.fuzz.targets.packs import outcome_of
from tests.fuzz.targets.texts import folder_for, remove_scratch, write
from tests.fuzz.targets.wire import algo_of, refname

# Reftables


def reftable_records(draw: Draw, algo: HashAlgorithm) -> tuple[list[RefRecord], list[LogRecord]]:
    size = algo.oid_size
    names = sorted({refname(draw) + b"%d" % draw.randrange(300) for _ in range(draw.choice((0, 1, 3, 20, 60, 120)))})
    refs = []
    for name in names:
        kind = draw.randrange(8)
        oid = bytes([draw.randrange(5)]) * size
        if kind == 0:
            refs.append(RefRecord(name, 1))
        elif kind == 1:
            refs.append(RefRecord(name, 1, None, None, draw.word(b"refs/heads/main")))
        elif kind == 2:
            refs.append(RefRecord(name, 2, oid, b"\7" * size))
        else:
            refs.append(RefRecord(name, draw.choice((1, 2)), oid))
    logs = []
    for name in names[:60]:
        for index in (2, 1)[: draw.randrange(3)]:
            entry = LogEntry(bytes(size), b"\1" * size, b"A", b"a@b", 1700000000, 60, b"push\n")
            logs.append(LogRecord(name, index, None if draw.chance(0.1) else entry))
    return refs, logs


def record_by_hand(draw: Draw, key: bytes, last: bytes, kind: int, value: bytes) -> bytes:
    same = next(
        (at for at, (one, other) in enumerate(zip(key, last, strict=False)) if one != other), min(len(key), len(last))
    )
    shared = same if draw.chance(0.8) else 0
    suffix = key[shared:]
    return (
        encode_varint(draw.number(shared, 34))
        + encode_varint(draw.number(len(suffix), 34) << 3 | kind)
        + suffix
        + value
    )


def block_by_hand(draw: Draw, kind: bytes, start: int, records: list[tuple[bytes, int, bytes]]) -> bytes:
    """A block of records, its restarts and sizes as they should be, mostly."""
    body, restarts, last = b"", [], b""
    for number, (key, record_kind, value) in enumerate(records):
        if number % 4 == 0:
            restarts.append(start + 4 + len(body))
            last = b""
        body += record_by_hand(draw, key, last, draw.number(record_kind, 3), value)
        last = key
    tail = b"".join(draw.number(at, 24).to_bytes(3, "big") for at in restarts) + draw.number(
        len(restarts), 16
    ).to_bytes(2, "big")
    size = start + 4 + len(body) + len(tail)
    if kind == b"g":
        return kind + draw.number(size, 24).to_bytes(3, "big") + draw.raw(zlib.compress(body + tail))
    return kind + draw.number(size, 24).to_bytes(3, "big") + draw.raw(body) + tail


REFTABLE_LIMITS: tuple[tuple[Limit, ...], ...] = (
    (),
    (),
    (),
    ((table_module, "REF_SECTION_BYTES_MAX", 100),),
    ((table_module, "DECODED_BYTES_BASE", 0), (table_module, "DECODED_RATIO_MAX", 0)),
    ((table_module, "UNINDEXED_BLOCKS_MAX", 0), (columns_module, "_CHUNK", 2)),
    ((table_module, "_INDEX_LEVELS_MAX", 1), (columns_module, "_CHUNK", 2)),
)
"""Limits that small inputs reach."""


class Reftable(NamedTuple):
    """A table, a name to look for, and what else it is met with."""

    content: bytes
    algo: HashAlgorithm
    wanted: bytes
    limits: tuple[Limit, ...]


def make_reftable(draw: Draw) -> Reftable:
    content, algo, wanted = reftable_bytes(draw)
    return Reftable(content, algo, wanted, draw.choice(REFTABLE_LIMITS))


def reftable_bytes(draw: Draw) -> tuple[bytes, HashAlgorithm, bytes]:
    algo = SHA1 if draw.chance(0.8) else SHA256
    size = algo.oid_size
    wanted = refname(draw) + b"5"
    if draw.chance(0.4):  # as the writer makes it, then damaged; the footer's checksum made right
        refs, logs = reftable_records(draw, algo)
        if refs and draw.chance(0.7):
            wanted = draw.choice(refs).name
        options = ReftableOptions(block_size=draw.choice((150, 256, 512, 4096)))
        try:
            data = b"".join(
                encode_table(refs, logs, min_update_index=1, max_update_index=2, algo=algo, options=options)
            )
        except EntryTooLarge:
            data = b""
        if draw.chance(0.5) and data:
            footer = 68 if algo is SHA1 else 72
            body, tail = data[:-footer], data[-footer:]
            body = draw.spoil(body) if draw.chance(0.8) else body
            tail = draw.raw(tail[:-4])
            head = body[: footer - 44]
            tail = head + tail[len(head) :] if draw.chance(0.9) else tail
            data = body + tail + zlib.crc32(tail).to_bytes(4, "big")
        return data, algo, wanted
    version = draw.pick(1 if algo is SHA1 else 2, 1, 2)
    header = Header(version, draw.pick(0, 256, 4096), 1, draw.pick(2, 0, 1 << 63), algo)
    data = draw.raw(encode_header(header))
    positions = dict.fromkeys(("ref_index", "obj", "obj_index", "log", "log_index"), 0)
    names = sorted({draw.word(b"HEAD", b"refs/heads/a", b"refs/heads/b", b"refs/tags/v1", wanted) for _ in range(5)})

    def ref(name: bytes) -> tuple[bytes, int, bytes]:
        kind = draw.choice((0, 1, 1, 2, 3))
        oid = bytes([draw.randrange(3)]) * size
        values = {0: b"", 1: oid, 2: oid + oid, 3: encode_varint(draw.number(4, 20)) + b"HEAD"}
        return name, kind, encode_varint(draw.number(1, draw.choice((40, 70)))) + draw.raw(values[kind])

    def log(name: bytes) -> tuple[bytes, int, bytes]:
        text = encode_varint(draw.number(1, 30)) + b"A"
        value = bytes(size) + b"\1" * size + text + text + encode_varint(5) + b"\0\0" + text
        return name + b"\0" + bytes(7) + b"\xfe", draw.pick(1, 0), draw.raw(value)

    if draw.chance(0.9):
        data += block_by_hand(draw, draw.pick(b"r", b"i", b"x"), len(data), [ref(name) for name in names])
    if draw.chance(0.4):
        positions["ref_index"] = len(data)
        rows = [(name, 0, encode_varint(draw.number(0, 40))) for name in names]
        data += block_by_hand(draw, b"i", 0, rows)
    if draw.chance(0.6):
        positions["log"] = len(data)
        rows = [log(name) for name in names]
        if draw.chance(0.2):
            draw.shuffle(rows)
        data += block_by_hand(draw, b"g", 0, rows)
        if draw.chance(0.5):
            positions["log_index"] = len(data)
            rows = [(log(name)[0], 0, encode_varint(draw.number(positions["log"], 40))) for name in names]
            data += block_by_hand(draw, b"i", 0, rows)
    data = draw.spoil(data) if draw.chance(0.05) else data
    head = data[: header.size]
    footer = Footer(
        **{name: draw.number(value, 40) for name, value in positions.items()}, obj_id_size=draw.number(2, 5)
    )
    tail = draw.raw(head) + encode_footer(header, footer)[header.size : -4]
    return data + tail + draw.number(zlib.crc32(tail)).to_bytes(4, "big"), algo, wanted


def run_reftable(data: Reftable) -> None:
    """A look-up finds what listing finds."""
    with lowered(*data.limits):
        ask_reftable(data)


def ask_reftable(data: Reftable) -> None:
    content, algo, wanted, _ = data
    fd = os.memfd_create("table")
    try:
        os.write(fd, content)
        with suppress(CorruptRefs):
            open_table("/proc", "self", algo)
        table = open_table("/proc/self/fd", str(fd), algo)
        outcome_of(lambda: list(table.iter_logs()))
        outcome_of(lambda: list(table.iter_logs(wanted)))
        outcome_of(lambda: parse_block(content, 0, table.header))
        found = outcome_of(table.find_ref, wanted)
        refs = list(table.iter_refs())
        columns = TableRefs.of(refs, algo.oid_size)
        assert columns.name_count <= len(refs)
        for position, entry in enumerate(columns.columns.iter_entries()):
            assert columns.columns.get(entry.name) == entry.oid == columns.columns.oid_at(position)
            assert columns.columns.peeled_at(position) == entry.peeled
        merge_tables((table, table), algo, None).get(wanted)
        merged = columns.columns.replaced(
            [(b"refs/heads/a", b"\5" * algo.oid_size, None), (b"refs/heads/b", None, None)]
        )
        assert merged.get(b"refs/heads/a") == b"\5" * algo.oid_size and merged.get(b"refs/heads/b") is None
        for prefix in (b"", b"refs/heads/", b"\xff"):
            low, high = merged.range_of_prefix(prefix)
            assert all(name.startswith(prefix) for name in merged.iter_names(low, high))
            assert len(merged) == merged.count
        os.ftruncate(fd, len(content) // 2)
        outcome_of(lambda: list(table.iter_logs()))
        if not table.footer.ref_index:
            assert found == next((ref for ref in refs if ref.name == wanted), None) or isinstance(found, tuple)
    finally:
        os.close(fd)


# Chunked files


def chunked(draw: Draw, algo: HashAlgorithm, header: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A file of chunks whose table of contents may lie; the checksum is right, mostly."""
    chunks = draw.shuffle_some([(draw.raw(name)[:4].ljust(4, b"x"), draw.raw(content)) for name, content in chunks])
    pieces = b"".join(encode_chunks(algo, header, chunks))[: -algo.oid_size]
    count = sum(bool(content) for _, content in chunks)
    table = bytearray(pieces[len(header) : len(header) + 12 * (count + 1)])
    for row in range(0, len(table), 12):
        if draw.broken():
            value = draw.number(int.from_bytes(table[row + 4 : row + 12], "big"), 64)
            table[row + 4 : row + 12] = value.to_bytes(8, "big")
    data = header + bytes(table) + pieces[len(header) + len(table) :]
    data = draw.spoil(data) if draw.chance(0.05) else data
    return data + draw.raw(algo.new(data).digest())


def sorted_oids(draw: Draw, algo: HashAlgorithm) -> list[bytes]:
    oids = sorted(bytes([draw.randrange(4) * 80]) + draw.randbytes(algo.oid_size - 1) for _ in range(draw.randrange(6)))
    return draw.shuffle_some(oids)


def fanout(draw: Draw, oids: list[bytes]) -> bytes:
    counts = [sum(oid[0] <= byte for oid in oids) for byte in range(256)]
    if draw.broken():
        counts[draw.randrange(256)] = draw.number(3, 32)
    return struct.pack(">256I", *counts)


def graph_file(draw: Draw, algo: HashAlgorithm, oids: list[bytes], bases: list[bytes]) -> bytes:
    data, edges = b"", b""
    count = len(oids)
    for _ in oids:
        parents = [draw.number(draw.randrange(count), 31) for _ in range(draw.choice((0, 1, 2, 3)))]
        words = [0x70000000, 0x70000000]
        if len(parents) == 3:
            words = [parents[0], 0x80000000 | draw.number(len(edges) // 4, 31)]
            edges += parents[1].to_bytes(4, "big") + (draw.pick(0x80000000, 0) | parents[2]).to_bytes(4, "big")
        else:
            words[: len(parents)] = parents
        data += bytes(algo.oid_size) + struct.pack(">IIII", *words, draw.number(4, 32), draw.number(1700000000, 32))
    chunks = [(b"OIDF", fanout(draw, oids)), (b"OIDL", b"".join(oids)), (b"CDAT", data), (b"GDA2", bytes(4 * count))]
    chunks += [(b"EDGE", edges)] if edges else []
    chunks += [(b"BASE", b"".join(bases))] if bases else []
    kept = sum(bool(content) for _, content in chunks)
    hash_id = draw.pick(1 if algo is SHA1 else 2, 0, 3)
    header = draw.raw(b"CGPH") + bytes([draw.number(1, 8), hash_id, draw.number(kept, 8), draw.number(len(bases), 8)])
    return chunked(draw, algo, header, chunks)


def make_graph(draw: Draw) -> tuple[list[bytes], bytes, HashAlgorithm, list[bytes]]:
    algo = SHA1 if draw.chance(0.8) else SHA256
    files, bases, every = [], [], []
    for _ in range(draw.choice((1, 1, 2, 3))):
        oids = sorted_oids(draw, algo)
        every += oids
        files.append(graph_file(draw, algo, oids, list(bases)))
        bases.append(files[-1][-algo.oid_size :])
    names = [draw.raw(base.hex().encode()) for base in bases]
    return files, b"\n".join(draw.shuffle_some(names)) + b"\n", algo, every


def run_graph(data: tuple[list[bytes], bytes, HashAlgorithm, list[bytes]]) -> None:
    files, chain, algo, oids = data
    if len(files) == 1:
        ask_graph(CommitGraph([_Layer(files[0], algo)]), oids)
        return
    folder = folder_for("graphs")
    base = f"{folder}/info/commit-graphs"
    os.makedirs(base, exist_ok=True)
    for name in os.listdir(base):
        os.unlink(f"{base}/{name}")
    write(f"{base}/commit-graph-chain", chain)
    for content in files:
        write(f"{base}/graph-{content[-algo.oid_size :].hex()}.graph", content)
    graph = open_commit_graph(folder, algo)
    if graph is not None:
        ask_graph(graph, oids)


def ask_graph(graph: CommitGraph, oids: list[bytes]) -> None:
    for oid in oids:
        found = outcome_of(graph.find, oid)
        assert found is None or isinstance(found[0], str) or oid in graph
    assert len(graph) >= 0


def make_midx(draw: Draw) -> tuple[bytes, HashAlgorithm, list[bytes]]:
    algo = algo_of(draw)
    oids = sorted_oids(draw, algo)
    names = b"".join(
        draw.pick(draw.choice((b"pack-a.idx", b"pack-b.idx")), b"x/y.idx", b"nothing") + b"\0" for _ in range(2)
    )
    places, large = b"", b""
    for _ in oids:
        offset = draw.number(12, 32)
        if draw.chance(0.2):
            offset = 0x80000000 | draw.number(len(large) // 8, 31)
            large += draw.number(1 << 40, 64).to_bytes(8, "big")
        places += struct.pack(">II", draw.number(draw.randrange(2), 32), offset)
    chunks = [
        (b"PNAM", names + bytes(-len(names) % 4)),
        (b"OIDF", fanout(draw, oids)),
        (b"OIDL", b"".join(oids)),
        (b"OOFF", places),
        (b"LOFF", large),
    ]
    kept = sum(bool(content) for _, content in chunks)
    hash_id = draw.pick(1 if algo is SHA1 else 2, 0, 3)
    header = draw.raw(b"MIDX") + bytes([draw.number(1, 8), hash_id, draw.number(kept, 8), 0])
    header += draw.number(2, 32).to_bytes(4, "big")
    return chunked(draw, algo, header, chunks), algo, oids


def run_midx(data: tuple[bytes, HashAlgorithm, list[bytes]]) -> None:
    content, algo, oids = data
    index = MultiPackIndex(content, algo)
    for oid in [*oids, bytes(algo.oid_size)]:
        outcome_of(index.find, oid)
    assert index.is_whole() in (True, False) and len(index.checksum) == algo.oid_size
    assert all("/" not in name for name in index.packs)


# Loose objects


def make_loose_object(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    content = draw.randbytes(draw.choice((0, 1, 100, 70000)))
    head = draw.raw(encode_object_header(draw.choice((1, 2, 3, 4)), draw.number(len(content), 40)))
    head = draw.pick(head, b"blob 007\0", b"blob -1\0", b"tree  5\0", b"blob 5" + b"0" * 40 + b"\0", b"x" * 40)
    data = zlib.compress(head + content, draw.choice((0, 1, 9)))
    return draw.raw(data) + draw.pick(b"", b"\0", b"garbage"), algo


def run_loose_object(data: tuple[bytes, HashAlgorithm]) -> None:
    """Reading whole, by pieces, and the header alone say the same."""
    content, algo = data
    folder = folder_for("loose")
    oid = bytes(algo.oid_size)
    path = loose_path(folder, oid)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write(path, content)
    whole = outcome_of(read_loose_object, folder, oid, object_bytes_max=1 << 20)
    pieces = outcome_of(lambda: b"".join(iter_loose_content(folder, oid, 1000)))
    head = outcome_of(read_loose_header, folder, oid)
    if isinstance(whole[0], str):
        raise CorruptObject(oid, whole[1])
    assert whole[1] == pieces and head == (whole[0], len(whole[1]))


TARGETS = (
    Target(
        name="reftable",
        covers=(
            "govc.refs.reftable.block",
            "govc.refs.reftable.table",
            "govc.refs.reftable.columns",
            "govc.refs.reftable.format:Header,RefRecord,parse_header,parse_footer,decode_varint,decode_string,parse_log_key,"
            "decode_log_value,LogEntry",
        ),
        make=make_reftable,
        run=run_reftable,
        allowed=(CorruptRefs,),
        weight=0.3,
    ),
    Target(
        name="commit-graph",
        covers=(
            "govc.graph.commit_graph_file:_Layer,CommitGraph,open_commit_graph,_read_single,_read_chain,_read_layer",
            "govc.pack.chunks:parse_chunks,is_checksum_right,check_fanout,find_oid",
        ),
        make=make_graph,
        run=run_graph,
        allowed=(Corrupt,),
        weight=0.3,
        tidy=remove_scratch,
    ),
    Target(
        name="multi-pack-index",
        covers=("govc.odb.midx:MultiPackIndex",),
        make=make_midx,
        run=run_midx,
        allowed=(Corrupt,),
        weight=1,
    ),
    Target(
        name="loose-object",
        covers=("govc.odb.loose:_Inflater,read_loose_object,read_loose_header,iter_loose_content,loose_path",),
        make=make_loose_object,
        run=run_loose_object,
        allowed=(Corrupt, LimitExceeded),
        weight=0.3,
        tidy=remove_scratch,
    ),
)
