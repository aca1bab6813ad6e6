"""Sixty rows, drawn by two seeds, broken on purpose one by one: does a test that carries the row notice?

    python -m tests.conformance.mutations [ROW ...]      (make row-mutations)

The draws are from the M and S rows that don't differ on purpose; whoever changes DRAW_SEEDS has to write the mutations
that are then lacking. Those of the second draw stand in `second_draw`. Each mutation replaces one text of the sources,
in a copy of the project; a test named beside it has to fail. Before, all of them have to pass in an unchanged copy.
What came of it is written to docs/broken-rows.md, once all were tried; a run over single rows keeps what the page says
of the others. tests/conformance/test_mutations.py holds the list to the sources and to the markers.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .markers import PROJECT, Row
from .mutation import Mutation
from .second_draw import SECOND_DRAW
from .table import MAY_DIFFER

DRAW_SEEDS = ("issue 5", "issue 5, second draw")
DRAW_COUNT = 30
FIRST_TRIES = (
    "At the first try U0-49 survived: no test sent a filter that it hadn't negotiated to a repository that allows"
    " filters. Now one does. FS-26 survived, too: what stands in a commit-graph changed no answer, since grafts win"
    " over it anyway. Now a test looks at whether it is read."
)
OUTCOME_FILE = PROJECT / "docs" / "broken-rows.md"
PARTS = ("govc", "protocol", "tests", "compat", "conf", "setup.cfg", "pyproject.toml")
SECONDS_MAX = 900
OBJECTS, STORE, RAW_V2, RAW_V0 = (
    "tests/objects/test_fsck_against_git.py",
    "tests/repo/test_native_files.py",
    "compat/test_raw_v2.py",
    "compat/test_raw_upload_pack.py",
)


FIRST_DRAW = (
    Mutation(
        "FS-54",
        "a commit-graph of SHA-256 says that it is one of SHA-1",
        "govc/graph/commit_graph_file.py",
        '_HEADER.pack(b"CGPH", 1, HASH_IDS[algo.name], count, 0)',
        '_HEADER.pack(b"CGPH", 1, HASH_IDS["sha1"], count, 0)',
        "tests/graph/test_commit_graph_file.py::test_what_we_write_is_what_git_writes",
    ),
    Mutation(
        "RP-59",
        "one refused ref takes the others with it",
        "govc/repo/writing.py",
        "                if refused and atomic:\n                    return refused\n",
        "                if refused:\n                    return refused\n",
        "compat/test_raw_receive.py::test_stale_values_and_conflicts_stand_alone",
    ),
    Mutation(
        "FK-37",
        "the message has another name",
        "govc/objects/fsck_tag.py",
        "report(FsckMessage.MISSING_TAG_ENTRY,",
        "report(FsckMessage.MISSING_TAG,",
        "tests/objects/test_fsck.py::test_tags_that_git_cannot_even_parse",
    ),
    Mutation(
        "CF-74",
        "a path in safe.directory stands for every path",
        "govc/repo/discover.py",
        "    return real_path == allowed\n",
        "    return True\n",
        "compat/test_configuration.py::test_safe_directories",
    ),
    Mutation(
        "HB-43",
        "a body is read beyond its Content-Length",
        "govc/web/bodies.py",
        "        wanted = min(size, READ_BYTES_MAX, self._left)\n",
        "        wanted = min(size, READ_BYTES_MAX)\n",
        "compat/test_http_surface.py::test_a_kept_connection_answers_several_requests",
    ),
    Mutation(
        "CF-48",
        "core.hooksPath isn't looked at",
        "govc/repo/hooks.py",
        "            return os.path.join(layout.gitdir, configured)\n",
        "            pass\n",
        "compat/test_hooks.py::test_hooks_may_lie_elsewhere",
    ),
    Mutation(
        "FS-19",
        "an object that lies in two packs is listed twice",
        "govc/odb/midx.py",
        "        if oid != previous:\n",
        "        if True:\n",
        f"{STORE}::test_git_verifies_what_maintenance_writes",
    ),
    Mutation(
        "HB-62",
        "the client's Git-Protocol header isn't looked at",
        "govc/web/wsgi_app.py",
        ' or environ.get("HTTP_GIT_PROTOCOL")\n',
        "\n",
        "compat/test_http_surface.py::test_the_highest_known_version_wins",
    ),
    Mutation(
        "CF-24",
        "transfer.fsckObjects isn't looked at",
        "govc/repo/fsck_push.py",
        '    return config.get_bool("transfer.fsckobjects", False) if wanted is None else wanted\n',
        "    return bool(wanted)\n",
        "compat/test_fsck_pushes.py::test_which_objects_are_taken",
    ),
    Mutation(
        "HB-81",
        "packs of SHA-256 have no route",
        "govc/web/routes.py",
        "pack/pack-(?:[0-9a-f]{64}|[0-9a-f]{40})",
        "pack/pack-(?:[0-9a-f]{40})",
        "compat/test_dumb.py::test_dumb_clone",
    ),
    Mutation(
        "CF-37",
        "`ignore` refuses",
        "govc/service/judge.py",
        "        elif action is not DenyAction.IGNORE:\n            if self._snapshot",
        "        elif True:\n            if self._snapshot",
        "compat/test_configuration.py::test_which_updates_are_taken",
        "denyDeleteCurrent",
    ),
    Mutation(
        "V2-13",
        "tags aren't peeled",
        "govc/service/ls_refs.py",
        "            peeled=ref.peeled if request.peel else None,\n",
        "",
        f"{RAW_V2}::test_ls_refs",
    ),
    Mutation(
        "U0-25",
        "any object may be wanted in version 0",
        "govc/service/fetch.py",
        "        if lost:\n            # As git, whose walk",
        "        if not lost and lost:\n            # As git, whose walk",
        f"{RAW_V0}::test_what_may_be_wanted",
    ),
    Mutation(
        "CF-03",
        "http.receivepack isn't looked at",
        "govc/service/policy.py",
        '        return config.get_bool("http.receivepack", bool(remote_user))\n',
        "        return True\n",
        "compat/test_configuration.py::test_a_setting_works_as_with_git",
        "receivepack",
    ),
    Mutation(
        "SEC-12",
        "tags of tags are followed a hundred deep",
        "govc/graph/commits.py",
        "TAG_CHAIN_MAX = 100_000\n",
        "TAG_CHAIN_MAX = 100\n",
        "compat/test_hostile.py::test_a_tag_chain_of_two_thousand_and_a_tree_of_five_hundred_levels",
    ),
    Mutation(
        "CF-21",
        "`allow` is taken for `ignore`",
        "govc/service/ls_refs.py",
        '.unborn != "ignore"\n',
        '.unborn == "advertise"\n',
        "compat/test_configuration.py::test_a_setting_works_as_with_git",
        "unborn",
    ),
    Mutation(
        "V2-33",
        "a client with shallow lines that doesn't deepen gets no section",
        "govc/service/fetch.py",
        "            tells_shallow = request.deepens or bool(request.shallows or self.snapshot.shallow)\n",
        "            tells_shallow = request.deepens or bool(self.snapshot.shallow)\n",
        f"{RAW_V2}::test_shallow_requests",
    ),
    Mutation(
        "FK-10",
        "every blob is read for the check",
        "govc/pack/passes.py",
        "VISITED_TYPES = frozenset((COMMIT, TREE, TAG))\n",
        "VISITED_TYPES = frozenset((COMMIT, TREE, TAG, 3))\n",
        "compat/test_streams.py::test_one_blob_larger_than_the_memory_bound_streams_every_way",
    ),
    Mutation(
        "RP-06",
        "push options are on by default",
        "govc/service/policy.py",
        'config.get_bool("receive.advertisepushoptions", False)',
        'config.get_bool("receive.advertisepushoptions", True)',
        "compat/test_push_errors.py::test_push_options_are_off_by_default",
    ),
    Mutation(
        "FK-48",
        "a .gitmodules that isn't there is no error",
        "govc/objects/fsck.py",
        "            if not missing_ok:\n",
        "            if not missing_ok and kind is not _GITMODULES:\n",
        "tests/objects/test_fsck.py::test_special_blobs_that_are_none_or_not_there",
    ),
    Mutation(
        "FS-47",
        "a new table is named by its range the wrong way round",
        "govc/refs/reftable/stack.py",
        '    return f"0x{low:012x}-0x{high:012x}-',
        '    return f"0x{high:012x}-0x{low:012x}-',
        "tests/refs/reftable/test_compaction.py",
    ),
    Mutation(
        "RP-42",
        "refs/x may be created",
        "protocol/refname.py",
        "check_refname_format(name[5:], allow_onelevel=deleting)",
        "check_refname_format(name[5:], allow_onelevel=True)",
        "compat/test_raw_receive.py::test_names_are_judged_as_git_judges_them",
    ),
    Mutation(
        "FK-27",
        "a date may follow the email at once",
        "govc/objects/fsck_header.py",
        '    if not line.startswith(b" ", bracket.end()):\n        return FsckMessage.MISSING_SPACE_BEFORE_DATE',
        "    if not line[bracket.end() :]:\n        return FsckMessage.MISSING_SPACE_BEFORE_DATE",
        f"{OBJECTS}::test_commits_are_judged_as_git_does",
    ),
    Mutation(
        "U0-49",
        "a filter is taken from a client that didn't negotiate it",
        "protocol/upload_pack.py",
        '            if not (allow_filter and b"filter" in capabilities):\n',
        "            if not allow_filter:\n",
        f"{RAW_V0}::test_a_filter_must_be_negotiated_and_comes_once",
    ),
    Mutation(
        "SEC-21",
        "a repository of another user is served",
        "govc/repo/discover.py",
        "    check_ownership(found, protected_config, environ=environ, euid=os.geteuid())\n",
        "",
        "compat/test_http_surface.py::test_a_repository_of_another_user_is_refused",
    ),
    Mutation(
        "CF-68",
        "pack.writeReverseIndex isn't looked at",
        "govc/repo/receiving.py",
        "        if task.write_reverse:\n",
        "        if True:\n",
        "compat/test_native_files.py::test_reverse_indexes_are_written_and_read_by_git",
    ),
    Mutation(
        "FK-30",
        "no date is too large",
        "govc/objects/fsck_header.py",
        " or int(digits) > _TIME_SECONDS_MAX:\n",
        ":\n",
        f"{OBJECTS}::test_commits_are_judged_as_git_does",
    ),
    Mutation(
        "RP-76",
        "update is told the new value before the old one",
        "govc/repo/push_hooks.py",
        "self._run(UPDATE, (name, old, new))",
        "self._run(UPDATE, (name, new, old))",
        "compat/test_hooks.py::test_hooks_get_what_git_gives_them",
    ),
    Mutation(
        "FS-72",
        "a large object is read whole",
        "govc/odb/store.py",
        "            yield from self._resolver.iter_content(pack, pack.index.offset_at(position), chunk_bytes)\n",
        "            yield self.read(number)[1]\n",
        "compat/test_streams.py::test_one_blob_larger_than_the_memory_bound_streams_every_way",
    ),
    Mutation(
        "U0-40",
        "a request that ends behind its deepen lines is malformed",
        "protocol/upload_pack.py",
        "    return haves, list[bytes | Step](haves), None\n",
        "    return haves, list[bytes | Step](haves), RemoteProtocolError(HUNG_UP)\n",
        f"{RAW_V0}::test_a_depth_request_may_end_after_its_shallow_lines",
    ),
)


MUTATIONS = FIRST_DRAW + SECOND_DRAW


def draw_rows(rows: Iterable[Row]) -> list[str]:
    """The rows that the seeds draw, in the order in which they do; no row twice."""
    important = [row.identifier for row in rows if row.importance in "MS"]
    drawn: list[str] = []
    for seed in DRAW_SEEDS:
        shuffled = list(important)
        random.Random(seed).shuffle(shuffled)
        drawn += [one for one in shuffled if one not in MAY_DIFFER and one not in drawn][:DRAW_COUNT]
    return drawn


def copy_project(project: Path, place: Path) -> None:
    """The sources, tests and kernels, without what tools left."""
    for part in PARTS:
        source = project / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.c")
            shutil.copytree(source, place / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, place / part)


def run_test(place: Path, mutation: Mutation) -> tuple[bool, str]:
    """Whether a test passes in a copy, and the end of what it said."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test]
    if mutation.select:
        command += ["-k", mutation.select]
    env = dict(os.environ) | {"GOVC_COMPAT_FRONTENDS": "gunicorn"}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, timeout=SECONDS_MAX, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")[-3000:]
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutation.row}: {mutation.test} didn't run:\n{said}")
    return done.returncode == 0, said


def count_text(mutation: Mutation, project: Path = PROJECT) -> int:
    """How often the text to replace is in its file: once, or the list has to follow the sources."""
    return (project / mutation.file).read_text().count(mutation.old)


def apply(mutation: Mutation, place: Path) -> None:
    """Break the copy. SystemExit when the text isn't there exactly once."""
    if count_text(mutation, place) != 1:
        raise SystemExit(f"{mutation.row}: {mutation.file} doesn't hold its text exactly once")
    path = place / mutation.file
    path.write_text(path.read_text().replace(mutation.old, mutation.new))


def try_all(chosen: Sequence[Mutation]) -> dict[str, bool]:
    """Try mutations; whether each was noticed."""
    noticed = {}
    with tempfile.TemporaryDirectory(prefix="govc-rows-") as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        copy_project(PROJECT, whole)
        for mutation in {(one.test, one.select): one for one in chosen}.values():
            passes, said = run_test(whole, mutation)
            if not passes:
                raise SystemExit(f"{mutation.test} fails without any mutation:\n{said}")
        for number, mutation in enumerate(chosen):
            place = Path(folder) / f"m{number}"
            place.mkdir()
            copy_project(whole, place)
            apply(mutation, place)
            start = time.monotonic()
            passes, _ = run_test(place, mutation)
            noticed[mutation.row] = not passes
            verdict = "SURVIVED" if passes else "noticed"
            print(f"{verdict:9} {time.monotonic() - start:4.0f} s  {mutation.row}: {mutation.what}", flush=True)
            shutil.rmtree(place)
    return noticed


def outcome(noticed: dict[str, bool]) -> str:
    """The document."""
    seeds = " and ".join(f"`{seed}`" for seed in DRAW_SEEDS)
    lines = [
        "# Rows broken on purpose",
        "",
        f"{DRAW_COUNT} rows of [conformance.md](conformance.md) each, drawn by the seeds {seeds} from the M and S",
        "rows, were broken one by one in a copy of the sources. `make row-mutations` does so again and writes this",
        "page; how exactly each is broken stands in tests/conformance/mutations.py and second_draw.py.",
        "",
        f"Noticed: {sum(noticed.values())} of {len(noticed)}. {FIRST_TRIES}",
        "",
        "| row | broken so | test | outcome |",
        "|---|---|---|---|",
    ]
    for one in MUTATIONS:
        word = "noticed" if noticed[one.row] else "survived"
        lines.append(f"{_start_of_line(one)} {word} |")
    return "\n".join(lines) + "\n"


def read_outcome() -> dict[str, bool]:
    """What the page says of each row, as long as it was broken in the same way and the same test had to notice."""
    page = OUTCOME_FILE.read_text() if OUTCOME_FILE.exists() else ""
    found = {}
    for one in MUTATIONS:
        for word, verdict in (("noticed", True), ("survived", False)):
            if f"{_start_of_line(one)} {word} |" in page:
                found[one.row] = verdict
    return found


def _start_of_line(one: Mutation) -> str:
    return f"| {one.row} | {one.what} | `{one.test}` |"


def main(rows: Sequence[str]) -> None:
    """Try them; status 1 when one survives."""
    chosen = [one for one in MUTATIONS if not rows or one.row in rows]
    noticed = try_all(chosen)
    known = read_outcome() | noticed
    if all(one.row in known for one in MUTATIONS):
        OUTCOME_FILE.write_text(outcome(known))
    sys.exit(0 if all(noticed.values()) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
