import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.config.parser import parse_config, split_key
from govc.errors import BadConfig

GOOD = [
    b"",
    b"\n\n",
    b"\xef\xbb\xbf[core]\n\tbare = true\n",
    b"[core]\r\n\tbare = true\r\n\tx = a\r\n",
    b"[core] bare = true ; comment\n",
    b"[Core]\n\tBARE\n",
    b"[core]\n\tbare=\n",
    b"[core]\n\tbare = # comment\n",
    b'[core]\n\tx = "a # b" # c\n',
    b'[core]\n\tx = "  a  "  b  \n',
    b'[core]\n\tx = a "" b\n',
    b"[core]\n\tx = a\\\n   b\n",
    b"[core]\n\tx = a \\\n\n",
    b'[core]\n\tx = "a\\\nb"\n',
    b"[core]\n\tx = a\\",
    b'[core]\n\tx = a\\n\\t\\b\\\\\\"b\n',
    b"[core]\n\tx",
    b"[core]\n\tx = 1\n\tx = 2\n[core]\n\tx\n",
    b'[remote "Orig.In"]\n\turl = x\n',
    b'[remote \t "a\\"b\\\\c\\d"]\n\turl = x\n',
    b'[remote ""]\n\turl = x\n',
    b"[remote.Origin]\n\turl = x\n",
    b'[a.b "C.d"]\n\turl = x\n',
    b'[a.b "C.d"] url = x\n[x]y=z\n#end',
    b"[a-1]\n\tb-2 = 3\n",
    b"[1]\n\tb = 3\n",
    b"[a]\n\tb = x;y#z\n",
    b"[a]\n\tb = x\rz\n",
    b"[a]\n\tb = caf\xc3\xa9 \xff\n",
    b"# c\n; d\n[a] # e\n b = 1",
    b"[a]\n b = 1 \\\n # no comment yet\n",
    b"[a]\n b = a\x00b\n",
]
BAD = [
    b"[",
    b"[]\nx = 1\n",
    b"[a\n]x=1\n",
    b"[a b]\n",
    b'[a "b" ]\n',
    b'[a "b]\n',
    b'[a "b\\\n"]\n',
    b'["b"]\n',
    b"[a]\n1x = 2\n",
    b"[a]\nx y\n",
    b"[a]\nx # comment\n",
    b"[a]\nx_y = 1\n",
    b'[a]\nx = "unterminated\n',
    b'[a]\n\n\nx = "unterminated',
    b"[a]\nx = \\q\n",
    b"[a]\nx = a\\\r",
    b"\xef\xbb[a]\n",
    b"[a]\n\xef\xbb\xbfx = 1\n",
    b"[a]\nx\rz = 1\n",
]


def ask_git(data: bytes) -> list[tuple[str, str | None]] | None:
    """Return git's (key, value) pairs, or None when git dies."""
    done = subprocess.run(["git", "config", "-z", "-l", "-f", "-"], input=data, capture_output=True, check=False)
    if done.returncode:
        return None
    pairs = []
    for record in done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        key, newline, value = record.partition("\n")
        pairs.append((key, value if newline else None))
    return pairs


def ask_govc(data: bytes) -> list[tuple[str, str | None]] | None:
    try:
        return [(entry.key, entry.value) for entry in parse_config(data, "sample")]
    except BadConfig:
        return None


@pytest.mark.parametrize("data", GOOD)
def test_what_git_reads_is_read_the_same(data: bytes) -> None:
    expected = ask_git(data)
    assert expected is not None
    # git 2.39 turns a lone CR inside a value into a space; newer ones keep it
    actual = [(k, v.replace("\r", " ") if v else v) for k, v in ask_govc(data) or []]
    assert expected == actual


@pytest.mark.parametrize("data", BAD)
def test_what_kills_git_is_an_error(data: bytes) -> None:
    assert ask_git(data) is None
    assert ask_govc(data) is None


PIECES = st.sampled_from(
    [
        b"[a]",
        b'[a "B"]',
        b"[A.b]",
        b"\n",
        b"\r\n",
        b" ",
        b"x",
        b"Y-1",
        b"=",
        b'"',
        b"\\",
        b"\\n",
        b"#",
        b";",
        b"]",
        b"[",
        b"\\\n",
        b"v",
        b"1",
        b"\nk = v\n",
        b"\nk\n",
        b"\xc3\xa9",
        b'"q q"',
        b".",
    ]
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(PIECES, max_size=14))
def test_any_mixture_of_pieces_means_what_it_means_to_git(pieces: list[bytes]) -> None:
    data = b"[s]\n" + b"".join(pieces)
    assert ask_git(data) == ask_govc(data)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_entries_or_a_bad_config(data: bytes) -> None:
    ask_govc(data)


def test_a_tab_inside_an_unquoted_value_stays_a_tab() -> None:
    assert ask_govc(b"[a]\nb = x\ty\t\n") == [("a.b", "x\ty")]


def test_lines_are_counted_to_the_end_of_an_entry() -> None:
    data = b"[a]\r\nb = 1\r\n\r\nc = x\\\r\n y\r\n[d]\ne"
    assert [entry.line for entry in parse_config(data, "sample")] == [2, 5, 7]


@pytest.mark.parametrize(("data", "line"), [(BAD[13], 4), (b"[a]\nb = \\q\n", 2), (b"\n\n?", 3), (b"[x", 1)])
def test_an_error_names_the_source_and_the_line(data: bytes, line: int) -> None:
    with pytest.raises(BadConfig, match=f"bad config line {line} in sample") as caught:
        parse_config(data, "sample")
    assert line == caught.value.line


def test_an_entry_before_any_header_has_a_bare_name() -> None:
    assert [("x", "1")] == ask_git(b"x = 1\n") == ask_govc(b"x = 1\n")


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("a.b", ("a", None, "b")),
        ("a.B.c.d", ("a", "B.c", "d")),
        ("a..b", ("a", "", "b")),
        ("x", ("", None, "x")),
    ],
)
def test_a_key_splits_at_its_first_and_last_dot(key: str, parts: tuple[str, str | None, str]) -> None:
    assert parts == split_key(key)


def test_a_long_file_is_read_in_linear_time() -> None:
    data = b"[a]\n" + b"b = " + b'x "y" ' * 50_000 + b"\n" + b"; c\n" * 50_000
    assert len(parse_config(data, "sample")) == 1


def test_a_bad_text_that_was_met_before_is_named_by_its_own_source():
    for source in ("one/config", "other/config"):
        with pytest.raises(BadConfig, match=f"bad config line 1 in {source}"):
            parse_config(b"[core\n", source)


def test_texts_that_are_alike_are_lists_of_their_own():
    first = parse_config(b"[core]\nbare\n", "one")
    first.clear()
    assert len(parse_config(b"[core]\nbare\n", "other")) == 1
