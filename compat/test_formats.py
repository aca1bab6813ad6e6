"""Repositories in every form that plain git leaves on disk (gitrepository-layout, gitformat-*)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.conftest import Repo, Server, agree
from compat.gitclient import Git
from compat.rawhttp import discover, request
from compat.test_fetch import grow

Twin = Callable[[Repo], str]


def roundtrip(git: Git, repo: Repo, name: str = "clone") -> None:
    """Clone, push a commit and a new branch, clone again."""
    git("clone", "-q", repo.url, name)
    git.fsck(name)
    tip = git.commit_file(name, "round.txt", name)
    git("push", "-q", "origin", "HEAD:refs/heads/main", "HEAD:refs/heads/round/trip", cwd=name)
    assert tip == repo.rev("refs/heads/main") == repo.rev("refs/heads/round/trip")
    git("clone", "-q", "--mirror", repo.url, f"{name}-again")
    assert repo.refs() == git.refs(f"{name}-again")


@pytest.mark.every_frontend
@pytest.mark.rows("U0-17", "V2-09", "RP-08", "HB-81", "FS-54")
def test_sha256_repositories(server: Server, git: Git) -> None:
    repo = server.create_repo("merges", object_format="sha256")
    roundtrip(git, repo)
    git("clone", "-q", "--depth=2", repo.url, "shallow")
    grow(repo, 3)
    git("fetch", "-q", cwd="clone")
    agree(git, "clone", repo)


@pytest.mark.rows("RP-09", "U0-06")
def test_first_push_into_an_empty_sha256_repository(server: Server, git: Git) -> None:
    repo = server.create_repo("empty", object_format="sha256")
    git("init", "-q", "--object-format=sha256", "work")
    tip = git.commit_file("work", "a.txt", "a")
    git("push", "-q", repo.url, "main", cwd="work")
    assert tip == repo.rev("main")


@pytest.mark.rows("FS-01", "FS-02")
@pytest.mark.parametrize("level", ["0", "1", "9"])
def test_all_objects_loose(server: Server, git: Git, level: str) -> None:
    repo = server.create_repo("merges")
    packs = [path.rename(git.cwd / path.name) for path in repo.path.glob("objects/pack/*.pack")]
    for path in repo.path.glob("objects/pack/*"):
        path.unlink()
    for path in packs:
        git("-c", f"core.compression={level}", "unpack-objects", "-q", cwd=repo.path, input=path.read_bytes())
    roundtrip(git, repo)


@pytest.mark.rows("FS-12", "FS-05")
@pytest.mark.parametrize(
    "options",
    [
        ["-c", "pack.indexVersion=1"],
        ["-c", "pack.indexVersion=2"],
        ["-c", "repack.useDeltaBaseOffset=false"],
        ["64-bit offsets"],
        ["-c", "pack.depth=0"],
    ],
)
def test_packs_and_indexes_of_every_version(server: Server, git: Git, options: list[str]) -> None:
    repo = server.create_repo("linear")
    wide = options == ["64-bit offsets"]
    repo.run(*([] if wide else options), "repack", "-adfq")
    if wide:
        pack = next(repo.path.glob("objects/pack/*.pack"))
        index = pack.with_suffix(".idx")
        index.unlink()
        repo.run("index-pack", "--index-version=2,0x40", str(pack))
    roundtrip(git, repo)


@pytest.mark.rows("FS-05")
def test_pack_version_3(server: Server, git: Git) -> None:
    repo = server.create_repo("merges")
    repo.run("repack", "-adq")
    pack = next(repo.path.glob("objects/pack/*.pack"))
    data = bytearray(pack.read_bytes()[:-20])
    data[7] = 3
    whole = bytes(data) + hashlib.sha1(data).digest()
    for path in repo.path.glob("objects/pack/*"):
        path.unlink()
    (repo.path / "objects/pack/pack-made.pack").write_bytes(whole)
    repo.run("index-pack", "objects/pack/pack-made.pack")
    name = f"pack-{whole[-20:].hex()}"
    for path in list(repo.path.glob("objects/pack/pack-made.*")):
        path.rename(path.with_name(name + path.suffix))
    roundtrip(git, repo)


@pytest.mark.rows("FS-15", "FS-21")
@pytest.mark.parametrize(
    "chores",
    [
        [["repack", "-adq", "--write-bitmap-index"]],
        [["multi-pack-index", "write"]],
        [["commit-graph", "write", "--reachable"]],
        [["gc", "-q", "--cruft", "--prune=never"]],
        [["repack", "-dq"], ["repack", "-adq", "--keep-unreachable"]],
    ],
)
def test_side_files_do_not_mislead(server: Server, git: Git, chores: list[list[str]]) -> None:
    repo = server.create_repo("linear")
    grow(repo, 5, ref="refs/heads/lost")
    repo.run("update-ref", "-d", "refs/heads/lost")
    for chore in chores:
        repo.run(*chore)
    grow(repo, 4)
    roundtrip(git, repo)


@pytest.mark.rows("FS-29", "FS-30")
def test_chains_of_alternates(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    last = repo
    for n in range(4):
        path = server.root / f"alternate{n}.git"
        git("clone", "-q", "--bare", "--shared", last.path, path)
        (path / "git-daemon-export-ok").touch()
        if n == 2:
            (path / "objects/info/alternates").write_text(
                f"# a comment\n../../{last.path.name}/objects\n/no/such/folder\n"
            )
        last = server.adopt(path, {"http.receivepack": "true"})
        grow(last, 2)
    before = repo.state()
    roundtrip(git, last)
    assert before == repo.state()
    for forked in reversed(server.repos):
        git("fsck", "--full", cwd=forked.path)


@pytest.mark.rows("FS-29", "SEC-41")
def test_alternates_in_a_circle(server: Server, git: Git) -> None:
    repo = server.create_repo("merges")
    (repo.path / "objects/info").mkdir(exist_ok=True)
    (repo.path / "objects/info/alternates").write_text("../objects\n")
    git("clone", "-q", repo.url, "clone")
    assert repo.rev("main") == git.rev("clone", "HEAD")
    (repo.path / "objects/info/alternates").unlink()


@pytest.mark.rows("FS-31", "FS-32")
@pytest.mark.parametrize(
    "header",
    [
        "",
        "# pack-refs with: peeled \n",
        "# pack-refs with: peeled fully-peeled \n",
        "# pack-refs with: peeled fully-peeled sorted \n",
    ],
)
def test_packed_refs_of_every_age(server: Server, git: Git, header: str) -> None:
    repo = server.create_repo()
    repo.run("pack-refs", "--all")
    path = repo.path / "packed-refs"
    rows = path.read_text().splitlines(keepends=True)[1:]
    if "fully" not in header and "peeled" not in header:
        rows = [row for row in rows if not row.startswith("^")]
    path.write_text(header + "".join(rows))
    expected = repo.run("show-ref", "--dereference")
    listed = git("ls-remote", repo.url).stdout.replace("\t", " ").splitlines()
    assert expected.splitlines() == [line for line in listed if not line.endswith(" HEAD")]
    roundtrip(git, repo)


@pytest.mark.rows("FS-56", "FS-57", "FS-55", "FS-58", "FS-59")
@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("0", []),
        ("1", []),
        ("2", []),
        ("0", ["foo=1"]),
        ("1", ["foo=1"]),
        ("1", ["noop=1"]),
        ("1", ["noop-v1=1"]),
        ("0", ["noop-v1=1"]),
        ("1", ["preciousObjects=true"]),
        ("1", ["partialClone=origin"]),
        ("1", ["worktreeConfig=true"]),
        ("0", ["worktreeConfig=true"]),
        ("1", ["objectFormat=sha1"]),
        ("0", ["objectFormat=sha1"]),
        ("1", ["objectFormat=nosuch"]),
        ("0", ["preciousObjects=true"]),
        ("1", ["compatObjectFormat=sha256"]),
        ("1", ["objectFormat=md5"]),
        ("1", ["refStorage=files"]),
        ("0", ["refStorage=files"]),
        ("1", ["refStorage=nosuch"]),
        ("1", ["relativeWorktrees=true"]),
        ("0", ["relativeWorktrees=true"]),
        ("1", ["submodulePathConfig=true"]),
        ("0", ["submodulePathConfig=true"]),
        ("1", ["preciousObjects=perhaps"]),
        ("1", ["noop=1", "preciousObjects=true", "partialClone=origin", "worktreeConfig=true", "objectFormat=sha1"]),
    ],
)
def test_extensions_are_taken_or_refused_as_in_git(
    server: Server, git: Git, twin: Twin, version: str, settings: list[str]
) -> None:
    repo = server.create_repo()
    repo.broken = True
    with (repo.path / "config").open("a") as config:
        config.write(f"[core]\n\trepositoryFormatVersion = {version}\n[extensions]\n")
        config.writelines(f"\t{setting}\n" for setting in settings)
    ours, theirs = (discover(url) for url in (repo.url, twin(repo)))
    if settings and settings[0].split("=")[0] in ("noop-v1", "refStorage", "relativeWorktrees", "submodulePathConfig"):
        # git 2.39 knows none of them; stated is what later releases do.
        is_fine = version == "1" and settings != ["refStorage=nosuch"]
        assert (200 if is_fine else 500) == ours.status
        return
    assert theirs.status == ours.status
    assert (b"refs/heads/main" in theirs.body) == (b"refs/heads/main" in ours.body)


@pytest.mark.rows("FS-62", "HB-28")
@pytest.mark.parametrize(
    ("text", "open_door"),
    [
        ("[http]\n\treceivepack\n", True),
        ("[HTTP]\nReceivePack=yes", True),
        ("[http]receivepack=on", True),
        ("[http]\nreceivepack = 1 ; note\n", True),
        ("[http]\nreceivepack = tr\\\nue\n", True),
        ('[http]\nreceivepack = "true"\n', True),
        ("[http]\nreceivepack = 0\n", False),
        ("[http]\nreceivepack =\n", False),
        ("\ufeff[http]\r\nreceivepack = true\r\n", True),
        ("[http]\nreceivepack=true\nreceivepack=false\n", False),
        ('[http "https://x"]\nreceivepack=true\n', False),
        ("[http]\nreceivepack = 2k\n", True),
        ("[http] # c\n; c\n\treceivepack\t=\ttrue\n", True),
    ],
)
def test_configuration_files_are_read_as_git_reads_them(server: Server, twin: Twin, text: str, open_door: bool) -> None:
    repo = server.create_repo(pushable=False)
    path = repo.path / "config"
    base = path.read_text()
    path.write_bytes((text + "\n" + base).encode() if text.startswith("\ufeff") else (base + text).encode())
    ours, theirs = (discover(url, "receive-pack").status for url in (repo.url, twin(repo)))
    assert theirs == ours == (200 if open_door else 403)


@pytest.mark.rows("FS-62", "FS-63")
def test_includes_are_followed(server: Server, git: Git, twin: Twin, tmp_path: Path) -> None:
    repo = server.create_repo(pushable=False)
    (repo.path / "extra.cfg").write_text("[include]\n\tpath = more.cfg\n")
    (repo.path / "more.cfg").write_text("[http]\n\treceivepack = true\n")
    with (repo.path / "config").open("a") as config:
        config.write("[include]\n\tpath = extra.cfg\n")
    assert discover(repo.url, "receive-pack").status == 200
    (repo.path / "more.cfg").write_text("[http]\n\treceivepack = false\n")
    assert discover(repo.url, "receive-pack").status == 403
    with (repo.path / "config").open("a") as config:
        config.write(
            f'[includeIf "gitdir:{repo.path}/"]\n\tpath = third.cfg\n'
            '[includeIf "gitdir:/elsewhere/"]\n\tpath = fourth.cfg\n'
        )
    (repo.path / "third.cfg").write_text("[http]\n\treceivepack = true\n")
    (repo.path / "fourth.cfg").write_text("[http]\n\treceivepack = false\n")
    assert [discover(url, "receive-pack").status for url in (repo.url, twin(repo))] == [200, 200]


@pytest.mark.rows("SEC-22")
def test_a_pack_objects_hook_in_the_repositorys_own_configuration_does_not_run(server: Server, git: Git) -> None:
    repo = server.create_repo()
    trace = git.cwd / "ran"
    repo.config("uploadpack.packObjectsHook", f"touch {trace};")
    git("clone", "-q", repo.url, "clone")
    assert not trace.exists()


@pytest.mark.rows("FS-68", "HB-54")
def test_a_linked_worktree_is_served_through_its_common_folder(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    work = server.root / "linked-worktree"
    repo.run("worktree", "add", "-q", str(work), "topic")
    try:
        base = f"{server.url}/linked-worktree"
        ours, theirs = (
            request(url, "GET", "/info/refs?service=git-upload-pack")
            for url in (base, twin(repo).rsplit("/", 1)[0] + "/linked-worktree")
        )
        assert theirs.status == ours.status
    finally:
        repo.run("worktree", "remove", "--force", str(work))


@pytest.mark.rows("FS-36")
def test_symrefs_five_deep(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    for n in range(7):
        target = "refs/heads/main" if n == 0 else f"refs/heads/s{n - 1}"
        (repo.path / f"refs/heads/s{n}").write_text(f"ref: {target}\n")
    repo.broken = True
    assert git("ls-remote", "--symref", twin(repo)).stdout == git("ls-remote", "--symref", repo.url).stdout


@pytest.mark.rows("U0-67")
def test_grafts_change_what_is_walked(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    repo.broken = True
    (repo.path / "info").mkdir(exist_ok=True)
    (repo.path / "info/grafts").write_text(f"{repo.rev('main~3')}\n")
    git("init", "-q", "clone")
    result = git("fetch", "-q", repo.url, "main", cwd="clone", check=False)
    assert "Traceback" not in result.stderr


@pytest.mark.rows("FS-16", "FS-15")
def test_junk_in_the_object_folders_is_ignored(server: Server, git: Git) -> None:
    repo = server.create_repo()
    objects = repo.path / "objects"
    (objects / "tmp_objdir-incoming-abc").mkdir()
    for name in (
        "pack/tmp_pack_x",
        "pack/pack-junk.idx",
        "pack/readme",
        f"pack/pack-{'1' * 40}.keep",
        "17/tmp_obj_y",
        "zz",
    ):
        (objects / name).parent.mkdir(exist_ok=True)
        (objects / name).write_text("junk")
    git("clone", "-q", repo.url, "clone")
    agree(git, "clone", repo)
    for name in ("pack/tmp_pack_x", "pack/pack-junk.idx", f"pack/pack-{'1' * 40}.keep", "17/tmp_obj_y", "zz"):
        (objects / name).unlink()
    shutil.rmtree(objects / "tmp_objdir-incoming-abc")
