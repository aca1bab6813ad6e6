"""Area G: settings of git that change what is written into a repository, beside git in an equal repository.

Settings that only make git faster or smaller must change nothing that a client gets.
"""

from __future__ import annotations

import re
import stat
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import FLUSH, ZERO, lines, make_pack, receive, upload

Pair = Callable[..., tuple[Repo, Repo]]
Settings = dict[str, str]


def kept_as(repo: Repo, before: set[Path]) -> tuple[list[str], int]:
    """How the objects of a push are kept: names of the loose ones, and how many packs came."""
    new = {path.relative_to(repo.path) for path in (repo.path / "objects").rglob("*") if path.is_file()} - before
    loose = sorted(str(path) for path in new if re.fullmatch(r"objects/[0-9a-f]{2}/[0-9a-f]{38}", str(path)))
    return loose, sum(path.suffix == ".pack" for path in new)


@pytest.mark.rows("CF-25", "CF-34", "RP-28", "FS-01", "RP-30")
@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {"transfer.unpackLimit": "1"},
        {"receive.unpackLimit": "0"},
        {"transfer.unpackLimit": "1000"},
        {"receive.unpackLimit": "1000", "transfer.unpackLimit": "-1"},
        {"receive.unpackLimit": "8"},
        {"receive.unpackLimit": "9"},
        {"receive.unpackLimit": "1k", "receive.fsckObjects": "true"},
    ],
    ids=str,
)
def test_objects_are_kept_as_somebody_asked(pair: Pair, git: Git, config: Settings, thin: bool) -> None:
    """Without a word of the admin's all stays a pack (RP-28); with one it is as with git. The push has 8 objects."""
    ours, theirs = pair(config=config)
    old, new, pack = new_objects(git, ours, 2, *(["--thin"] if thin else []))
    assert int.from_bytes(pack[8:12], "big") == 8
    body = push_body([f"{old} {new} refs/heads/main"], pack)
    kept = []
    for repo in ours, theirs:
        before = {path.relative_to(repo.path) for path in (repo.path / "objects").rglob("*") if path.is_file()}
        assert report_of(receive(repo.url, body)) == [b"unpack ok", b"ok refs/heads/main"]
        kept.append(kept_as(repo, before))
    assert kept[0] == kept[1]
    assert len(kept[0][0]) + 8 * kept[0][1] == 8
    assert theirs.state() == ours.state()


@pytest.mark.rows("RP-31", "FS-04", "CF-34")
def test_objects_that_are_there_are_not_unpacked_again(pair: Pair, git: Git) -> None:
    ours, theirs = pair(config={"receive.unpackLimit": "1000"})
    tip, older = ours.rev("main"), ours.rev("main~1")
    pack = make_pack(git, ours.path, [tip, f"^{older}"])
    kept = []
    for repo in ours, theirs:
        before = {path.relative_to(repo.path) for path in (repo.path / "objects").rglob("*") if path.is_file()}
        assert report_of(receive(repo.url, push_body([f"{ZERO} {tip} refs/heads/copy"], pack)))[0] == b"unpack ok"
        kept.append(kept_as(repo, before))
    assert kept == [([], 0), ([], 0)]


@pytest.mark.rows("CF-34", "CF-52", "FS-72")
def test_a_large_object_is_unpacked_in_pieces(pair: Pair, git: Git) -> None:
    """More than fits a record of the log: synced by itself instead."""
    ours, theirs = pair(config={"receive.unpackLimit": "1000"})
    git("clone", "-q", ours.path, "maker")
    (git.cwd / "maker/large").write_bytes(b"0123456789abcdef" * (17 << 16))
    git("add", "large", cwd="maker")
    git("commit", "-q", "-m", "large", cwd="maker")
    tip = git.rev("maker", "main")
    body = push_body([f"{ours.rev('main')} {tip} refs/heads/main"], make_pack(git, git.cwd / "maker", ["main~1..main"]))
    for repo in ours, theirs:
        assert report_of(receive(repo.url, body)) == [b"unpack ok", b"ok refs/heads/main"]
        assert repo.run("cat-file", "-s", "main:large") == str(17 << 20)
    assert theirs.objects() == ours.objects()
    assert all((ours.path / f"objects/{oid[:2]}/{oid[2:]}").exists() for oid in (tip, ours.rev("main:large")))


@pytest.mark.rows("FS-03", "CF-51")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"core.looseCompression": "0"},
        {"core.looseCompression": "9"},
        {"core.compression": "-1"},
        {"core.compression": "9", "core.looseCompression": "0"},
    ],
    ids=str,
)
def test_loose_objects_are_compressed_as_with_git(pair: Pair, git: Git, config: Settings) -> None:
    ours, theirs = pair(config=config | {"receive.unpackLimit": "1000"})
    git("clone", "-q", "--bare", ours.path, "maker.git")
    blob = git("hash-object", "-w", "--stdin", cwd="maker.git", input=b"some words, " * 5000).stdout.strip()
    pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd="maker.git", input=f"{blob}\n".encode())
    written = []
    for repo in ours, theirs:
        assert report_of(receive(repo.url, push_body([f"{ZERO} {blob} refs/tags/t"], pack))) == [
            b"unpack ok",
            b"ok refs/tags/t",
        ]
        written.append((repo.path / f"objects/{blob[:2]}/{blob[2:]}").read_bytes())
    # git hands the header to zlib by itself, which shows at level 0: some bytes between two blocks.
    assert [zlib.decompress(data) for data in written] == [b"blob 60000\0" + b"some words, " * 5000] * 2
    assert written[0][:2] == written[1][:2] and abs(len(written[0]) - len(written[1])) < 16


@pytest.mark.rows("CF-68", "FS-11", "FS-12")
@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_indexes_are_of_the_version_that_is_set(pair: Pair, git: Git, version: str) -> None:
    ours, theirs = pair(config={"pack.indexVersion": version, "transfer.unpackLimit": "1"})
    old, new, pack = new_objects(git, ours, 5)
    written = []
    for repo in ours, theirs:
        before = set((repo.path / "objects/pack").glob("*.idx"))
        assert report_of(receive(repo.url, push_body([f"{old} {new} refs/heads/main"], pack)))[0] == b"unpack ok"
        (index,) = set((repo.path / "objects/pack").glob("*.idx")) - before
        written.append((index.name, index.read_bytes()))
    assert written[0] == written[1]


@pytest.mark.rows("CF-35", "RP-32")
@pytest.mark.parametrize("value", ["100", "0", "1m", "1g"])
def test_sizes_of_pushes(pair: Pair, git: Git, value: str) -> None:
    ours, theirs = pair(config={"receive.maxInputSize": value})
    old, new, pack = new_objects(git, ours)
    body = push_body([f"{old} {new} refs/heads/main"], pack)
    replies = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert replies[1] == replies[0]
    assert (replies[0][0] == b"unpack ok") == (value != "100")
    assert theirs.state() == ours.state()


def logs(repo: Repo) -> dict[str, list[str]]:
    """All reflogs, without times."""
    folder = repo.path / "logs"
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
    return {
        str(path.relative_to(folder)): [
            re.sub(r" \d+ [+-]\d{4}\t", "\t", line) for line in path.read_text().splitlines()
        ]
        for path in files
    }


@pytest.mark.rows("CF-49", "RP-90", "RP-91")
@pytest.mark.parametrize("value", [None, "true", "always", "false"])
@pytest.mark.parametrize("bare", ["true", "false"])
def test_reflogs_are_kept_as_with_git(pair: Pair, value: str | None, bare: str) -> None:
    config = {"core.bare": bare, "receive.denyCurrentBranch": "ignore"}
    ours, theirs = pair(config=config | ({"core.logAllRefUpdates": value} if value is not None else {}))
    main, older = ours.rev("main"), ours.rev("main~1")
    commands = [f"{main} {older} refs/heads/main", f"{ZERO} {main} refs/tags/new", f"{ZERO} {main} refs/other/new"]
    body = push_body(commands, EMPTY_PACK)
    assert report_of(receive(theirs.url, body)) == report_of(receive(ours.url, body))
    assert logs(theirs) == logs(ours)


def push_new_refs(git: Git, repo: Repo) -> None:
    """A branch, a tag and another ref, of new objects."""
    git("clone", "-q", repo.path, "pusher")
    git.commit_file("pusher", "new", "x")
    git("push", "-q", repo.url, "main:refs/heads/new", "main:refs/tags/new", "main:refs/other/new", cwd="pusher")
    git("push", "-q", repo.url, "main", cwd="pusher")


@pytest.mark.rows("CF-47", "CF-49", "RP-90", "RP-91")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"core.logAllRefUpdates": "true"},
        {"core.logAllRefUpdates": "always"},
        {"core.logAllRefUpdates": "false", "core.bare": "false", "receive.denyCurrentBranch": "ignore"},
        {"core.bare": "false", "receive.denyCurrentBranch": "ignore"},
    ],
    ids=str,
)
def test_which_reflogs_are_kept(pair: Pair, git: Git, settings: Settings) -> None:
    kept = []
    for repo in pair(config=settings):
        push_new_refs(git, repo)
        (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
        logs = repo.path / "logs"
        kept.append(
            sorted(
                (str(path.relative_to(logs)), len(path.read_text().splitlines()))
                for path in logs.rglob("*")
                if path.is_file()
            )
        )
    assert kept[0] == kept[1]


def modes(folder: Path) -> dict[str, str]:
    """Permissions of refs and of the folders of objects and refs."""
    names = ("refs/heads/deep", "refs/heads/deep/new", "refs/heads/deep/er", "refs/heads/deep/er/new", "objects/pack")
    return {name: stat.filemode((folder / name).stat().st_mode) for name in names}


@pytest.mark.rows("CF-50", "RP-96")
@pytest.mark.parametrize("value", ["false", "group", "all", "0640", "0660", "umask", "1", "2"])
def test_shared_repositories_stay_shared(pair: Pair, value: str) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        repo.config("core.sharedRepository", value)
    main = ours.rev("main")
    body = push_body([f"{ZERO} {main} refs/heads/deep/new", f"{ZERO} {main} refs/heads/deep/er/new"], EMPTY_PACK)
    assert report_of(receive(theirs.url, body)) == report_of(receive(ours.url, body))
    assert modes(theirs.path) == modes(ours.path)


@pytest.mark.rows("CF-50", "RP-96", "FS-65")
@pytest.mark.parametrize("limit", ["1", "1000"])
@pytest.mark.parametrize("value", ["false", "group", "all", "0640", "0660", "umask", "2"])
def test_modes_of_shared_repositories(pair: Pair, git: Git, value: str, limit: str) -> None:
    seen = []
    for repo in pair(config={"core.sharedRepository": value, "receive.unpackLimit": limit}):
        before = set(repo.path.rglob("*"))
        push_new_refs(git, repo)
        (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
        new = [path for path in set(repo.path.rglob("*")) - before if "govc" not in path.parts]
        modes = {}
        for path in new:
            name = str(path.relative_to(repo.path))
            shard = re.sub(r"^[0-9a-f]{2}$", "xx", path.parent.name)
            kind = name if name.startswith("refs/") else f"{shard}/*{path.suffix}"
            modes[kind] = oct(stat.S_IMODE(path.stat().st_mode))
        modes.pop("pack/*.rev", None)  # git writes none by default before 2.41
        seen.append(modes)
    assert seen[0] == seen[1]


@pytest.mark.rows("CF-41", "RP-89")
def test_server_info(pair: Pair, git: Git) -> None:
    for value in ("false", "true"):
        written = []
        for repo in pair(config={"receive.updateServerInfo": value}):
            push_new_refs(git, repo)
            (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
            info = repo.path / "info/refs"  # one may lie there from repacking
            written.append(info.read_text() if info.exists() else None)
        shown = [text and {line.split("\t")[1] for line in text.splitlines()} for text in written]
        assert shown[0] == shown[1]
        assert ("refs/heads/new" in (shown[0] or ())) == (value == "true")


@pytest.mark.rows("CF-58", "RP-92", "FS-66")
@pytest.mark.parametrize("key", ["core.filesRefLockTimeout", "core.packedRefsTimeout"])
def test_locks_are_waited_for_as_long_as_set(pair: Pair, key: str) -> None:
    ours, theirs = pair()
    topic = ours.rev("topic")
    seen = []
    for repo in ours, theirs:
        repo.run("pack-refs", "--all")
        lock = repo.path / ("refs/heads/topic.lock" if "files" in key else "packed-refs.lock")
        lock.touch()
        for milliseconds in 0, 1500:
            repo.config(key, str(milliseconds))
            started = time.monotonic()
            reply = receive(repo.url, push_body([f"{topic} {ZERO} refs/heads/topic"], b""))
            assert time.monotonic() - started >= milliseconds * 0.9 / 1000
            seen.append(report_of(reply))
        lock.unlink()
    assert [line[:2] for report in seen[2:] for line in report] == [line[:2] for report in seen[:2] for line in report]
    assert topic == ours.rev("topic")


@pytest.mark.rows("CF-58", "RP-92", "FS-66")
def test_locks_are_waited_for_for_ever(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"core.filesRefLockTimeout": "-1"})
    git("clone", "-q", repo.url, "clone")
    git.commit_file("clone", "a", "b")
    lock = repo.path / "refs/heads/main.lock"
    lock.touch()
    timer = threading.Timer(1.5, lock.unlink)
    timer.start()
    git("push", "-q", "origin", "main", cwd="clone")
    timer.join()
    assert repo.rev("main") == git.rev("clone", "main")
    repo.config("core.filesRefLockTimeout", "0")
    git.commit_file("clone", "a", "c")
    lock.touch()
    assert "main.lock': File exists" in git.fails("push", "origin", "main", cwd="clone")
    lock.unlink()


@pytest.mark.rows("CF-64", "CF-65", "CF-66", "CF-67", "CF-69", "CF-53")
@pytest.mark.parametrize(
    "settings",
    [
        {"pack.window": "0", "pack.depth": "1", "pack.threads": "7", "pack.windowMemory": "1k"},
        {"pack.deltaCacheSize": "1", "pack.deltaCacheLimit": "1", "core.packedGitLimit": "1m"},
        {"pack.useBitmaps": "false", "pack.allowPackReuse": "false"},
        {"pack.useSparse": "false", "pack.island": "refs/heads/", "repack.useDeltaIslands": "true"},
        {"pack.packSizeLimit": "1m", "core.packedGitWindowSize": "4k", "core.deltaBaseCacheLimit": "1k"},
    ],
    ids=str,
)
def test_settings_of_speed_change_no_object(pair: Pair, git: Git, settings: Settings) -> None:
    clones = []
    for repo in pair(config=settings):
        name = f"clone-{repo.path.name}"
        git("clone", "-q", "--bare", repo.url, name)
        clones.append(git.objects(name))
        assert len(list((git.cwd / name / "objects/pack").glob("*.pack"))) == 1
    assert clones[0] == clones[1]


@pytest.mark.rows("CF-90", "CF-91")
def test_settings_of_speed_and_of_clients_change_nothing_that_is_seen(server: Server, git: Git) -> None:
    odd = {
        "core.commitGraph": "false",
        "core.multiPackIndex": "false",
        "core.fsync": "none",
        "core.fsyncMethod": "writeout-only",
        "commitGraph.generationVersion": "1",
        "pack.window": "0",
        "pack.depth": "1",
        "pack.threads": "1",
        "pack.windowMemory": "1k",
        "pack.deltaCacheSize": "1",
        "pack.useBitmaps": "false",
        "pack.allowPackReuse": "false",
        "pack.useSparse": "false",
        "pack.indexVersion": "1",
        "pack.writeReverseIndex": "false",
        "pack.packSizeLimit": "1m",
        "http.postBuffer": "1",
        "push.default": "nothing",
        "fetch.fsckObjects": "true",
        "transfer.credentialsInUrl": "die",
        "core.autocrlf": "true",
        "core.editor": "false",
        "protocol.allow": "never",
    }
    plain, repo = server.create_repo("linear"), server.create_repo("linear", config=odd)
    body = lines(f"want {plain.rev('main')} ofs-delta side-band-64k no-progress", FLUSH, "done")
    assert upload(plain.url, body).body == upload(repo.url, body).body
    git("clone", "-q", repo.url, "clone")
    assert repo.rev("main") == git.rev("clone", "HEAD")
    git.fsck("clone")
    git.commit_file("clone", "a.txt", "1\n")
    git("push", "-q", "origin", "main", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")
