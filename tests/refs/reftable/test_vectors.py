"""Tables that git wrote (vectors/README.md) hold what they should, and our writer makes the same bytes of it."""

from pathlib import Path

import pytest

from govc.protocol.oid import SHA1, SHA256
from govc.refs.reftable.format import LogEntry, LogRecord, RefRecord
from govc.refs.reftable.merged import merge_logs, merge_refs, merge_tables
from govc.refs.reftable.table import open_table
from govc.refs.reftable.writer import ReftableOptions, encode_table
from tests.refs.reftable.decoding import objects_of, oids_at

VECTORS = Path(__file__).with_name("vectors")
ALGOS = [SHA1, SHA256]
OIDS = {
    SHA1: """d60504ef25c7e22e6ebb1985458af2507dea422d 0cdda242bf10d0e8a9cddd6452c01edb677e9e6f
        a7efe2101dc39b31b30c2fd3cf01140a62344f81""",
    SHA256: """f02f337b88b4f5ab1eaed368e4ddc873010d9f1d4e42efc47b6713d6b4459e13
        62488a05e49cd012ac7db490524247a49099fa81106bedf1faf22585373740ee
        d48859f0d73697da67180594c303acdbcc7877f0612945aaa44d293bb32db275""",
}


def oids(algo):
    return [bytes.fromhex(text) for text in OIDS[algo].split()]


def open_vector(name, algo):
    return open_table(str(VECTORS), f"{name}-{algo.name}.ref", algo)


def expected_refs(algo):
    first, second, tag = oids(algo)
    refs = {b"HEAD": RefRecord(b"HEAD", 1, target=b"refs/heads/main")}
    refs |= {name: RefRecord(name, 2, first) for name in (b"refs/heads/topic/%02d" % n for n in range(1, 60))}
    refs |= {name: RefRecord(name, 2, tag, first) for name in (b"refs/tags/v%02d" % n for n in range(1, 26))}
    refs[b"refs/changes/1/1"] = RefRecord(b"refs/changes/1/1", 2, first)
    refs[b"refs/heads/main"] = RefRecord(b"refs/heads/main", 3, first)
    refs[b"refs/heads/alias"] = RefRecord(b"refs/heads/alias", 4, target=b"refs/heads/topic/07")
    assert second != first
    return [refs[name] for name in sorted(refs)]


@pytest.mark.rows("FS-46")
@pytest.mark.parametrize("algo", ALGOS)
def test_the_refs_of_gits_table(algo):
    table = open_vector("stack", algo)
    assert expected_refs(algo) == list(table.iter_refs())
    for record in expected_refs(algo):
        assert record == table.find_ref(record.name)
    for name in b"A", b"refs/heads/topic/7", b"refs/zz":
        assert table.find_ref(name) is None


@pytest.mark.rows("FS-46")
@pytest.mark.parametrize("algo", ALGOS)
def test_the_reflogs_of_gits_table(algo):
    first, second, _ = oids(algo)
    table = open_vector("stack", algo)
    created = LogEntry(algo.zero, second, b"C O", b"c@example.com", 1700000000, 0, b"\n")
    moved = LogEntry(second, first, b"C O", b"c@example.com", 1700000000, 0, b"a longer message\n")
    expected = [LogRecord(b"refs/heads/main", 3, moved), LogRecord(b"refs/heads/main", 2, created)]
    assert expected == list(table.iter_logs(b"refs/heads/main"))
    assert [LogRecord(b"HEAD", 3, moved), LogRecord(b"HEAD", 2, created)] == list(table.iter_logs(b"HEAD"))
    assert list(table.iter_logs(b"refs/heads/topic/60")) == []
    assert len(list(table.iter_logs(b"refs/heads/topic/59"))) == 1
    assert list(table.iter_logs(b"refs/tags/v01")) == []
    assert len({record.name for record in table.iter_logs()}) == 62


@pytest.mark.parametrize("algo", ALGOS)
def test_a_transaction_on_top_hides_what_is_below(algo):
    first, second, _ = oids(algo)
    tables = (open_vector("stack", algo), open_vector("transaction", algo))
    assert (1, 5) == (tables[0].header.min_update_index, tables[0].header.max_update_index)
    assert [
        RefRecord(b"refs/heads/main", 6, second),
        RefRecord(b"refs/heads/topic/01", 6),
    ] == list(tables[1].iter_refs())
    merged = merge_tables(tables, algo, None)
    assert merged.get(b"refs/heads/main").oid == second
    assert merged.get(b"refs/heads/topic/01") is None
    assert merged.get(b"refs/heads/topic/02").oid == first
    assert list(merge_logs(tables, b"refs/heads/topic/01", drop_tombstones=True)) == []
    assert [6, 3, 2] == [log.update_index for log in merge_logs(tables, b"refs/heads/main", drop_tombstones=True)]
    assert b"refs/heads/topic/01" not in {ref.name for ref in merge_refs(tables, drop_tombstones=True)}


@pytest.mark.rows("FS-46")
@pytest.mark.parametrize("name", ["stack", "transaction"])
@pytest.mark.parametrize("algo", ALGOS)
def test_our_writer_makes_gits_bytes(algo, name):
    table = open_vector(name, algo)
    options = ReftableOptions(block_size=512)
    low, high = table.header.min_update_index, table.header.max_update_index
    chunks = encode_table(
        table.iter_refs(),
        table.iter_logs(),
        min_update_index=low,
        max_update_index=high,
        algo=algo,
        options=options,
    )
    ours, gits = b"".join(chunks), (VECTORS / f"{name}-{algo.name}.ref").read_bytes()
    # All up to the first log block, which is deflated by whatever zlib is at hand.
    log = table.footer.log
    assert log
    assert gits[:log] == ours[:log]


@pytest.mark.parametrize("algo", ALGOS)
def test_gits_obj_blocks_lead_to_the_refs(algo):
    table = open_vector("stack", algo)
    first, _, tag = oids(algo)
    size = table.footer.obj_id_size
    objects = objects_of(table)
    assert {first[:size], tag[:size]} == set(objects)
    for oid in first, tag:
        blocks = objects[oid[:size]]
        assert blocks
        assert all(oid in oids_at(table, block) for block in blocks)
