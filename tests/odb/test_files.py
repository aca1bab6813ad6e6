import os
import stat

import pytest

import govc.odb.files as files
from govc.odb.files import create_temporary, place_file, same_content


def test_temporary_files_have_names_of_their_own_and_the_umask_s_mode(tmp_path):
    before = os.umask(0o027)
    try:
        made = [create_temporary(str(tmp_path), "tmp_obj_", 0o444) for _ in range(5)]
    finally:
        os.umask(before)
    for fd, path in made:
        os.write(fd, b"writable through the descriptor")
        os.close(fd)
        assert 0o440 == stat.S_IMODE(os.stat(path).st_mode)
    assert 5 == len({path for _, path in made})


def test_no_free_name_is_an_error_and_not_a_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "random_suffix", lambda: "aaaaaa")
    os.close(create_temporary(str(tmp_path), "tmp_", 0o600)[0])
    with pytest.raises(FileExistsError, match="no free name"):
        create_temporary(str(tmp_path), "tmp_", 0o600)


@pytest.mark.parametrize("links_work", [True, False])
def test_placing_never_replaces(links_work, tmp_path, monkeypatch):
    if not links_work:

        def refuse(*_, **__):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(files.os, "link", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("first")
    assert place_file(str(source), str(target))
    source.write_text("second")
    assert not place_file(str(source), str(target))
    assert "first" == target.read_text()
    assert not source.exists()


@pytest.mark.parametrize(
    ("left", "right", "expected"), [(b"", b"", True), (b"a", b"a", True), (b"a", b"ab", False), (b"a", b"b", False)]
)
def test_contents_are_compared_to_the_end(left, right, expected, tmp_path):
    padding = bytes(3 << 20)
    (tmp_path / "left").write_bytes(padding + left)
    (tmp_path / "right").write_bytes(padding + right)
    assert expected == same_content(str(tmp_path / "left"), str(tmp_path / "right"))
