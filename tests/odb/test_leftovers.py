"""What killed processes left: found by age and by name, and nothing else touched."""

import os
import time
from pathlib import Path

import pytest

from govc.odb.leftovers import find_leftovers, remove_leftovers
from govc.odb.modes import FileModes
from govc.odb.quarantine import KEEP_PREFIX, STALE_SECONDS, MigrationFailed, Quarantine

NOW = time.time() + 2 * STALE_SECONDS


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    (tmp_path / "pack").mkdir()
    return tmp_path


def put(objects: Path, name: str, text: str = "") -> str:
    path = objects / "pack" / name
    path.write_text(text)
    return str(path)


def test_our_old_keeps_and_temporary_files_go(objects):
    expected = [put(objects, "pack-1.keep", f"{KEEP_PREFIX}123\n"), put(objects, "tmp_pack_abc", "PACK")]
    assert expected == find_leftovers(str(objects), now_seconds=NOW)
    assert expected == remove_leftovers(str(objects), now_seconds=NOW)
    assert os.listdir(objects / "pack") == []


def test_young_files_stay(objects):
    put(objects, "pack-1.keep", f"{KEEP_PREFIX}123\n")
    put(objects, "tmp_idx_abc")
    assert find_leftovers(str(objects)) == []


def test_other_keeps_and_packs_stay_however_old(objects):
    put(objects, "pack-1.keep", "important\n")
    put(objects, "pack-2.keep", "receive-pack 7 on host\n")
    put(objects, "pack-1.pack", "PACK")
    assert remove_leftovers(str(objects), now_seconds=NOW) == []


def test_a_quarantine_goes_once_nobody_holds_it(objects):
    quarantine = Quarantine(str(objects))
    assert remove_leftovers(str(objects), now_seconds=NOW) == []
    os.close(quarantine._fd)
    quarantine._fd = -1
    assert remove_leftovers(str(objects), now_seconds=NOW) == [quarantine.path]


def test_a_folder_without_packs_has_no_leftovers(tmp_path):
    assert find_leftovers(str(tmp_path), now_seconds=NOW) == []


class PruningModes(FileModes):
    """Stands for a `git prune --expire=now` that removes an index just before its pack is moved."""

    index: Path

    def make_directory(self, path: str) -> None:
        super().make_directory(path)
        PruningModes.index.unlink(missing_ok=True)


def test_a_pack_whose_index_is_pruned_under_our_hands_is_not_taken_for_migrated(objects):
    with Quarantine(str(objects), PruningModes()) as quarantine:
        PruningModes.index = Path(quarantine.pack_dir, "pack-1.idx")
        for suffix in (".pack", ".rev", ".idx"):
            Path(quarantine.pack_dir, f"pack-1{suffix}").write_text(suffix)
        with pytest.raises(MigrationFailed):
            quarantine.migrate()
    assert os.listdir(objects / "pack") == []
