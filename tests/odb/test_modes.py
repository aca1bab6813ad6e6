import os
import stat

import pytest

from govc.odb.modes import FileModes


@pytest.mark.parametrize("setting", ["umask", "group", "all", "0640", "0660"])
def test_modes_are_those_that_git_gives(setting, git, tmp_path):
    git(tmp_path, "-c", f"core.sharedRepository={setting}", "init", "-q", "--bare", f"--shared={setting}", "r.git")
    oid = git(tmp_path / "r.git", "hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    theirs = tmp_path / "r.git/objects" / oid[:2]
    shared = {"umask": 0, "group": 0o660, "all": 0o664}.get(setting)
    modes = FileModes(-int(setting, 8) if shared is None else shared)
    ours = tmp_path / "ours"
    modes.make_directory(str(ours))
    os.close(os.open(ours / "x", os.O_CREAT | os.O_WRONLY, 0o444))
    modes.adjust(str(ours / "x"))
    assert oct(theirs.stat().st_mode) == oct(ours.stat().st_mode)
    assert oct((theirs / oid[2:]).stat().st_mode) == oct((ours / "x").stat().st_mode)


def test_existing_folder_keeps_its_mode(tmp_path):
    (tmp_path / "d").mkdir(mode=0o700)
    FileModes(0o660).make_directory(str(tmp_path / "d"))
    assert 0o700 == stat.S_IMODE((tmp_path / "d").stat().st_mode)
