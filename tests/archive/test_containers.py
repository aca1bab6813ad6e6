"""tar and zip at their edges: what no repository of a test is large enough for."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from govc.archive.dates import format_date
from govc.archive.entries import LINK, REGULAR, ArchiveEntry
from govc.archive.options import ArchiveRefused
from govc.archive.tar import BLOCK_BYTES, TarSettings, write_tar
from govc.archive.zip import ZipSettings, write_zip
from govc.service.archive import parse_mtime


def regular(path: bytes, content: bytes, mode: int = 0o100644) -> ArchiveEntry:
    return ArchiveEntry(
        path=path, mode=mode, kind=REGULAR, oid=bytes(20), size=len(content), chunks=lambda: iter([content])
    )


def test_tar_ends_in_two_empty_records_and_a_whole_block() -> None:
    for size in (0, 1, 512, BLOCK_BYTES - 1536, BLOCK_BYTES - 1024, BLOCK_BYTES - 512, BLOCK_BYTES):
        data = b"".join(write_tar([regular(b"f", bytes(size))], TarSettings(time=0)))
        assert len(data) % BLOCK_BYTES == 0
        assert data[-1024:] == bytes(1024)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert [member.size for member in archive] == [size]


def test_tar_sizes_and_times_that_do_not_fit() -> None:
    huge = ArchiveEntry(path=b"huge", mode=0o100644, kind=REGULAR, oid=bytes(20), size=9 << 30)
    pieces = write_tar([huge], TarSettings(time=1 << 34, comment=b"c" * 40))
    head = b"".join(piece for _, piece in zip(range(6), pieces, strict=False))
    assert b"21 mtime=17179869184\n" in head
    assert b"19 size=9663676416\n" in head


def test_zip_with_many_entries_has_a_zip64_end() -> None:
    data = b"".join(write_zip((regular(b"%d" % n, b"") for n in range(66_000)), ZipSettings(time=0, comment=b"c")))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.infolist()) == 66_000
        assert archive.comment == b"c"


def test_zip_streams_what_is_larger_than_memory_should_hold() -> None:
    # The writer takes the size on trust, so five gigabytes need not really pass.
    size = 5 << 30
    entry = ArchiveEntry(
        path=b"big",
        mode=0o100755,
        kind=REGULAR,
        oid=bytes(20),
        size=size,
        is_streamed=True,
        chunks=lambda: iter([bytes(1 << 20)]),
    )
    data = b"".join(write_zip([entry, regular("ä".encode(), b"x")], ZipSettings(time=0, level=1)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        big, small = archive.infolist()
        assert (big.file_size, small.filename) == (size, "ä")
        assert archive.read(small) == b"x"


def test_zip_refuses_a_path_that_it_cannot_hold() -> None:
    with pytest.raises(ArchiveRefused, match="path too long"):
        b"".join(write_zip([regular(b"x" * 70_000, b"")], ZipSettings(time=0)))


def test_a_long_link_goes_into_a_pax_record() -> None:
    link = ArchiveEntry(path=b"l", mode=0o120000, kind=LINK, oid=bytes(20), size=0, chunks=lambda: iter([b"t" * 300]))
    data = b"".join(write_tar([link], TarSettings(time=0)))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [member.linkname for member in archive] == ["t" * 300]


@pytest.mark.parametrize(
    ("form", "zone", "text"),
    [
        ("d", -130, "Fri Feb 13 22:01:30 2009 -0130"),
        ("D", 545, "Sat, 14 Feb 2009 05:16:30 +0545"),
        ("i", 0, "2009-02-13 23:31:30 +0000"),
        ("I", 0, "2009-02-13T23:31:30Z"),
        ("I", -130, "2009-02-13T22:01:30-01:30"),
        ("s", 100, "2009-02-14"),
        ("r", 0, "3 days ago"),
    ],
)
def test_dates(form: str, zone: int, text: str) -> None:
    assert format_date(1234567890, zone, form, now=1234567890 + 3 * 86400) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (-5, "in the future"),
        (1, "1 second ago"),
        (100, "2 minutes ago"),
        (2 * 3600, "2 hours ago"),
        (20 * 86400, "3 weeks ago"),
        (100 * 86400, "3 months ago"),
        (400 * 86400, "1 year, 1 month ago"),
        (3650 * 86400, "10 years ago"),
    ],
)
def test_relative_dates(age: int, text: str) -> None:
    assert format_date(1_000_000_000, 0, "r", now=1_000_000_000 + age) == text


@pytest.mark.rows("HB-86")
@pytest.mark.parametrize(("text", "moment"), [("@5", 5), ("1234567890", 1234567890), ("@12 +0100", 12), ("junk", 77)])
def test_mtime(text: str, moment: int) -> None:
    assert parse_mtime(text, 77) == moment
