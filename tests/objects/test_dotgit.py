import pytest

from govc.objects.dotgit import (
    DotFile,
    count_backslashed_gitmodules,
    is_dot_file,
    is_dotgit,
    may_hold_lookalikes,
)


@pytest.mark.rows("FK-56", "SEC-29")
@pytest.mark.parametrize(
    "name",
    [b".git", b".GiT", b".git. .", b".git::$INDEX_ALLOCATION", b"git~1", b"a\\.git", b".g\xe2\x80\x8cit", b".git\xff"],
)
def test_spellings_of_dotgit(name):
    assert is_dotgit(name)
    assert may_hold_lookalikes(b"a\0" + name + b"\0b")


@pytest.mark.parametrize("name", [b"git", b".gitx", b"git~2", b".git-a", b".gi", b"", b"\xff.git", b".github"])
def test_names_that_only_resemble_dotgit(name):
    assert not is_dotgit(name)


@pytest.mark.parametrize("file", list(DotFile))
def test_every_spelling_of_every_file_is_worth_a_closer_look(file):
    name, short = file.value
    spellings = [b"." + name, b"." + name + b" .", b"." + name.upper() + b":x", name[:6] + b"~4", short + b"~9"]
    spellings += [short[:size] + b"~1" + b"0" * (6 - size) for size in range(7)]
    spellings.append(b"\xef\xbb\xbf." + name)
    for spelling in spellings:
        assert is_dot_file(spelling, file), spelling
        assert may_hold_lookalikes(spelling), spelling
    assert not is_dot_file(name, file)


def test_names_of_ordinary_files_need_no_closer_look():
    assert not may_hold_lookalikes(b"Makefile\0git.c\0gitmodules\0mailmap.c\0a.b")


@pytest.mark.parametrize(
    "name", [b"\\" * 300_000, b"\\.git" * 100_000, b"." * 300_000, b"\xe2\x80\x8c" * 100_000], ids=range(4)
)
def test_hostile_names_take_linear_time(name):
    is_dotgit(name)
    assert 0 == count_backslashed_gitmodules(name)
    assert not any(is_dot_file(name, file) for file in DotFile)
