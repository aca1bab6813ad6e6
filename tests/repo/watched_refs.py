"""Lines about HEAD, refs and worktrees (`watch_lines`)."""

import shutil

from govc.repo.snapshot import Snapshot
from govc.repo.worktrees import is_checked_out_elsewhere
from tests.repo.watch_lines import Steps, head, line, line_of, ref, refs, target
from tests.repo.worlds import Site, put, swap


@line("HEAD-git")
def head_by_git(site: Site) -> Steps:
    yield head, b"refs/heads/main"
    site.git("symbolic-ref", "HEAD", "refs/heads/packed")
    yield head, b"refs/heads/packed"
    site.git("update-ref", "--no-deref", "HEAD", site.second.hex())
    yield head, site.second


@line("HEAD-hand")
def head_by_hand(site: Site) -> Steps:
    yield head, b"refs/heads/main"
    put(site.repo / "HEAD", "ref: refs/heads/side\n")
    yield head, b"refs/heads/side"
    swap(site.repo / "HEAD", "ref: refs/heads/main\n")
    yield head, b"refs/heads/main"
    (site.repo / "HEAD").unlink()
    yield head, None


@line("HEAD as a link-git", settles=False)
def head_link_by_git(site: Site) -> Steps:
    yield head, b"refs/heads/main"
    site.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "HEAD", "refs/heads/one")
    assert (site.repo / "HEAD").is_symlink()
    yield head, b"refs/heads/one"
    site.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "HEAD", "refs/heads/two")
    yield head, b"refs/heads/two"
    site.git("symbolic-ref", "HEAD", "refs/heads/two")
    site.git("symbolic-ref", "HEAD", "refs/heads/one")
    yield head, b"refs/heads/one"


@line("HEAD as a link-hand", settles=False)
def head_link_by_hand(site: Site) -> Steps:
    (site.repo / "HEAD").unlink()
    (site.repo / "HEAD").symlink_to("refs/heads/main")
    yield head, b"refs/heads/main"
    (site.repo / "HEAD").unlink()
    (site.repo / "HEAD").symlink_to("refs/heads/none")
    yield head, b"refs/heads/none"
    swap(site.repo / "HEAD", "ref: refs/heads/main\n")
    yield head, b"refs/heads/main"


@line("packed-refs-git")
def packed_refs_by_git(site: Site) -> Steps:
    before = {"refs/tags/second": site.second, "refs/tags/tag": site.tag}
    yield refs, before | {"refs/heads/main": site.first, "refs/heads/packed": site.first}
    site.git("update-ref", "-d", "refs/heads/packed")
    yield refs, before | {"refs/heads/main": site.first}
    site.git("pack-refs", "--all")
    yield refs, before | {"refs/heads/main": site.first}
    site.git("update-ref", "-d", "refs/heads/main")
    yield refs, before


@line("packed-refs-hand")
def packed_refs_by_hand(site: Site) -> Steps:
    path = site.repo / "packed-refs"
    old = path.read_text()
    new = old.replace(f"{site.first.hex()} refs/heads", f"{site.second.hex()} refs/heads")
    yield ref("refs/heads/packed"), site.first
    put(path, new)
    yield ref("refs/heads/packed"), site.second
    swap(path, old)
    yield ref("refs/heads/packed"), site.first
    path.unlink()
    yield ref("refs/heads/packed"), None
    put(path, new)
    yield ref("refs/heads/packed"), site.second


@line("folders below refs-git")
def ref_folders_by_git(site: Site) -> Steps:
    site.git("update-ref", "refs/heads/a/b/c", site.first.hex())
    yield ref("refs/heads/a/b/c"), site.first
    site.git("update-ref", "refs/heads/a/b/d", site.second.hex())
    yield ref("refs/heads/a/b/d"), site.second
    site.git("update-ref", "-d", "refs/heads/a/b/c")
    site.git("update-ref", "-d", "refs/heads/a/b/d")
    site.git("update-ref", "refs/heads/a", site.second.hex())
    yield ref("refs/heads/a"), site.second
    site.git("update-ref", "refs/changes/01/1/1", site.first.hex())
    yield ref("refs/changes/01/1/1"), site.first


@line("folders below refs-hand")
def ref_folders_by_hand(site: Site) -> Steps:
    heads = site.repo / "refs/heads"
    yield ref("refs/heads/a/b"), None
    put(heads / "a/b", line_of(site.first))
    yield ref("refs/heads/a/b"), site.first
    (heads / "a").rename(heads / "c")
    yield (lambda snapshot: [ref(f"refs/heads/{name}/b")(snapshot) for name in "ac"]), [None, site.first]
    put(site.repo / "refs.new/heads/main", line_of(site.second))
    (site.repo / "refs").rename(site.repo / "refs.old")
    (site.repo / "refs.new").rename(site.repo / "refs")
    yield (lambda snapshot: [ref(f"refs/heads/{name}")(snapshot) for name in ("main", "c/b")]), [site.second, None]
    shutil.rmtree(site.repo / "refs/heads")
    yield ref("refs/heads/main"), None


@line("loose refs-git")
def loose_refs_by_git(site: Site) -> Steps:
    yield ref("refs/heads/main"), site.first
    site.git("update-ref", "refs/heads/main", site.second.hex())
    yield ref("refs/heads/main"), site.second
    site.git("update-ref", "refs/heads/main", site.first.hex())
    yield ref("refs/heads/main"), site.first
    site.git("update-ref", "refs/heads/packed", site.second.hex())
    yield ref("refs/heads/packed"), site.second
    site.git("pack-refs", "--all")
    yield ref("refs/heads/packed"), site.second
    site.git("update-ref", "-d", "refs/heads/main")
    yield ref("refs/heads/main"), None


@line("loose refs-hand")
def loose_refs_by_hand(site: Site) -> Steps:
    path = site.repo / "refs/heads/main"
    yield ref("refs/heads/main"), site.first
    put(path, line_of(site.second))
    yield ref("refs/heads/main"), site.second
    swap(path, line_of(site.first))
    yield ref("refs/heads/main"), site.first
    put(path, "ref: refs/tags/second\n")
    yield target("refs/heads/main"), b"refs/tags/second"
    path.unlink()
    yield ref("refs/heads/main"), None


def make_resolvable(site: Site, *names: str) -> None:
    """A link whose text is a refname is listed by git, too, if the same text leads somewhere on disk."""
    for name in names:
        put(site.repo / "refs/heads" / name, line_of(site.first))


@line("refs as links-git")
def ref_links_by_git(site: Site) -> Steps:
    make_resolvable(site, "refs/heads/main", "refs/heads/packed")
    site.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    assert (site.repo / "refs/heads/alias").is_symlink()
    yield target("refs/heads/alias"), b"refs/heads/main"
    site.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "refs/heads/alias", "refs/heads/packed")
    yield target("refs/heads/alias"), b"refs/heads/packed"
    site.git("update-ref", "refs/heads/packed", site.second.hex())
    yield ref("refs/heads/alias"), site.second


@line("refs as links-hand")
def ref_links_by_hand(site: Site) -> Steps:
    make_resolvable(site, "refs/heads/main", "refs/heads/packed")
    alias = site.repo / "refs/heads/alias"
    alias.symlink_to("refs/heads/main")
    yield target("refs/heads/alias"), b"refs/heads/main"
    alias.unlink()
    alias.symlink_to("refs/heads/packed")
    yield target("refs/heads/alias"), b"refs/heads/packed"
    alias.unlink()
    alias.symlink_to("../tags/plain")
    put(site.repo / "refs/tags/plain", line_of(site.first))
    yield ref("refs/heads/alias"), site.first
    put(site.repo / "refs/tags/plain", line_of(site.second))
    yield ref("refs/heads/alias"), site.second


@line("links that lead nowhere", settles=False)
def dangling_links(site: Site) -> Steps:
    (site.repo / "refs/tags/alias").symlink_to("../heads/later")
    yield ref("refs/tags/alias"), None
    site.git("update-ref", "refs/heads/later", site.second.hex())
    yield ref("refs/tags/alias"), site.second
    (site.repo / "refs/heads/later").unlink()
    yield ref("refs/tags/alias"), None
    put(site.repo / "refs/heads/later", line_of(site.first))
    yield ref("refs/tags/alias"), site.first


# Worktrees


@line("commondir-hand", gitdir="r.git/worktrees/w")
def commondir_by_hand(site: Site) -> Steps:
    site.git("worktree", "add", "-q", "-b", "side", site.folder / "w", "main")
    commondir = site.repo / "worktrees/w/commondir"
    yield ref("refs/heads/main"), site.first
    put(commondir, "../../../other.git\n")
    yield ref("refs/heads/main"), site.foreign
    swap(commondir, "../..\n")
    yield ref("refs/heads/main"), site.first


@line("HEAD of worktrees-git", gitdir="r.git/worktrees/w")
def worktree_heads_by_git(site: Site) -> Steps:
    tree = site.folder / "w"
    site.git("worktree", "add", "-q", "-b", "side", tree, "main")
    yield head, b"refs/heads/side"
    site.git("switch", "-q", "packed", cwd=tree)
    yield head, b"refs/heads/packed"
    site.git("update-ref", "refs/worktree/mine", site.second.hex(), cwd=tree)
    yield ref("refs/worktree/mine"), site.second


def checked_out(snapshot: Snapshot) -> list[bool]:
    names = (b"refs/heads/main", b"refs/heads/side", b"refs/heads/packed")
    return [is_checked_out_elsewhere(snapshot.layout, name) for name in names]


@line("HEAD of worktrees-hand")
def worktree_heads_by_hand(site: Site) -> Steps:
    yield checked_out, [False, False, False]
    site.git("worktree", "add", "-q", "-b", "side", site.folder / "w", "main")
    yield checked_out, [False, True, False]
    put(site.repo / "worktrees/w/HEAD", "ref: refs/heads/main\n")
    yield checked_out, [True, False, False]
    swap(site.repo / "worktrees/w/HEAD", "ref: refs/heads/packed\n")
    yield checked_out, [False, False, True]
    site.git("worktree", "remove", "--force", site.folder / "w")
    yield checked_out, [False, False, False]
