"""What is written is what is read, whatever the shape; and no bytes on disk can do worse than be refused."""

import random
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govc.errors import CorruptRefs
from govc.protocol.oid import SHA1, SHA256
from govc.refs.reftable.format import (
    Footer,
    Header,
    LogEntry,
    LogRecord,
    RefRecord,
    encode_footer,
    encode_header,
    encode_log_key,
    encode_varint,
)
from govc.refs.reftable.table import open_table
from govc.refs.reftable.writer import EntryTooLarge, ReftableOptions, encode_table
from tests.refs.reftable.decoding import objects_of, oids_at, write

VECTORS = Path(__file__).with_name("vectors")

words = st.text("abcxyz0123", min_size=1, max_size=12).map(str.encode)
names = st.lists(words, min_size=1, max_size=4).map(lambda parts: b"refs/" + b"/".join(parts))


def oid_of(number, algo):
    return algo.new(str(number).encode()).digest()


def make_refs(draw_names, algo, rng):
    """One record of any kind for each name."""
    refs = []
    for name in sorted(set(draw_names)):
        index = rng.randrange(1, 1 << 20)
        kind = rng.randrange(8)
        if kind == 0:
            refs.append(RefRecord(name, index))
        elif kind == 1:
            refs.append(RefRecord(name, index, target=b"refs/heads/" + bytes(rng.choices(b"abc", k=rng.randrange(40)))))
        elif kind < 4:
            refs.append(RefRecord(name, index, oid_of(rng.randrange(9), algo), oid_of(rng.randrange(9), algo)))
        else:
            refs.append(RefRecord(name, index, oid_of(rng.randrange(50), algo)))
    return refs


def make_logs(draw_names, algo, rng):
    logs = []
    for name in sorted(set(draw_names)):
        for index in sorted(rng.sample(range(1, 99), rng.randrange(5)), reverse=True):
            entry = LogEntry(
                oid_of(1, algo), oid_of(index, algo), b"N", b"e@x", index, -60, bytes(rng.choices(b"ab", k=index))
            )
            logs.append(LogRecord(name, index, None if rng.randrange(4) == 0 else entry))
    return logs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    st.lists(names, max_size=120),
    st.lists(names, max_size=25),
    st.sampled_from([SHA1, SHA256]),
    st.sampled_from([256, 300, 512, 4096]),
    st.sampled_from([1, 2, 16]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_property_a_table_gives_back_what_was_written(
    tmp_path, ref_names, log_names, algo, block_size, interval, index_objects, rng
):
    refs, logs = make_refs(ref_names, algo, rng), make_logs(log_names, algo, rng)
    options = {"block_size": block_size, "restart_interval": interval, "index_objects": index_objects}
    if not refs and not logs:
        chunks = encode_table([], [], min_update_index=1, max_update_index=1, algo=algo, options=ReftableOptions())
        assert list(chunks) == []
        return
    table = write(tmp_path, refs, logs, algo, **options)
    assert refs == list(table.iter_refs())
    assert logs == list(table.iter_logs())
    for record in refs:
        assert record == table.find_ref(record.name)
    for name in set(log_names) | set(ref_names):
        assert [log for log in logs if log.name == name] == list(table.iter_logs(name))
        if name not in {ref.name for ref in refs}:
            assert table.find_ref(name) is None
    objects = objects_of(table)
    assert bool(objects) == (bool(table.footer.ref_index) and index_objects and any(ref.oid for ref in refs))
    for prefix, blocks in objects.items():
        for block in blocks:
            assert any(oid.startswith(prefix) for oid in oids_at(table, block))


def test_many_refs_have_an_index_of_several_levels(tmp_path):
    refs = [RefRecord(b"refs/heads/n%05d" % number, 1, oid_of(number, SHA1)) for number in range(20_000)]
    table = write(tmp_path, refs, [], SHA1, block_size=512)
    assert refs == list(table.iter_refs())
    for record in random.Random(1).sample(refs, 200):
        assert record == table.find_ref(record.name)
    assert table.find_ref(b"refs/heads/n99999") is None
    levels = {open_index(table, offset) for offset in range(0, table.size, 512)}
    assert b"i" in levels
    assert len(objects_of(table)) == 20_000


def open_index(table, offset):
    return Path(table.path).read_bytes()[offset : offset + 1]


def test_a_record_that_fits_no_block_is_refused():
    refs = [RefRecord(b"refs/heads/" + b"n" * 300, 1, oid_of(1, SHA1))]
    with pytest.raises(EntryTooLarge):
        list(
            encode_table(
                refs,
                [],
                min_update_index=1,
                max_update_index=1,
                algo=SHA1,
                options=ReftableOptions(block_size=256),
            )
        )


# Damage


def read_everything(folder, name, algo):
    table = open_table(folder, name, algo)
    found = [list(table.iter_refs()), list(table.iter_logs())]
    for refname in b"refs/heads/main", b"refs/tags/v07", b"HEAD", b"refs/heads/topic/33":
        found += [table.find_ref(refname), list(table.iter_logs(refname))]
    assert table.refs.name_count <= len(found[0])
    return found


@pytest.mark.parametrize("name", ["stack-sha1.ref", "transaction-sha1.ref"])
def test_any_flipped_byte_is_refused_or_harmless(tmp_path, name):
    data = (VECTORS / name).read_bytes()
    rng = random.Random(name)
    refused = 0
    for position in rng.sample(range(len(data)), min(300, len(data))):
        broken = bytearray(data)
        broken[position] ^= 1 << rng.randrange(8)
        (tmp_path / "x.ref").write_bytes(broken)
        try:
            read_everything(str(tmp_path), "x.ref", SHA1)
        except CorruptRefs as error:
            refused += 1
            assert str(tmp_path) not in str(error)
    assert refused > 20


@pytest.mark.parametrize("name", ["stack-sha1.ref", "transaction-sha1.ref"])
def test_a_table_that_is_cut_short_is_refused(tmp_path, name):
    data = (VECTORS / name).read_bytes()
    for size in (*range(120), *range(120, len(data), 13), len(data) - 1):
        (tmp_path / "x.ref").write_bytes(data[:size])
        with pytest.raises(CorruptRefs):
            open_table(str(tmp_path), "x.ref", SHA1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([0, 64, 4096]), st.integers(0, 60), st.integers(0, 60))
def test_property_arbitrary_blocks_are_refused_or_read(tmp_path, body, block_size, index_at, log_at):
    """Random bytes between a right header and a right footer."""
    header = Header(1, block_size, 1, 9, SHA1)
    data = encode_header(header) + body
    footer = Footer(
        ref_index=index_at if index_at < len(data) else 0,
        log=log_at if log_at < len(data) else 0,
        log_index=index_at if index_at < len(data) else 0,
    )
    (tmp_path / "x.ref").write_bytes(data + encode_footer(header, footer))
    try:
        read_everything(str(tmp_path), "x.ref", SHA1)
    except CorruptRefs:
        return


def craft(folder, body, **positions):
    header = Header(1, 0, 1, 9, SHA1)
    data = encode_header(header) + body
    (folder / "x.ref").write_bytes(data + encode_footer(header, Footer(**positions)))
    return open_table(str(folder), "x.ref", SHA1)


def block(kind, records, start=0):
    size = start + 4 + len(records) + 3 + 2
    return kind + size.to_bytes(3, "big") + records + (start + 4).to_bytes(3, "big") + b"\0\1"


def test_an_overlong_name_is_refused(tmp_path):
    long = b"\0" + encode_varint(5000 << 3) + b"n" * 5000 + b"\0"
    with pytest.raises(CorruptRefs, match="5000"):
        list(craft(tmp_path, block(b"r", long, start=24)).iter_refs())


def test_the_budget_of_names_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("govc.refs.reftable.table.DECODED_BYTES_BASE", 100)
    monkeypatch.setattr("govc.refs.reftable.table.DECODED_RATIO_MAX", 1)
    refs = [RefRecord(b"refs/heads/" + b"n" * 200 + b"%04d" % number, 1) for number in range(100)]
    with pytest.raises(CorruptRefs, match="unfold"):
        list(write(tmp_path, refs, [], SHA1).iter_refs())


def test_refs_out_of_order_or_twice_are_refused(tmp_path):
    one = b"\0" + encode_varint(6 << 3) + b"refs/b" + b"\0"
    for other in b"refs/a", b"refs/b":
        two = b"\0" + encode_varint(6 << 3) + other + b"\0"
        with pytest.raises(CorruptRefs, match="order"):
            list(craft(tmp_path, block(b"r", one + two, start=24)).iter_refs())


def test_a_log_block_that_inflates_to_more_is_refused(tmp_path):
    body = zlib.compress(bytes(50_000_000))
    for size in 1000, (1 << 24) - 1:
        table = craft(tmp_path, b"g" + size.to_bytes(3, "big") + body)
        with pytest.raises(CorruptRefs):
            list(table.iter_logs())


def test_an_index_that_leads_in_circles_or_forward_is_refused(tmp_path):
    key = encode_log_key(b"refs/heads/z", 1)
    ref = b"\0" + encode_varint(6 << 3) + b"refs/b" + b"\0"
    start = 24 + 4 + len(ref) + 5  # where the index is
    for target in (start, start + 1, 1 << 50):
        record = b"\0" + encode_varint(len(key) << 3) + key + encode_varint(target)
        index = block(b"i", record)
        table = craft(tmp_path, block(b"r", ref, start=24) + index, log=start, log_index=start)
        with pytest.raises(CorruptRefs, match="index points"):
            list(table.iter_logs(b"refs/heads/a"))


def test_a_table_of_the_other_hash_is_refused():
    with pytest.raises(CorruptRefs, match="sha256"):
        open_table(str(VECTORS), "stack-sha256.ref", SHA1)


def test_pipes_and_folders_are_no_tables(tmp_path):
    (tmp_path / "d.ref").mkdir()
    with pytest.raises((CorruptRefs, OSError)):
        open_table(str(tmp_path), "d.ref", SHA1)


def test_badly_named_and_null_refs_are_left_out_with_a_warning_or_broken(tmp_path):
    refs = [
        RefRecord(b"HEAD", 1, target=b"refs/heads/main"),
        RefRecord(b"refs/heads/a..b", 1, oid_of(1, SHA1)),
        RefRecord(b"refs/heads/good", 1, oid_of(1, SHA1)),
        RefRecord(b"refs/heads/lf\n", 1, oid_of(1, SHA1)),
        RefRecord(b"refs/heads/null", 1, bytes(20)),
        RefRecord(b"refs/heads/sym", 1, target=b"../config"),
        RefRecord(b"refs/tags/t", 1, oid_of(2, SHA1), oid_of(1, SHA1)),
    ]
    found = write(tmp_path, refs, [], SHA1).refs
    assert [(b"refs/heads/good", oid_of(1, SHA1), b""), (b"refs/tags/t", oid_of(2, SHA1), oid_of(1, SHA1))] == list(
        found.columns.iter_entries()
    )
    assert {b"HEAD", b"refs/heads/null", b"refs/heads/sym"} == set(found.odd)
    assert found.odd[b"refs/heads/null"].problem and found.odd[b"refs/heads/sym"].problem
    assert len(found.warnings) == 2
