"""Linked worktrees in both backends: whose HEAD, whose refs, and which branches may not be pushed to."""

import shutil
from pathlib import Path

import pytest

from govc.protocol.oid import SHA1
from govc.refs.backend import FilesBackend, LogUpdates, RefBackend, Reflogging, ReftableBackend, WriteOptions
from govc.refs.plan import ANY, RefUpdate
from govc.repo.worktrees import is_checked_out_elsewhere
from tests.repo.test_watching_reftable import make_stack
from tests.repo.watch_lines import head, ref, refs
from tests.repo.worlds import Site, put, repository


def set_refs(backend: RefBackend, *values: tuple[bytes, bytes]) -> None:
    reflogging = Reflogging(committer=b"C <c@example.com>", message=b"x", updates=LogUpdates.NONE)
    with backend.begin(WriteOptions(fsync=False), reflogging, None) as transaction:
        for name, oid in values:
            transaction.add(RefUpdate(name, ANY, oid))
        assert transaction.prepare() == {} == transaction.commit()


def add_worktree(repo: Path, site: Site, backend_kind: type[FilesBackend] | type[ReftableBackend]) -> RefBackend:
    """What `git worktree add` makes of the git folder, with its HEAD on refs/heads/side."""
    gitdir = repo / "worktrees/w"
    put(gitdir / "commondir", "../..\n")
    put(gitdir / "gitdir", f"{site.folder}/w/.git\n")
    if backend_kind is FilesBackend:
        put(gitdir / "HEAD", "ref: refs/heads/side\n")
    else:
        put(gitdir / "HEAD", "ref: refs/heads/.invalid\n")
        put(gitdir / "refs/heads", "this repository uses the reftable format\n")
    backend = backend_kind(str(gitdir), str(repo), SHA1)
    backend.set_symref(b"HEAD", b"refs/heads/side", WriteOptions(fsync=False))
    return backend


@pytest.fixture(params=[FilesBackend, ReftableBackend])
def kind(request: pytest.FixtureRequest) -> type[FilesBackend] | type[ReftableBackend]:
    return request.param


@pytest.fixture
def repo(site: Site, kind: type) -> Path:
    if kind is ReftableBackend:
        return make_stack(site)
    path = site.folder / "t.git"
    shutil.copytree(site.repo, path)
    site.git("update-ref", "-d", "refs/heads/packed", cwd=path)
    return path


@pytest.mark.rows("FS-42", "FS-43")
def test_each_worktree_has_its_own_head_and_refs(site: Site, repo: Path, kind: type) -> None:
    own = add_worktree(repo, site, kind)
    main = kind(str(repo), str(repo), SHA1)
    set_refs(own, (b"refs/worktree/mine", site.second), (b"refs/heads/side", site.second))
    set_refs(main, (b"refs/worktree/mains", site.first), (b"refs/bisect/bad", site.first))
    served = repository(repo / "worktrees/w", site.environ).snapshot()
    bare = repository(repo, site.environ).snapshot()
    assert head(served) == b"refs/heads/side"
    assert head(bare) == b"refs/heads/main"
    assert {"refs/worktree/mine", "refs/heads/side", "refs/heads/main"} <= set(refs(served))
    assert not {"refs/worktree/mains", "refs/bisect/bad"} & set(refs(served))
    assert {"refs/worktree/mains", "refs/bisect/bad", "refs/heads/side"} <= set(refs(bare))
    assert "refs/worktree/mine" not in refs(bare)
    assert ref("refs/heads/side")(bare) == site.second
    set_refs(own, (b"refs/worktree/mine", SHA1.zero))
    assert "refs/worktree/mine" not in refs(repository(repo / "worktrees/w", site.environ).snapshot())


@pytest.mark.rows("RP-43")
def test_which_branches_are_checked_out(site: Site, repo: Path, kind: type) -> None:
    layout = repository(repo, site.environ).snapshot().layout
    assert not is_checked_out_elsewhere(layout, b"refs/heads/side")
    own = add_worktree(repo, site, kind)
    assert is_checked_out_elsewhere(layout, b"refs/heads/side")
    assert not is_checked_out_elsewhere(layout, b"refs/heads/main")
    own.set_symref(b"HEAD", b"refs/heads/main", WriteOptions(fsync=False))
    assert is_checked_out_elsewhere(layout, b"refs/heads/main")
    assert not is_checked_out_elsewhere(layout, b"refs/heads/side")


@pytest.mark.rows("RP-43")
def test_the_main_worktree_counts_for_a_push_into_a_linked_one(site: Site, repo: Path, kind: type) -> None:
    add_worktree(repo, site, kind)
    for is_bare, expected in (("true", False), ("false", True)):
        config = (repo / "config").read_text()
        (repo / "config").write_text(config.replace("bare = true", f"bare = {is_bare}"))
        layout = repository(repo / "worktrees/w", site.environ).snapshot().layout
        assert expected == is_checked_out_elsewhere(layout, b"refs/heads/main")


@pytest.mark.rows("RP-43")
def test_a_branch_that_is_being_rebased_or_bisected_is_taken(site: Site) -> None:
    """As git's own `git branch -f` sees it, which asks the same question."""
    tree = site.folder / "w"
    site.git("worktree", "add", "-q", "-b", "side", tree, "main")
    gitdir = site.repo / "worktrees/w"
    site.git("checkout", "-q", "--detach", cwd=tree)
    layout = repository(site.repo, site.environ).snapshot().layout
    name = b"refs/heads/side"
    for files, expected in (
        ({}, False),
        ({"rebase-merge/head-name": "refs/heads/side\n", "rebase-merge/interactive": ""}, True),
        ({"rebase-merge/head-name": "refs/heads/other\n", "rebase-merge/interactive": ""}, False),
        ({"rebase-apply/head-name": "refs/heads/side\n", "rebase-apply/rebasing": ""}, True),
        ({"rebase-apply/head-name": "refs/heads/side\n", "rebase-apply/applying": ""}, False),
        ({"BISECT_START": "side\n", "BISECT_LOG": ""}, True),
        ({"BISECT_START": "side\n"}, False),
    ):
        for path, text in files.items():
            put(gitdir / path, text)
        assert expected == is_checked_out_elsewhere(layout, name), files
        assert expected == is_taken_for_git(site), files
        for path in files:
            (gitdir / path).unlink()
        for folder in "rebase-merge", "rebase-apply":
            shutil.rmtree(gitdir / folder, ignore_errors=True)


def is_taken_for_git(site: Site) -> bool:
    try:
        site.git("branch", "-f", "side", "main")
    except AssertionError as error:
        assert "side" in str(error)
        return True
    return False
