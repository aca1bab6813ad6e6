"""Stamps of many files in one call: every kind of change shows, in the kernel and in its twin."""

import os
from pathlib import Path
from typing import Any

import pytest

from govc.watch import signature_of
from tests.kernels.both import variants


@pytest.fixture(params=variants("stamps"))
def kernel(request: Any) -> Any:
    return request.param


@pytest.fixture
def stamps(kernel: Any, tmp_path: Path) -> Any:
    (tmp_path / "there").write_text("text")
    (tmp_path / "folder").mkdir()
    present = [(str(tmp_path / name), signature_of(str(tmp_path / name))) for name in ("there", "folder")]
    made = kernel.Stamps(present, [str(tmp_path / "absent"), str(tmp_path / "there" / "below")])
    assert len(made) == 4 and made.are_current()
    return made


@pytest.mark.parametrize(
    "change", ["size", "mtime", "replaced", "gone", "appeared", "in the folder", "file for folder"]
)
def test_a_change_shows(stamps: Any, tmp_path: Path, change: str) -> None:
    there, folder = tmp_path / "there", tmp_path / "folder"
    if change == "size":
        there.write_text("longer text")
    elif change == "mtime":
        os.utime(there, ns=(1, 1))
    elif change == "replaced":
        (tmp_path / "new").write_text("text")
        os.utime(tmp_path / "new", ns=(there.stat().st_atime_ns, there.stat().st_mtime_ns))
        (tmp_path / "new").replace(there)
    elif change == "gone":
        there.unlink()
    elif change == "appeared":
        (tmp_path / "absent").touch()
    elif change == "in the folder":
        (folder / "x").touch()
    else:
        there.unlink()
        there.mkdir()
        (there / "below").touch()
    assert not stamps.are_current()


def test_a_path_with_a_nul_is_refused(kernel: Any) -> None:
    with pytest.raises(ValueError, match="NUL"):
        kernel.Stamps([], ["a\0b"])
    assert kernel.Stamps([], []).are_current()


def test_what_leads_nowhere_is_absent(kernel: Any, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("not-there")
    paths = [str(tmp_path / "loop"), str(tmp_path / "nowhere"), str(tmp_path / ("x" * 300))]
    assert kernel.Stamps([], paths).are_current()
    (tmp_path / "not-there").touch()
    assert not kernel.Stamps([], paths).are_current()


def test_all_that_changed_are_named_and_nothing_else(kernel: Any, tmp_path: Path) -> None:
    paths = [tmp_path / f"file-{number}" for number in range(20)]
    for path in paths:
        path.write_text("text")
    stamps = kernel.Stamps([(str(path), signature_of(str(path))) for path in paths], [str(tmp_path / "absent")])
    assert stamps.changed() == frozenset()
    paths[3].unlink()
    paths[11].write_text("longer text")
    (tmp_path / "new").write_text("text")
    (tmp_path / "new").replace(paths[19])
    (tmp_path / "absent").touch()
    assert stamps.changed() == {str(paths[number]) for number in (3, 11, 19)}
    assert kernel.Stamps([], []).changed() == frozenset()
