import logging
import os

import pytest

from govc.auth.principal import BadAuthFile
from govc.auth.watched import WatchedValue
from tests.waiting import wait_until

parsed = []


def parse(content, path):
    parsed.append(content)
    if content.startswith(b"bad"):
        raise BadAuthFile(path, 7, "is bad")
    return content.decode()


@pytest.fixture
def seen():
    return []


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    return path


@pytest.fixture
def value(path, seen):
    return WatchedValue("kind", str(path), parse, on_read=lambda *what: seen.append(what))


def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    os.rename(new, path)


def test_a_change_counts_at_the_next_use(value, path, seen):
    assert value.get() == "one"
    path.write_text("two")
    assert value.get() == "two"
    replace(path, "three")
    assert value.get() == "three"
    assert seen == [("kind", True)] * 3


def test_two_changes_of_equal_size_within_the_clocks_grain_count(value, path):
    for number in range(50):
        path.write_text(f"{number:05}")
        assert value.get() == f"{number:05}"


def test_a_broken_version_keeps_the_old_one_and_is_said_once(value, path, seen, caplog):
    path.write_text("bad 1")
    with caplog.at_level(logging.INFO, "govc"):
        for _ in range(3):
            assert value.get() == "one"
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("ERROR", f"REFUSED, the version read before still counts: {path} line 7: is bad")
        ]
        path.write_text("two")
        assert value.get() == "two"
    assert seen == [("kind", True), ("kind", False), ("kind", True)]


def test_a_settled_broken_version_is_not_parsed_again_and_again(value, path):
    path.write_text("bad")
    wait_until(lambda: value.get() and value.watch.is_settled)
    parsed.clear()
    for _ in range(5):
        assert value.get() == "one"
    assert parsed == []


def test_the_old_content_after_a_broken_one_is_taken_as_new(value, path, seen):
    path.write_text("bad")
    assert value.get() == "one"
    path.write_text("one")
    assert value.get() == "one"
    assert seen[-1] == ("kind", True)


def test_a_file_that_goes_away_keeps_what_it_said(value, path, seen, caplog):
    path.unlink()
    assert value.get() == "one"
    assert seen[-1] == ("kind", False) and "no such file" in caplog.text
    path.mkdir()
    assert value.get() == "one"
    path.rmdir()
    path.write_text("two")
    assert value.get() == "two"


def test_a_file_that_may_be_absent(tmp_path):
    path = tmp_path / "tokens"
    value = WatchedValue("kind", str(path), parse, absent="nothing")
    assert value.get() == "nothing"
    path.write_text("one")
    assert value.get() == "one"
    path.unlink()
    assert value.get() == "nothing"


@pytest.mark.parametrize("kind", ["absent", "folder", "bad"])
def test_a_file_that_is_wrong_from_the_start_is_an_error(tmp_path, kind):
    path = tmp_path / "f"
    if kind == "folder":
        path.mkdir()
    elif kind == "bad":
        path.write_text("bad")
    with pytest.raises(BadAuthFile) as caught:
        WatchedValue("kind", str(path), parse)
    assert caught.value.line == (7 if kind == "bad" else 0)
