"""What plain git keeps in a repository beside objects: refs in odd places, worktrees, settings, shallow, grafts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import (
    FLUSH,
    V2,
    discover,
    lines,
    pack_objects,
    parse_advertisement,
    request,
    split_pack_lines,
    upload,
)

Twin = Callable[[Repo], str]


def advertised(url: str, service: str = "upload-pack") -> list[bytes]:
    """The lines of a v0 advertisement."""
    return parse_advertisement(discover(url, service).packets)[0]


@pytest.mark.rows("FS-37")
def test_empty_folders_where_a_ref_should_go(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    tip = git.commit_file("clone", "x", "y")
    for name in ("one", "two/three", "deep"):
        os.makedirs(repo.path / f"refs/heads/{name}/a/b")
    git("push", "-q", "origin", "main:one", "main:two/three", "main:deep/a", cwd="clone")
    assert {repo.refs()[f"refs/heads/{name}"] for name in ("one", "two/three", "deep/a")} == {tip}


@pytest.mark.rows("FS-39")
def test_names_are_bytes(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    name = b"refs/heads/\xff\xfe-\xc3\xa9"
    oid = repo.rev("main")
    home = {"HOME": str(git.home), "PATH": os.environ["PATH"]}
    git("clone", "-q", repo.url, "clone")
    subprocess.run([b"git", b"push", b"-q", b"origin", b"main:" + name], cwd=git.cwd / "clone", env=home, check=True)
    assert f"{oid} ".encode() + name in advertised(repo.url)
    assert advertised(repo.url) == advertised(twin(repo))
    listed = git("ls-remote", repo.url).stdout
    assert os.fsencode(listed).count(name) == 1
    subprocess.run([b"git", b"push", b"-q", b"origin", b":" + name], cwd=git.cwd / "clone", env=home, check=True)
    assert name not in b"".join(advertised(repo.url))


@pytest.mark.rows("FS-43", "FS-42", "FS-61", "HB-56")
def test_a_linked_worktree_shares_refs_objects_and_configuration(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo(config={"extensions.worktreeConfig": "true", "core.repositoryFormatVersion": "1"})
    work = server.root / "linked-tree"
    repo.run("worktree", "add", "-q", str(work), "topic")
    git("update-ref", "refs/bisect/bad", "HEAD", cwd=work)
    git("update-ref", "refs/worktree/mine", "HEAD", cwd=work)
    repo.run("update-ref", "refs/bisect/good", "main")
    private = repo.path / "worktrees/linked-tree"
    (private / "git-daemon-export-ok").touch()
    try:
        for base in (repo.url, f"{repo.url}/worktrees/linked-tree", f"{server.url}/linked-tree"):
            other = base.replace(server.url, twin(repo).rsplit("/", 1)[0], 1)
            assert request(base, "GET", "/HEAD").body == request(other, "GET", "/HEAD").body
            assert advertised(base) == advertised(other)
            assert git("ls-remote", "--symref", base).stdout == git("ls-remote", "--symref", other).stdout
        # A worktree's own file of settings counts for that worktree only.
        (private / "config.worktree").write_text("[http]\n\treceivepack = false\n")
        doors = {
            base: discover(f"{base}/{repo.path.name}{tail}", "receive-pack").status
            for base in (server.url, twin(repo).rsplit("/", 1)[0])
            for tail in ("", "/worktrees/linked-tree")
        }
        assert set(doors.values()) == {403}
        assert discover(repo.url, "receive-pack").status == 200
        clone = git.cwd / "clone"
        git("clone", "-q", f"{repo.url}/worktrees/linked-tree", clone)
        assert git.rev(clone, "HEAD") == repo.rev("topic")
    finally:
        repo.run("worktree", "remove", "--force", str(work))


@pytest.mark.rows("FS-44", "FS-45")
def test_reflogs_are_gits_and_go_with_their_refs(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"core.logAllRefUpdates": "true"})
    git("clone", "-q", repo.url, "clone")
    first = git.commit_file("clone", "x", "1")
    git("push", "-q", "origin", "main:refs/heads/a", cwd="clone")
    second = git.commit_file("clone", "x", "2")
    git("push", "-q", "origin", "main:refs/heads/a", cwd="clone")
    shown = repo.run("reflog", "show", "--format=%H %gs", "refs/heads/a").splitlines()
    assert shown == [f"{second} push", f"{first} push"]
    line = (repo.path / "logs/refs/heads/a").read_text().splitlines()[1]
    assert line.startswith(f"{first} {second} anonymous <anonymous@http.127.0.0.1> 1")
    git("push", "-q", "origin", ":a", cwd="clone")
    assert not (repo.path / "logs/refs/heads/a").exists()
    git("push", "-q", "origin", "main:refs/heads/a/b", cwd="clone")
    assert len(repo.run("reflog", "show", "refs/heads/a/b").splitlines()) == 1
    git("push", "-q", "origin", ":a/b", cwd="clone")
    git("push", "-q", "origin", "main:refs/heads/a", cwd="clone")
    assert len(repo.run("reflog", "show", "refs/heads/a").splitlines()) == 1


@pytest.mark.rows("FS-50", "U0-08", "RP-12", "V2-35")
def test_the_shallow_file_is_read_as_git_reads_it(server: Server, git: Git, twin: Twin) -> None:
    source = server.create_repo("linear")
    path = server.root / "cut.git"
    git("clone", "-q", "--bare", "--depth=3", source.url, path)
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path, {"http.receivepack": "true"})
    boundary = (path / "shallow").read_text().split()
    for service in ("upload-pack", "receive-pack"):
        assert advertised(repo.url, service) == advertised(twin(repo), service)
        assert f"shallow {boundary[0]}".encode() in advertised(repo.url, service)
    # Deepened by plain git beside us: the next request sees it.
    git("fetch", "-q", "--depth=6", source.url, "main", cwd=path)
    assert (path / "shallow").read_text().split() != boundary
    assert advertised(repo.url) == advertised(twin(repo))
    git("clone", "-q", repo.url, "clone")
    assert git("rev-list", "--count", "HEAD", cwd="clone").stdout.strip() == "6"


@pytest.mark.rows("FS-50", "RP-53", "CF-42")
def test_new_shallow_roots_are_recorded_for_git(server: Server, git: Git) -> None:
    source = server.create_repo("linear")
    repo = server.create_repo("empty", config={"receive.shallowUpdate": "true"})
    git("clone", "-q", "--depth=2", source.url, "cut")
    git("push", "-q", repo.url, "main", cwd="cut")
    assert (repo.path / "shallow").read_text().split() == (git.cwd / "cut/.git/shallow").read_text().split()
    assert not (repo.path / "shallow.lock").exists()
    assert repo.run("rev-list", "--count", "main") == "2"


@pytest.mark.rows("FS-51", "U0-67")
def test_grafts_are_followed_in_both_directions(server: Server, git: Git, twin: Twin) -> None:
    """A graft that cuts, and one that joins: the objects that a clone gets are those that git sends."""
    repo = server.create_repo("linear")
    repo.broken = True
    lost = repo.run("commit-tree", "-m", "another root", f"{repo.rev('main')}^{{tree}}")
    cut = repo.rev("main~3")
    (repo.path / "info").mkdir(exist_ok=True)
    for bitmap in repo.path.glob("objects/pack/*.bitmap"):  # with one, git forgets the grafts
        bitmap.unlink()
    for text in (f"{cut}\n", f"# a comment\n{cut} {lost}\n", f"{cut} {repo.rev('main~5')}\n"):
        (repo.path / "info/grafts").write_text(text)
        body = lines(f"want {repo.rev('main')}", FLUSH, "done")
        ours, theirs = (
            pack_objects(git, split_pack_lines(upload(url, body).body)[1]) for url in (repo.url, twin(repo))
        )
        assert theirs == ours
        assert (lost in ours) == (lost in text)


@pytest.mark.rows("FS-64")
def test_a_repository_without_configuration(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    (repo.path / "config").unlink()
    assert advertised(repo.url) == advertised(twin(repo))
    git("clone", "-q", repo.url, "clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")


@pytest.mark.rows("FS-63", "CF-84")
@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("gitdir:PATH/", True),
        ("gitdir:**/NAME", True),
        ("gitdir:elsewhere", False),
        ("gitdir/i:UPPER", True),
        ("onbranch:main", True),
        ("onbranch:m*", True),
        ("onbranch:topic", False),
        ("hasconfig:remote.*.url:https://x.example/**", True),
        ("hasconfig:remote.*.url:https://y.example/**", False),
        ("nosuch:x", False),
    ],
)
def test_conditional_includes(server: Server, twin: Twin, condition: str, holds: bool) -> None:
    repo = server.create_repo(pushable=False, config={"remote.x.url": "https://x.example/r.git"})
    (repo.path / "more.cfg").write_text("[http]\n\treceivepack = true\n[transfer]\n\thideRefs = refs/heads/main\n")
    real = os.path.realpath(repo.path)
    text = condition.replace("PATH", real).replace("NAME", repo.path.name).replace("UPPER", real.upper())
    with (repo.path / "config").open("a") as config:
        config.write(f'[includeIf "{text}"]\n\tpath = more.cfg\n')
    statuses = [discover(url, "receive-pack").status for url in (repo.url, twin(repo))]
    assert statuses == [200 if holds else 403] * 2
    assert advertised(repo.url) == advertised(twin(repo))
    assert any(b"refs/heads/main" in line for line in advertised(repo.url)) != holds


@pytest.mark.rows("FS-69", "FS-36")
def test_head_as_a_symbolic_link(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    (repo.path / "HEAD").unlink()
    (repo.path / "HEAD").symlink_to("refs/heads/topic")
    assert advertised(repo.url) == advertised(twin(repo))
    assert git("ls-remote", "--symref", repo.url).stdout == git("ls-remote", "--symref", twin(repo)).stdout
    git("clone", "-q", repo.url, "clone")
    assert git("symbolic-ref", "HEAD", cwd="clone").stdout.strip() == "refs/heads/topic"


@pytest.mark.rows("FS-67", "FS-76", "FS-60", "FS-66")
def test_files_of_others_are_left_alone(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"gc.autoPackLimit": "2"})
    files = ["gc.pid", "gc.log", "objects/maintenance.lock", "index", "rr-cache/x", "logs/refs/stash", "MERGE_RR"]
    for name in files:
        (repo.path / name).parent.mkdir(parents=True, exist_ok=True)
        (repo.path / name).write_text("mine\n")
        os.utime(repo.path / name, (1_000_000_000, 1_000_000_000))
    git("clone", "-q", repo.url, "clone")
    for number in range(3):
        git.commit_file("clone", "f", str(number))
        git("push", "-q", "origin", "main", cwd="clone")
    for name in files:
        path = repo.path / name
        assert (path.read_text(), int(path.stat().st_mtime)) == ("mine\n", 1_000_000_000)
        path.unlink()


@pytest.mark.rows("HB-60", "HB-59")
def test_both_services_ask_who_owns_the_repository(server: Server, twin: Twin) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository away")
    repo = server.create_repo()
    os.chown(repo.path, 12345, 12345)
    try:
        for service in ("upload-pack", "receive-pack"):
            assert [discover(url, service).status for url in (repo.url, twin(repo))] == [500, 500]
            assert discover(repo.url, service, V2).status == 500
    finally:
        os.chown(repo.path, 0, 0)
