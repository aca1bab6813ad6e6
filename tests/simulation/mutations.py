"""Do the tests notice? Each mutation breaks one rule of the log in the sources; the test named beside it has to fail.

    python -m tests.simulation.mutations [NAME ...]

The project is copied, one text is replaced by another, the test runs in the copy. A text that isn't there exactly once
is an error: the mutation has to follow the sources. Before, every named test has to pass in an unchanged copy.
docs/testing-the-log.md lists what came of it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PARTS = ("govc", "protocol", "tests", "compat", "setup.cfg", "pyproject.toml")
CRASH, FAIL, GIT, MODEL = (
    f"tests/simulation/test_{name}.py" for name in ("crash_points", "failing_calls", "beside_git", "log_model")
)
SECONDS_MAX = 900


@dataclass(frozen=True)
class Mutation:
    """What is broken, where, how, and the test that has to notice."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = (
    Mutation(
        "the sync of the record is left out",
        "govc/wal/log.py",
        "            disk.sync_data(self._descriptor_for_sync(tail.ordinal))\n",
        "            self._descriptor_for_sync(tail.ordinal)\n",
        f"{CRASH}::test_stopped_at_every_call[one ref]",
    ),
    Mutation(
        "the sync comes after the acknowledgement",
        "govc/repo/journal.py",
        "                self.log.make_durable(appended[-1], self._is_crowded)\n",
        "                late, self.late = getattr(self, 'late', None), appended[-1]\n"
        "                late is None or self.log.make_durable(late)\n",
        f"{CRASH}::test_stopped_at_every_call[one ref]",
    ),
    Mutation(
        "publishing comes before the record",
        "govc/repo/writing.py",
        "            appended = journal.record(self._draft(changes), self._arrival)\n",
        "            transaction.commit(keep_failed=True, time_seconds=0)\n"
        "            appended = journal.record(self._draft(changes), self._arrival)\n",
        f"{CRASH}::test_stopped_at_every_call[several refs, atomic]",
    ),
    Mutation(
        "no void record when publishing fails",
        "govc/repo/writing.py",
        "        journal.void(appended)\n        transaction",
        "        transaction",
        f"{FAIL}::test_any_call_may_fail_once[one ref-EIO]",
    ),
    Mutation(
        "locks of a push in doubt are let go of at once",
        "govc/repo/writing.py",
        "                journal.hold(error.sequence, transaction.hand_over())\n",
        "                pass\n",
        f"{FAIL}::test_a_push_in_doubt_keeps_all_its_locks_until_it_is_settled[4]",
    ),
    Mutation(
        "records are replayed one by one, whatever a ref says now, instead of folded",
        "govc/repo/power_cut.py",
        "        if current in chain:\n",
        "        if True:\n",
        f"{GIT}::test_what_git_changed_after_the_last_record_stays[power cut]",
    ),
    Mutation(
        "locks of the dead are known by their names, not by their inodes",
        "govc/repo/recovery.py",
        "                if (status.st_dev, status.st_ino) in linked:\n",
        "                if linked:\n",
        f"{GIT}::test_a_lock_of_git_stays_and_ours_goes[kill]",
    ),
    Mutation(
        "an owner lives by what its number says, not by its flock",
        "govc/wal/owner.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        "        os.kill(int.from_bytes(token[:3], 'big') | 1 << 22, 0)\n    except ProcessLookupError:\n"
        "        return False\n",
        f"{GIT}::test_a_lock_of_a_living_process_stays",
    ),
    Mutation(
        "no .keep while the refs have not moved",
        "govc/odb/quarantine.py",
        '        path = f"{self.objects_dir}/pack/{stem}.keep"\n',
        "        return []\n",
        f"{GIT}::test_a_repack_at_any_moment_of_a_push_takes_nothing_away",
    ),
    Mutation(
        "after a failed sync the log is read back and synced again",
        "govc/wal/log.py",
        "            self._state.write_durability(durability._replace(syncing=0, poisoned=tail.ordinal))\n"
        "            return\n",
        "            disk.sync_data(self._descriptor_for_sync(tail.ordinal))\n",
        f"{FAIL}::test_any_call_may_fail_once[one ref-EIO]",
    ),
    Mutation(
        "a sync that its process didn't survive counts as none",
        "govc/wal/log.py",
        "        if durability.syncing:  #",
        "        if False:  #",
        f"{FAIL}::test_a_sync_fails_and_the_process_is_killed_at_once[one ref]",
    ),
    Mutation(
        "segments go before the checkpoint is written",
        "govc/repo/checkpointing.py",
        "    synced = _sync(site, touched.names, new_packs, loose, is_complete)\n",
        "    _retire(journal, touched)\n    synced = _sync(site, touched.names, new_packs, loose, is_complete)\n"
        "    [disk.unlink(segment_path(journal.folder.segments, n)) for n in list_segments(journal.folder.segments)]\n",
        f"{CRASH}::test_stopped_at_every_call[a clean end]",
    ),
    Mutation(
        "a checkpoint syncs nothing",
        "govc/repo/checkpointing.py",
        "    synced = _sync(site, touched.names, new_packs, loose, is_complete)\n",
        "    synced = 0\n",
        f"{CRASH}::test_stopped_at_every_call[a clean end]",
    ),
    Mutation(
        "the name of the log's folder is never synced",
        "govc/repo/journal.py",
        "            disk.sync_folder(os.path.dirname(path))\n",
        "",
        f"{CRASH}::test_stopped_at_every_call[the very first push]",
    ),
    Mutation(
        "a record's checksum isn't looked at",
        "govc/wal/record.py",
        "    if checksum != data[-CHECKSUM_BYTES:]:\n",
        "    if False:\n",
        f"{MODEL}::test_a_record_torn_at_any_byte_is_cut_off",
    ),
    Mutation(
        "the chain of checksums isn't looked at",
        "govc/wal/reader.py",
        " or record.previous != checksum:",
        ":",
        f"{MODEL}::test_a_record_in_place_of_another_is_noticed",
    ),
)


def copy_project(place: Path) -> None:
    """The sources and tests, without what tools left."""
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.c")
            shutil.copytree(source, place / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, place / part)


def run_test(place: Path, test: str) -> tuple[bool, str]:
    """Whether a test passes in a copy, and the end of what it said."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    env = dict(os.environ) | {"GOVC_FAULT_STEP": "1"}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, timeout=SECONDS_MAX, check=False)
    return done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]


def apply(mutation: Mutation, place: Path) -> None:
    """Break the copy. SystemExit when the text isn't there exactly once."""
    path = place / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: {mutation.file} holds its text {text.count(mutation.old)} times, not once")
    path.write_text(text.replace(mutation.old, mutation.new))


def main(names: Sequence[str]) -> None:
    """Try them; status 1 when one survives."""
    chosen = [one for one in MUTATIONS if not names or any(name in one.name for name in names)]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="govc-mutations-") as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        copy_project(whole)
        for test in sorted({mutation.test for mutation in chosen}):
            passes, said = run_test(whole, test)
            if not passes:
                raise SystemExit(f"{test} fails without any mutation:\n{said}")
        for number, mutation in enumerate(chosen):
            place = Path(folder) / f"m{number}"
            place.mkdir()
            copy_project(place)
            apply(mutation, place)
            start = time.monotonic()
            passes, _ = run_test(place, mutation.test)
            verdict = "SURVIVED" if passes else "noticed"
            print(f"{verdict:9} {time.monotonic() - start:4.0f} s  {mutation.name}  [{mutation.test}]", flush=True)
            survivors += [mutation.name] if passes else []
            shutil.rmtree(place)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
