import hashlib
import os

import pytest

from govc.wal import reader as reader_room
from govc.wal.errors import LogDamaged, LogForeign
from govc.wal.reader import LogReader, Position
from govc.wal.segment import list_segments, read_header, segment_path

from .logs import append, change, make_folder, open_log, read, start


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


@pytest.fixture
def log(folder):
    opened = start(open_log(folder))
    yield opened
    opened.close()


def durably(log, *names):
    for name in names:
        (one,) = append(log, change(name))
        log.make_durable(one)


def patch(folder, offset, data, ordinal=None):
    path = segment_path(folder.segments, ordinal or list_segments(folder.segments)[-1])
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def places(folder):
    return {one.record.sequence: (one.ordinal, one.offset, one.record.size) for one in LogReader(folder.segments)}


def test_a_torn_last_record_ends_the_log(log, folder):
    durably(log, "a", "b")
    append(log, change("c"))
    _, offset, size = places(folder)[3]
    for cut in (size - 1, 50, 1, 0):
        patch(folder, offset + cut, bytes(size - cut))
        found, reader = read(folder)
        assert found == [(1, "a"), (2, "b")]
        assert bool(reader.end.torn_bytes) == (cut > 0)


def test_a_record_that_was_durable_must_not_be_missing(log, folder):
    durably(log, "a", "b", "c")
    _, offset, size = places(folder)[2]
    patch(folder, offset + size // 2, b"\xff")
    with pytest.raises(LogDamaged, match="record 2 was durable") as raised:
        read(folder)
    assert raised.value.safe_up_to == 1
    assert raised.value.offset == offset
    assert "govc log verify" in str(raised.value)


def test_two_records_of_one_sync_may_be_torn_in_any_order(log, folder):
    durably(log, "a")
    append(log, change("b"))
    append(log, change("c"))  # neither was synced: the later one alone may have reached the disk
    _, offset, size = places(folder)[2]
    patch(folder, offset, bytes(size))
    found, reader = read(folder)
    assert found == [(1, "a")]
    assert reader.end.torn_bytes > size


def test_what_the_caller_knows_to_be_durable_counts(log, folder):
    durably(log, "a")
    append(log, change("b"))
    _, offset, size = places(folder)[2]
    patch(folder, offset, bytes(size))
    assert read(folder, durable=1)[0] == [(1, "a")]
    with pytest.raises(LogDamaged):
        read(folder, durable=2)


def test_a_log_that_grows_while_its_end_is_looked_at_is_not_damaged(log, folder, monkeypatch):
    """Who reads without the append lock misses a record that is appended and attested right after that."""
    durably(log, "a")
    look_behind = reader_room._look_behind

    def after_others(*arguments):
        durably(log, "b")
        append(log, change("c"))
        return look_behind(*arguments)

    monkeypatch.setattr(reader_room, "_look_behind", after_others)
    found, reader = read(folder)
    assert found == [(1, "a")]
    assert reader.end.torn_bytes == 0


def test_a_missing_segment_is_noticed(log, folder):
    for number in range(40):
        append(log, change(str(number), 4000))
    ordinals = list_segments(folder.segments)
    assert len(ordinals) >= 3
    os.unlink(segment_path(folder.segments, ordinals[1]))
    with pytest.raises(LogDamaged, match="missing or damaged"):
        read(folder)


def test_an_exchanged_segment_is_noticed(tmp_path):
    folders = []
    for name in "xy":
        folder = make_folder(tmp_path / name)
        log = start(open_log(folder))
        for number in range(12):
            append(log, change(f"{name}{number}", 4000))
        log.close()
        folders.append(folder)
    last = list_segments(folders[0].segments)[-1]
    os.replace(segment_path(folders[1].segments, last), segment_path(folders[0].segments, last))
    with pytest.raises(LogDamaged):
        read(folders[0])


def test_a_damaged_header_is_noticed(log, folder):
    durably(log, "a")
    patch(folder, 20, b"\xff")
    with pytest.raises(LogDamaged, match="header"):
        read(folder)


def test_bytes_of_an_earlier_life_of_the_file_are_no_records(log, folder):
    durably(log, "a", "b")
    path = segment_path(folder.segments, 1)
    with open(path, "rb") as file:
        old = file.read()
    append(log, change("larger than what is left", 17_000))
    durably(log, "c")
    ordinal = list_segments(folder.segments)[-1]
    _, offset, size = places(folder)[max(places(folder))]
    patch(folder, offset + size, old[512:2000], ordinal)
    found, reader = read(folder)
    assert found[-1][1] == "c"
    assert reader.end.torn_bytes == 0


def test_reading_goes_on_behind_a_position(log, folder):
    durably(log, "a", "b", "c")
    located = list(LogReader(folder.segments))[1]
    after = Position(
        located.ordinal,
        located.offset + located.record.size,
        located.record.sequence,
        located.record.checksum,
    )
    assert read(folder, after=after)[0] == [(3, "c")]


def test_a_segment_of_a_newer_govc_is_refused_with_a_sentence(log, folder):
    durably(log, "a")
    path = segment_path(folder.segments, 1)
    with open(path, "r+b") as file:
        head = bytearray(file.read(112))
        head[8:10] = (9).to_bytes(2, "big")
        file.seek(0)
        file.write(bytes(head) + hashlib.sha256(bytes(head)).digest())
    with pytest.raises(LogForeign, match="newer govc"):
        read_header(folder.segments, 1)
