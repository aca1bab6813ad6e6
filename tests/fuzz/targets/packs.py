"""Packs, received and stored, and their indexes: every input goes to the compiled kernel and to its twin.

Received packs are built of whole objects and deltas of both kinds, thin ones among them, with fields that lie; header
count, entry sizes, zlib streams and the trailer are made to fit again, mostly, so that the parser gets past them. Both
engines have to agree: the same index, the same file afterwards, or the same words of refusal.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from types import ModuleType
from typing import Any, NamedTuple

from govc.errors import Corrupt, CorruptDelta, CorruptPack, GovcError, LimitExceeded, ObjectMissing
from govc.kernels import delta_py, order_py, sha1_py
from govc.kernels.choice import COMPILED, describe, find
from govc.objects.types import BLOB, COMMIT, OFS_DELTA, REF_DELTA, TAG, TREE, hash_object
from govc.pack import compiled, indexer, inflate, resolver, scanner
from govc.pack.delta import make_delta
from govc.pack.entry import encode_entry_header, encode_ofs, parse_entry_header
from govc.pack.format import parse_pack_header
from govc.pack.index import PackIndex
from govc.pack.index_writer import encode_index_v2
from govc.pack.indexer import index_pack
from govc.pack.limits import IndexLimits
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.lowered import lowered
from tests.fuzz.targets import objects
from tests.fuzz.targets.wire import algo_of

IS_COMPILED = all(choice.kind == COMPILED for choice in describe())
LIMITS = IndexLimits(
    object_bytes_max=1 << 20, delta_result_bytes_max=1 << 19, expansion_bytes_base=1 << 22, expansion_ratio_max=10
)
OBJECT_MAX = 1 << 20


NARROW = (
    LIMITS,
    LIMITS,
    LIMITS.replace(base_cache_bytes=0, delta_cache_bytes=0),
    LIMITS.replace(stream_bytes_min=100),
    LIMITS.replace(object_bytes_max=1000),
    LIMITS.replace(delta_result_bytes_max=300_000),
    LIMITS.replace(delta_result_bytes_max=200, base_cache_bytes=0, delta_cache_bytes=0),
    LIMITS.replace(expansion_bytes_base=5000, expansion_ratio_max=0),
)


def both(question: str, twin: ModuleType) -> list[ModuleType]:
    compiled = find(question)
    return [twin] if compiled is None else [compiled, twin]


# Deltas


def delta_op(draw: Draw, base_size: int) -> bytes:
    if draw.chance(0.4):
        data = draw.randbytes(draw.choice((1, 2, 7, 127)))
        return bytes([draw.number(len(data), 7)]) + data
    offset = draw.number(draw.randrange(base_size + 1), 32)
    size = draw.number(draw.choice((1, 5, base_size, max(base_size - offset, 1), 0x10000)), 24)
    op, out = 0x80, b""
    for bit, shift, value in (
        *((1 << n, 8 * n, offset) for n in range(4)),
        *((0x10 << n, 8 * n, 0 if size == 0x10000 else size) for n in range(3)),
    ):
        byte = value >> shift & 0xFF
        if byte or draw.chance(0.05):
            op |= bit
            out += bytes([byte])
    return bytes([op]) + out


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*out, value])


def make_delta_input(draw: Draw) -> tuple[bytes, bytes]:
    """A base and a delta of random instructions whose stated sizes mostly are the true ones."""
    base = draw.randbytes(draw.choice((0, 1, 10, 300, 70000)))
    body = b"".join(delta_op(draw, len(base)) for _ in range(draw.randrange(6)))
    if draw.chance(0.01):
        body = bytes((0x90, 1)) * 140_000  # more instructions than are kept apart
    size = result_size(base, body)
    header = varint(draw.number(len(base), 64)) + varint(draw.number(size, 64))
    delta = draw.raw(header + body + draw.pick(b"", b"\0", b"\x80", b"\xff"))
    return base, delta


def result_size(base: bytes, body: bytes) -> int:
    """What the instructions would make, as far as they can be followed."""
    size, at = 0, 0
    while at < len(body):
        op = body[at]
        at += 1
        if op & 0x80:
            part = 0
            for bit in range(7):
                if op & (1 << bit):
                    byte = body[at] if at < len(body) else 0
                    at += 1
                    part |= byte << (8 * (bit - 4)) if bit >= 4 else 0
            size += part or 0x10000
        else:
            size += op
            at += op
    return size


def outcome_of(function: Any, *arguments: Any, **options: Any) -> Any:
    """A value, or the class and words of an error of ours."""
    try:
        return function(*arguments, **options)
    except GovcError as error:
        return type(error).__name__, str(error)


def run_delta(data: tuple[bytes, bytes]) -> None:
    base, delta = data
    outcomes = [
        outcome_of(module.apply_delta, base, delta, result_bytes_max=OBJECT_MAX) for module in both("delta", delta_py)
    ]
    assert all(outcome == outcomes[0] for outcome in outcomes), [outcome[:200] for outcome in outcomes]
    if isinstance(outcomes[0], tuple):
        raise CorruptDelta(outcomes[0][1])


def make_texts(draw: Draw) -> tuple[bytes, bytes, int]:
    base = draw.randbytes(draw.choice((0, 10, 40, 500))) * draw.choice((1, 1, 3))
    target = b"".join(
        draw.choice(
            (base[draw.randrange(len(base) + 1) :][: draw.choice((5, 30, 1000))], draw.randbytes(9), b"\0" * 40)
        )
        for _ in range(draw.randrange(6))
    )
    return base, target, draw.choice((0, 20, 1 << 20))


def run_texts(data: tuple[bytes, bytes, int]) -> None:
    """Whatever is made of two texts is a delta from one to the other."""
    base, target, size_max = data
    made = [make_delta(base, target)]
    compiled = find("deltify")
    if compiled is not None:
        delta = compiled.make_delta(base, target, size_max)
        assert delta is None or len(delta) <= max(size_max, 0)
        made += [] if delta is None else [delta]
    for delta in made:
        for module in both("delta", delta_py):
            assert target == module.apply_delta(base, delta, result_bytes_max=len(target))


# Entries


def make_header(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    kind = draw.randrange(8)
    size = draw.number(draw.choice((0, 15, 16, 5000)), 80)
    head = encode_entry_header(kind, size)
    if kind == OFS_DELTA:
        head += encode_ofs(max(1, draw.number(200, 66)))
    elif kind == REF_DELTA:
        head += draw.randbytes(draw.choice((20, 32, 19)))
    return draw.raw(head), algo_of(draw)


def run_header(data: tuple[bytes, HashAlgorithm]) -> None:
    head, algo = data
    header = parse_entry_header(head, 0, algo)
    assert header.data_offset <= len(head) and header.size < 1 << 70


# Received packs


class Received(NamedTuple):
    """A pack as it arrives, and the objects that the repository has."""

    pack: bytes
    algo: HashAlgorithm
    stored: dict[bytes, tuple[int, bytes]]
    collide: int
    visits: bool
    threads: int
    limits: IndexLimits
    knows: int
    small: bool


COLLISIONS = (
    lambda kind, content: (kind, content + b"!"),
    lambda kind, content: (kind, b"!" + content[1:]),
    lambda kind, content: (BLOB if kind == TAG else TAG, content),
)
"""What an object that exists already may be, in place of what it should be."""


def contents(draw: Draw, algo: HashAlgorithm) -> list[tuple[int, bytes]]:
    """A few objects, some alike."""
    text = b"".join(b"line %d\n" % draw.randrange(50) for _ in range(20))
    made = [
        (BLOB, text),
        (BLOB, text + b"more\n"),
        (TREE, objects.tree(draw, algo)),
        (COMMIT, objects.commit(draw, algo)),
    ]
    made += [(TAG, objects.tag(draw, algo)), (BLOB, b""), (BLOB, draw.randbytes(draw.choice((1, 300, 5000))))]
    if draw.chance(0.03):
        made.append((BLOB, bytes(draw.choice((300_000, 1 << 20)))))
    return draw.sample(made, draw.randint(1, len(made)))


def deflated(draw: Draw, data: bytes) -> bytes:
    """A zlib stream, mostly good; some are cut, or longer than anybody says."""
    level = draw.choice((0, 1, 6, 9))
    stream = zlib.compress(data, level)
    if draw.chance(0.1):
        engine = zlib.compressobj(level, zlib.DEFLATED, draw.choice((9, 15)))
        stream = engine.compress(data) + engine.flush(zlib.Z_FULL_FLUSH) + engine.flush()
    return draw.pick(stream, draw.spoil(stream), stream[:-1], stream[:-4] + b"\0\0\0\0", stream + b"\0")


def entries(draw: Draw, algo: HashAlgorithm, known: dict[bytes, tuple[int, bytes]]) -> list[bytes]:
    """The entries of a pack: whole objects, and deltas on what came before, comes later or is known to the receiver."""
    made: list[bytes] = []
    bases: list[tuple[int, int, bytes]] = []
    at = 12
    later = list(known.items())
    parts = contents(draw, algo)
    if draw.chance(0.4):  # some that the receiver has
        parts += draw.sample(list(known.values()), draw.randint(1, len(known)))
        draw.shuffle(parts)
    for kind, content in parts:
        form = draw.randrange(10)
        if form < 4 and bases:
            start, kind, base = draw.choice(bases)
            target = base + draw.randbytes(3) if draw.chance(0.5) else content
            delta = draw.raw(make_delta(base, target))
            head = encode_entry_header(OFS_DELTA, draw.number(len(delta), 40))
            head += encode_ofs(max(1, draw.number(at - start, 40)))
            body = deflated(draw, delta)
        elif form < 7 and (bases or later):
            if later and (not bases or draw.chance(0.5)):
                oid, (kind, base) = draw.choice(later)
            else:
                _, kind, base = draw.choice(bases)
                oid = hash_object(algo, kind, base)
            target = base + b"x"
            delta = draw.raw(make_delta(base, target))
            head = encode_entry_header(REF_DELTA, draw.number(len(delta), 40)) + draw.raw(oid)
            body = deflated(draw, delta)
            if draw.chance(0.3):  # the next one stands on what this one makes
                later.append((hash_object(algo, kind, target), (kind, target)))
        else:
            target = content
            head = encode_entry_header(draw.number(kind, 3), draw.number(len(content), 40))
            body = deflated(draw, content)
        entry = draw.raw(head) + body
        bases.append((at, kind, target))
        made.append(entry)
        at += len(entry)
    return made


def make_received(draw: Draw) -> Received:
    algo = SHA1 if draw.chance(0.8) else SHA256
    stored = {}
    for kind, content in contents(draw, algo):
        stored[hash_object(algo, kind, content)] = (kind, content)
    made = entries(draw, algo, stored)
    if draw.broken():
        made = draw.shuffle_some(made)
    body = (
        b"PACK" + draw.number(2, 32).to_bytes(4, "big") + draw.number(len(made), 32).to_bytes(4, "big") + b"".join(made)
    )
    body = draw.spoil(body) if draw.chance(0.1) else body
    pack = draw.raw(body + algo.new(body).digest())
    threads, limits = draw.choice((1, 1, 1, 3)), draw.choice(NARROW)
    collide = draw.choice((0, 0, 0, 0, 1, 2, 3))
    return Received(pack, algo, stored, collide, draw.chance(0.5), threads, limits, draw.randrange(5), draw.chance(0.5))


def index_with(kernel: ModuleType | None, received: Received) -> tuple[Any, bytes, list[Any]]:
    """What indexing comes to: the result or the refusal, the file afterwards, what was visited."""
    pack, algo, stored, collide, visits, threads, limits, knows, _ = received
    seen: list[Any] = []
    existing = dict(stored)
    if collide:
        existing = {oid: COLLISIONS[collide - 1](*held) for oid, held in stored.items()}
    before = indexer.find_compiled, compiled._BESIDE_PACK_BYTES_MIN, compiled._BUDGET_BYTES
    indexer.find_compiled = lambda name: kernel  # type: ignore[assignment]
    compiled._BESIDE_PACK_BYTES_MIN, compiled._BUDGET_BYTES = 0, 1000 if threads > 1 else 1 << 22
    fd = os.memfd_create("pack")
    try:
        os.write(fd, pack)
        result = outcome_of(
            index_pack,
            fd,
            algo,
            base_reader=(lambda oid: (BLOB, b"other")) if knows == 4 else None if knows == 3 else stored.get,
            limits=limits,
            known=existing.__contains__ if knows else None,
            existing_reader=existing.get if knows > 1 else None,
            visit=(lambda *call: seen.append(call)) if visits else None,
            threads=threads,
        )
        after = b"" if isinstance(result, tuple) else os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
        indexer.find_compiled, compiled._BESIDE_PACK_BYTES_MIN, compiled._BUDGET_BYTES = before
    return result, after, sorted(seen) if not isinstance(result, tuple) else []


def run_received(received: Received) -> None:
    with lowered(*SMALL if received.small else ()):
        judge_received(received)


SMALL = (
    (scanner, "_OUTPUT_BYTES", 64),
    (scanner, "_TICK_BYTES", 0),
    (resolver, "_TICK_BYTES", 0),
    (inflate, "_OUTPUT_BYTES", 50),
    (inflate, "_PIECE_BYTES", 30),
)
"""Pieces so small, and ticks so frequent, that little packs have many."""


def judge_received(received: Received) -> None:
    twin = index_with(None, received)
    kernel = find("indexing")
    if kernel is not None and received.algo.name in kernel.HASHES:
        ours = index_with(kernel, received)
        # Objects below 256 KiB are held by one engine and read again by the other: below that the limit means little.
        is_small = received.small or received.limits.delta_result_bytes_max < 1 << 18
        is_held = is_small and any("object bytes in memory" in str(answer[0]) for answer in (ours, twin))
        if ours != twin and not is_held:
            # With two faults in one pack the engines, which look in other orders, may name different ones. And the
            # kernel makes some contents once more to show them, which counts against the limit of expansion.
            is_near_limit = "pack expansion bytes" in str(ours[0])
            assert isinstance(ours[0], tuple) and (isinstance(twin[0], tuple) or is_near_limit), (ours, twin)
    result = twin[0]
    if isinstance(result, tuple):
        raise CorruptPack(result[1])
    algo = received.algo
    assert result.pack_checksum == algo.new(twin[1][: -algo.oid_size]).digest() == twin[1][-algo.oid_size :]
    idx = b"".join(encode_index_v2(algo, result.oids_sorted, result.crcs, result.offsets, result.pack_checksum))
    index = PackIndex(idx, algo)
    index.verify()
    assert index.count == result.count == parse_pack_header(twin[1])


# Sorting and hashing


def make_order(draw: Draw) -> tuple[bytes, list[int], int]:
    size = draw.choice((20, 32))
    count = draw.choice((0, 1, 2, 5, 40))
    pool = [draw.randbytes(size) for _ in range(max(1, count // 2))]
    oids = b"".join(draw.choice(pool) for _ in range(count))
    return oids, [draw.choice((draw.getrandbits(10), draw.getrandbits(63))) for _ in range(count)], size


def run_order(data: tuple[bytes, list[int], int]) -> None:
    oids, numbers, size = data
    answers = []
    for module in both("order", order_py):
        order = module.sort_by_oid(oids, size)
        offsets = array("Q", numbers)
        answers.append(
            (
                order,
                module.sort_by_offset(offsets),
                bytes(module.reorder_records(oids, order, size)),
                module.gather_numbers(offsets, order),
                bytes(module.gather_bytes(bytes(n & 255 for n in numbers), order)),
                module.invert(order),
            )
        )
    assert all(answer == answers[0] for answer in answers)


def make_messages(draw: Draw) -> list[bytes]:
    return [
        draw.randbytes(draw.choice((0, 1, 55, 56, 63, 64, 65, 119, 120, 500)))
        for _ in range(draw.choice((0, 1, 15, 16, 17, 40)))
    ]


def run_messages(messages: list[bytes]) -> None:
    expected = b"".join(hashlib.sha1(message).digest() for message in messages)
    for module in both("sha1", sha1_py):
        assert (expected, -1) == module.hash_many(messages)
        hasher = module.Sha1()
        for message in messages:
            hasher.update(message)
        assert hashlib.sha1(b"".join(messages)).digest() == hasher.digest() and not hasher.is_attack


PACK_ERRORS: tuple[type[BaseException], ...] = (Corrupt, LimitExceeded, ObjectMissing)

TARGETS = (
    Target(
        name="delta",
        covers=("govc.kernels.delta_py",),
        make=make_delta_input,
        run=run_delta,
        allowed=PACK_ERRORS,
        weight=1,
        kernels=True,
    ),
    Target(name="deltify", covers=("govc.pack.delta",), make=make_texts, run=run_texts, weight=0.6, kernels=True),
    Target(
        name="entry-header",
        covers=("govc.pack.entry:parse_entry_header,_parse_distance",),
        make=make_header,
        run=run_header,
        allowed=PACK_ERRORS,
        weight=12,
    ),
    Target(
        name="received-pack",
        covers=(
            "govc.pack.scanner",
            "govc.pack.resolver",
            "govc.pack.thin",
            "govc.pack.passes",
            "govc.pack.inflate",
            "govc.pack.compiled",
            "govc.pack.limits",
            "govc.pack.format",
        ),
        make=make_received,
        run=run_received,
        allowed=PACK_ERRORS,
        weight=0.3,
        kernels=True,
    ),
    Target(
        name="order",
        covers=("govc.kernels.order_py",),
        make=make_order,
        run=run_order,
        weight=0.3,
        kernels=True,
    ),
    Target(name="sha1", covers=(), make=make_messages, run=run_messages, weight=0.2, kernels=True),
)
