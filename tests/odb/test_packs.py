import random
import shutil
from array import array

import pytest

import govc.odb.packs as packs
from govc.errors import CorruptPack
from govc.odb.packs import PackFile
from govc.protocol.oid import SHA1, SHA256
from tests.descriptors import count_open
from tests.kernels.both import compiled, needs_compiled


@pytest.fixture
def pack_path(make_repository, git):
    """A pack that has a .rev."""
    path = make_repository(commits=40)
    git(path, "-c", "pack.writeReverseIndex=true", "repack", "-adfq")
    [pack] = (path / "objects/pack").glob("*.pack")
    assert pack.with_suffix(".rev").exists()
    return pack


def layout(pack: PackFile) -> list[tuple[int, int]]:
    offsets = sorted(pack.index.offsets())
    return [(pack.position_of_offset(offset), pack.end_of(offset)) for offset in offsets]


@pytest.mark.rows("FS-13")
@pytest.mark.parametrize("damage", ["none", "absent", "cut", "longer", "header", "checksum", "repeated", "outside"])
def test_order_of_entries_is_the_same_whatever_the_reverse_index_says(damage, pack_path):
    expected = layout(PackFile.open(str(pack_path), SHA1))
    rev = pack_path.with_suffix(".rev")
    rev.chmod(0o644)
    data = bytearray(rev.read_bytes())
    if damage == "absent":
        rev.unlink()
    elif damage == "cut":
        del data[-1:]
    elif damage == "longer":
        data += b"x"
    elif damage == "header":
        data[4] ^= 1
    elif damage == "checksum":
        data[-30] ^= 1
    elif damage == "repeated":
        data[12:16] = data[16:20]
    elif damage == "outside":
        data[12:16] = b"\xff" * 4
    if damage != "absent":
        rev.write_bytes(data)
    assert expected == layout(PackFile.open(str(pack_path), SHA1))


@needs_compiled
def test_the_reverse_index_is_read_when_the_order_is_needed(pack_path):
    asked = []
    source = PackFile.open(str(pack_path), SHA1).kernel_source()
    fd, index, find_reverse, size, first, owner = source

    def spy():
        asked.append(find_reverse())
        return asked[-1]

    table = compiled("packread").PackTable([(fd, index, spy, size, first, owner)], 20)
    numbers = array("q", range(owner.index.count))
    oids = [table.oid_of(number) for number in numbers]
    assert [table.find(oid) for oid in oids] == list(numbers)
    assert all(compiled("packread").PackReader(table, 1 << 16, 1 << 20).read(number)[1] for number in numbers)
    assert asked == []
    for _ in range(2):
        compiled("packrows").PackRows(table, numbers.tobytes())
        assert len(asked) == 1 and bytes(asked[0]) == pack_path.with_suffix(".rev").read_bytes()


def test_sorting_in_shares_is_sorting(monkeypatch):
    monkeypatch.setattr(packs, "_SORT_COUNT", 7)
    draw = random.Random(1)
    for count in (0, 1, 6, 7, 8, 100, 1000):
        offsets = array("Q", draw.sample(range(12, 5000), count))
        expected = sorted(range(count), key=offsets.__getitem__)
        assert expected == packs._sorted_positions(offsets, 4000).tolist()


def test_read_at_ends_with_the_pack(pack_path):
    pack = PackFile.open(str(pack_path), SHA1)
    data = pack_path.read_bytes()
    assert data == pack.read_at(0, len(data) + 100)
    assert data[-5:] == pack.read_at(len(data) - 5, 100)
    assert b"" == pack.read_at(len(data), 10) == pack.read_at(len(data) + 7, 10)


def test_long_reads_go_on_where_the_system_stops(pack_path, monkeypatch):
    monkeypatch.setattr(packs, "_READ_BYTES_MAX", 100)
    data = pack_path.read_bytes()
    assert data == PackFile.open(str(pack_path), SHA1).read_at(0, len(data))


@pytest.mark.parametrize("map_bytes_min", [0, 1 << 30], ids=["mapped", "read"])
def test_index_is_the_same_mapped_and_read(map_bytes_min, pack_path, monkeypatch):
    expected = list(PackFile.open(str(pack_path), SHA1).index.iter_oids())
    monkeypatch.setattr(packs, "_MAP_BYTES_MIN", map_bytes_min)
    pack = PackFile.open(str(pack_path), SHA1)
    assert expected == list(pack.index.iter_oids())
    assert [position for position in range(pack.count)] == [pack.index.find(oid) for oid in expected]
    assert (map_bytes_min == 0) == (pack.mapped_bytes > 0)


@pytest.mark.rows("FS-18")
def test_everything_is_readable_after_the_files_are_gone(pack_path):
    expected = layout(PackFile.open(str(pack_path), SHA1))
    pack = PackFile.open(str(pack_path), SHA1)
    data = pack_path.read_bytes()
    assert pack.is_on_disk()
    shutil.rmtree(pack_path.parent)
    assert not pack.is_on_disk()
    assert data == pack.read_at(0, len(data))
    assert expected == layout(pack)


def test_failed_opening_closes_what_it_opened(pack_path, tmp_path):
    pack_path.chmod(0o644)
    data = bytearray(pack_path.read_bytes())
    data[-1] ^= 1
    pack_path.write_bytes(data)
    with pytest.raises(CorruptPack, match="checksum"):
        PackFile.open(str(pack_path), SHA1)
    with pytest.raises(CorruptPack):
        PackFile.open(str(pack_path), SHA256)
    pack_path.with_suffix(".idx").unlink()
    with pytest.raises(FileNotFoundError):
        PackFile.open(str(pack_path), SHA1)
    assert count_open(tmp_path) == 0


@pytest.mark.parametrize(("at", "text"), [(0, "signature"), (7, "version"), (11, "objects and its index")])
def test_header_that_is_not_the_index_s_pack_is_refused(at, text, pack_path):
    pack_path.chmod(0o644)
    data = bytearray(pack_path.read_bytes())
    data[at] ^= 0x40
    pack_path.write_bytes(data)
    with pytest.raises(CorruptPack, match=text):
        PackFile.open(str(pack_path), SHA1)


def test_pack_of_no_objects_opens(git, tmp_path):
    git(tmp_path, "init", "-q", "--bare", "r.git")
    data = b"PACK\0\0\0\2\0\0\0\0"
    git(tmp_path / "r.git", "index-pack", "--stdin", stdin=data + SHA1.new(data).digest())
    [path] = (tmp_path / "r.git/objects/pack").glob("*.pack")
    pack = PackFile.open(str(path), SHA1)
    assert (0, []) == (pack.count, layout(pack))
