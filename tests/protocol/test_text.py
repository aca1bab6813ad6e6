import pytest

from govc.protocol.text import QUOTED_BYTES_MAX, find_c_integer, quote_line


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"12", 12), (b"0x1f", 31), (b"017", 15), (b"0", 0), (b" +3", 3), (b"-3", -3), (b"\t8", 8)],
)
def test_numbers_are_read_as_strtol_reads_them(text, value):
    assert value == find_c_integer(text)


@pytest.mark.parametrize("text", [b"", b"x", b"3 ", b"3x", b"08", b"0x", b"1_0", b"--1", b"9" * 65, b"1\n"])
def test_junk_is_no_number(text):
    assert find_c_integer(text) is None


def test_quoted_lines_are_short_and_printable():
    assert quote_line(b"want zz") == "want zz"
    assert quote_line("é".encode()) == "é"
    assert quote_line(b"a\nb\0\xff") == "a\\nb\\x00\\xff"
    assert len(quote_line(b"x" * 9999)) == QUOTED_BYTES_MAX + 3
