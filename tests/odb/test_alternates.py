import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.odb.alternates import (
    find_object_directories,
    parse_alternates,
    parse_alternates_variable,
    parse_quoted,
    quote_path,
)


@pytest.mark.rows("FS-29")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"/a\n", [b"/a"]),
        (b"/a\n/b", [b"/a", b"/b"]),
        (b"\n\n/a\n\n", [b"/a"]),
        (b"# comment\n/a\n", [b"/a"]),
        (b" /a \n", [b" /a "]),
        (b'"/a\\"b\\\\c\\td"\n/e\n', [b'/a"b\\c\td', b"/e"]),
        (b'"/a\\nb"\n', [b"/a\nb"]),
        (b'"\\303\\244"\n', b"\xc3\xa4".split(b"\n")),
        (b'"/unclosed\n/b\n', [b'"/unclosed', b"/b"]),
        (b'"/bad\\q"\n', [b'"/bad\\q"']),
        (b"/with:colon\n", [b"/with:colon"]),
    ],
)
def test_alternates_file_is_read_as_git_reads_it(data, expected):
    assert expected == parse_alternates(data, b"\n")


def test_variable_separates_by_colon_and_starts_relative_paths_at_the_folder():
    assert ["/a", "/x/b", "/c:d"] == parse_alternates_variable('/a:b::"/c:d"', "/x")


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=1).filter(lambda path: b"\0" not in path)))
def test_quoted_paths_come_back_from_the_variable(paths):
    assert paths == parse_alternates(b":".join(quote_path(path) for path in paths), b":")


@settings(max_examples=200)
@given(st.binary())
def test_any_quoted_junk_is_a_string_or_nothing(data):
    quoted = parse_quoted(b'"' + data, 0)
    assert quoted is None or 0 < quoted[1] <= len(data) + 1


@pytest.fixture
def make_objects(tmp_path):
    def make(name, *alternates):
        info = tmp_path / name / "info"
        info.mkdir(parents=True)
        if alternates:
            (info / "alternates").write_text("".join(f"{path}\n" for path in alternates))
        return str(tmp_path / name)

    return make


def test_folders_come_depth_first_and_each_once(make_objects, tmp_path):
    paths = [make_objects("a", "../b", "../d"), make_objects("b", "../c"), make_objects("c"), make_objects("d", "../c")]
    found = find_object_directories(paths[0])
    assert tuple(paths) == found.directories
    assert () == found.messages
    assert {f"{path}/info/alternates" for path in paths} <= set(found.watched)


def test_cycles_and_the_own_folder_are_passed_over_in_silence(make_objects):
    first, second = make_objects("a", "../a", "../b"), make_objects("b", "../a", "../b")
    found = find_object_directories(first)
    assert ((first, second), ()) == (found.directories, found.messages)


def test_missing_folder_is_skipped_with_a_message_and_watched(make_objects, tmp_path):
    first, second = make_objects("a", "../gone", "../b"), make_objects("b")
    found = find_object_directories(first)
    assert (first, second) == found.directories
    assert 1 == len(found.messages)
    assert str(tmp_path / "gone") in found.watched


def test_five_levels_are_followed_and_the_sixth_is_not(make_objects):
    paths = [make_objects(str(i), f"../{i + 1}") for i in range(8)]
    found = find_object_directories(paths[0])
    assert tuple(paths[:7]) == found.directories
    assert "too deep" in found.messages[0]


def test_nesting_ends_where_git_ends_it(make_repository, git, tmp_path):
    oids = []
    for i in range(9):
        git(tmp_path, "init", "-q", "--bare", f"{i}.git")
        oids.append(git(tmp_path / f"{i}.git", "hash-object", "-w", "--stdin", stdin=b"%d" % i).decode().strip())
        (tmp_path / f"{i}.git/objects/info/alternates").write_text(f"../../{i + 1}.git/objects\n")
    known = git(tmp_path / "0.git", "cat-file", "--batch-check", stdin="\n".join(oids).encode()).split(b"\n")
    expected = [f"{tmp_path}/{i}.git/objects" for i in range(9) if b"missing" not in known[i]]
    assert expected == list(find_object_directories(f"{tmp_path}/0.git/objects").directories)


def test_extra_folders_come_before_those_of_the_file(make_objects):
    first, second, third = make_objects("a", "../b"), make_objects("b"), make_objects("c")
    assert (first, third, second) == find_object_directories(first, [third]).directories


def test_relative_path_through_a_symbolic_link_starts_where_the_link_leads(make_objects, tmp_path):
    os.mkdir(tmp_path / "deep")
    base = make_objects("deep/base", "../other")
    other = make_objects("deep/other")
    os.symlink(base, tmp_path / "link")
    assert (str(tmp_path / "link"), other) == find_object_directories(str(tmp_path / "link")).directories
