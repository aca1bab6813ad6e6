"""Whole tables to and from bytes, for tests."""

from pathlib import Path

from govc.protocol.oid import HashAlgorithm
from govc.refs.reftable.block import iter_records, iter_ref_records, parse_block
from govc.refs.reftable.format import OBJ_BLOCK, LogRecord, RefRecord, decode_varint
from govc.refs.reftable.table import Table, open_table
from govc.refs.reftable.writer import ReftableOptions, encode_table


def write(
    folder: Path,
    refs: list[RefRecord],
    logs: list[LogRecord],
    algo: HashAlgorithm,
    *,
    low: int = 1,
    high: int = 1 << 40,
    name: str = "t.ref",
    **options: object,
) -> Table:
    """Write a table and open it."""
    chunks = encode_table(
        refs, logs, min_update_index=low, max_update_index=high, algo=algo, options=ReftableOptions(**options)
    )
    (folder / name).write_bytes(b"".join(chunks))
    return open_table(str(folder), name, algo)


def objects_of(table: Table) -> dict[bytes, list[int]]:
    """Decode the obj section: abbreviated oid -> positions of the ref blocks that name it."""
    data = Path(table.path).read_bytes()[: table.size]
    found: dict[bytes, list[int]] = {}
    offset = table.footer.obj
    while offset and offset < len(data) and data[offset] == OBJ_BLOCK:
        block = parse_block(data[offset:], offset, table.header)
        for key, positions in iter_records(block, _decode_obj):
            assert len(key) == table.footer.obj_id_size
            found[key] = positions
        offset = block.next_offset
    return found


def _decode_obj(data: bytes, position: int, end: int, kind: int) -> tuple[list[int], int]:
    count = kind
    if not kind:
        count, position = decode_varint(data, position, end)
    positions: list[int] = []
    for _ in range(count):
        delta, position = decode_varint(data, position, end)
        positions.append(delta + (positions[-1] if positions else 0))
    return positions, position


def oids_at(table: Table, offset: int) -> list[bytes]:
    """Return the oids and peeled oids that the ref block at a position names."""
    data = Path(table.path).read_bytes()[: table.size]
    block = parse_block(data[offset:], offset, table.header)
    return [oid for ref in iter_ref_records(block, table.header) for oid in (ref.oid, ref.peeled) if oid is not None]
