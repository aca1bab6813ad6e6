"""The table in docs/architecture.md ("A snapshot"), line by line: whatever changes, the very next snapshot tells.

A line's test is a generator: between two `yield (look, expected)` it changes something on disk, by plain git or by
hand (overwritten in place with the same size where that can be, and replaced by a rename). Each runs in several worlds:
all changes within one tick of a clock of 4 ms, 1 s and 2 s; with time between them, so that every stamp has settled and
an unchanged repository gives the very same snapshot; and with file systems that give an inode's number away again.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from govc.errors import RepositoryNotFound, RepositoryRefused
from govc.objects.types import BLOB, hash_object
from govc.protocol.oid import SHA1
from govc.repo.runtime import PLAIN
from govc.repo.snapshot import Snapshot
from govc.repo.worktrees import is_checked_out_elsewhere
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.settings import Settings
from tests.repo.worlds import SECOND_NS, Site, World, put, repository, swap

Look = Callable[[Snapshot], Any]
Steps = Iterator[tuple[Look, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    run: Callable[[Site], Steps]
    gitdir: str
    settles: bool


LINES: dict[str, Line] = {}


def line(
    name: str, *, gitdir: str = "r.git", settles: bool = True
) -> Callable[[Callable[[Site], Steps]], Callable[[Site], Steps]]:
    """Register a line. `settles` False: it is read every time, on purpose."""

    def register(run: Callable[[Site], Steps]) -> Callable[[Site], Steps]:
        assert name not in LINES
        LINES[name] = Line(run=run, gitdir=gitdir, settles=settles)
        return run

    return register


WORLDS = {
    "one 4 ms tick": (4_000_000, False, True),
    "one 1 s tick": (SECOND_NS, False, True),
    "one 2 s tick": (2 * SECOND_NS, False, True),
    "settled": (4_000_000, True, True),
    "settled whole seconds": (2 * SECOND_NS, True, True),
    "settled with inodes reused": (4_000_000, True, False),
}
"""Grain, whether time goes by between changes, whether inodes tell files apart."""

WORLDS_FOR_GIT = ("one 4 ms tick", "one 2 s tick", "settled")
"""git takes its time; what it does is also done by hand."""


# What to look at


def head(snapshot: Snapshot) -> bytes | None:
    return snapshot.table.head.symref_target or snapshot.table.head.oid


def refs(snapshot: Snapshot) -> dict[str, bytes]:
    return {ref.name.decode(): ref.oid for ref in snapshot.table.iter_refs()}


def ref(name: str) -> Look:
    return lambda snapshot: snapshot.table.resolve(name.encode())


def target(name: str) -> Look:
    return lambda snapshot: getattr(snapshot.table.get(name.encode()), "symref_target", None)


def value(snapshot: Snapshot) -> str | None:
    return snapshot.config.get("probe.value")


def pack_names(snapshot: Snapshot) -> set[str]:
    return {os.path.basename(pack.path) for pack in snapshot.store.packs}


def packs_on_disk(repo: Path) -> set[str]:
    return {path.name for path in (repo / "objects/pack").glob("*.pack")}


def has(*oids: bytes) -> Look:
    return lambda snapshot: [snapshot.store.find(oid) >= 0 for oid in oids]


def line_of(oid: bytes) -> str:
    return f"{oid.hex()}\n"


def set_value(number: int) -> str:
    return f"[probe]\n\tvalue = {number}\n"


# HEAD and refs


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


# Configuration


def config_by_hand(path: Path) -> Steps:
    """A file that isn't there appears, is overwritten, replaced and removed."""
    before = path.read_text() if path.exists() else ""
    yield value, None
    put(path, before + set_value(1))
    yield value, "1"
    put(path, before + set_value(2))
    yield value, "2"
    swap(path, before + set_value(3))
    yield value, "3"
    path.unlink()
    yield value, None


def config_by_git(site: Site, *where: str | Path) -> Steps:
    yield value, None
    site.git("config", *where, "probe.value", "1")
    yield value, "1"
    site.git("config", *where, "probe.value", "2")
    yield value, "2"
    site.git("config", *where, "--unset", "probe.value")
    yield value, None


@line("config-git")
def config_git(site: Site) -> Steps:
    return config_by_git(site, "--local")


@line("config-hand")
def config_hand(site: Site) -> Steps:
    return config_by_hand(site.repo / "config")


@line("config.worktree-git")
def config_worktree_git(site: Site) -> Steps:
    site.git("config", "extensions.worktreeConfig", "true")
    return config_by_git(site, "--worktree")


@line("config.worktree-hand")
def config_worktree_hand(site: Site) -> Steps:
    site.git("config", "extensions.worktreeConfig", "true")
    return config_by_hand(site.repo / "config.worktree")


@line("included files-git")
def included_git(site: Site) -> Steps:
    site.git("config", "include.path", "included")
    put(site.repo / "included", "")
    return config_by_git(site, "--file", "included")


@line("included files-hand")
def included_hand(site: Site) -> Steps:
    site.git("config", "include.path", "included")
    put(site.repo / "included", "[include]\n\tpath = ../inner\n")
    put(site.folder / "inner", "\n")
    return config_by_hand(site.folder / "inner")


@line("included files that are absent-git")
def absent_included_git(site: Site) -> Steps:
    site.git("config", "include.path", "absent")
    return config_by_git(site, "--file", "absent")


@line("included files that are absent-hand")
def absent_included_hand(site: Site) -> Steps:
    site.git("config", "include.path", "no/such/folder/absent")
    return config_by_hand(site.repo / "no/such/folder/absent")


@line("system configuration-git")
def system_git(site: Site) -> Steps:
    return config_by_git(site, "--system")


@line("system configuration-hand")
def system_hand(site: Site) -> Steps:
    site.system.unlink()
    return config_by_hand(site.system)


@line("global configuration-git")
def global_git(site: Site) -> Steps:
    return config_by_git(site, "--global")


@line("global configuration-hand")
def global_hand(site: Site) -> Steps:
    yield from config_by_hand(site.home / ".gitconfig")
    yield from config_by_hand(site.home / ".config/git/config")


def include_if(site: Site, condition: str) -> None:
    site.git("config", f"includeIf.{condition}.path", "included")
    put(site.repo / "included", set_value(1))


@line("includeIf onbranch-git")
def onbranch_by_git(site: Site) -> Steps:
    include_if(site, "onbranch:dev")
    yield value, None
    site.git("symbolic-ref", "HEAD", "refs/heads/dev")
    yield value, "1"
    site.git("symbolic-ref", "HEAD", "refs/heads/fix")
    yield value, None


@line("includeIf onbranch-hand")
def onbranch_by_hand(site: Site) -> Steps:
    include_if(site, "onbranch:devi")
    yield value, None
    put(site.repo / "HEAD", "ref: refs/heads/devi\n")
    yield value, "1"
    swap(site.repo / "HEAD", "ref: refs/heads/main\n")
    yield value, None


@line("includeIf onbranch, HEAD as a link", settles=False)
def onbranch_link(site: Site) -> Steps:
    include_if(site, "onbranch:dev")
    put(site.repo / "refs/heads/dev", line_of(site.first))
    for branch, expected in (("one", None), ("dev", "1"), ("two", None), ("main", None)):
        site.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        assert (site.repo / "HEAD").is_symlink()
        yield value, expected


@line("includeIf hasconfig-git")
def hasconfig_by_git(site: Site) -> Steps:
    include_if(site, "hasconfig:remote.*.url:https://x/**")
    yield value, None
    site.git("config", "--global", "remote.r.url", "https://x/y")
    yield value, "1"
    site.git("config", "--global", "remote.r.url", "https://z/y")
    yield value, None


@line("includeIf hasconfig-hand")
def hasconfig_by_hand(site: Site) -> Steps:
    include_if(site, "hasconfig:remote.*.url:https://x/**")
    yield value, None
    put(site.home / ".gitconfig", '[remote "r"]\nurl = https://x/y\n')
    yield value, "1"
    swap(site.home / ".gitconfig", '[remote "r"]\nurl = https://z/y\n')
    yield value, None


# Objects


def new_commit(site: Site, text: str, *, cwd: Path | None = None) -> bytes:
    tree = site.git("mktree", cwd=cwd)
    oid = site.commit(text, tree, cwd=cwd)
    site.git("update-ref", f"refs/heads/{text}", oid, cwd=cwd)
    return bytes.fromhex(oid)


@line("objects/pack-git")
def packs_by_git(site: Site) -> Steps:
    yield pack_names, set()
    site.git("repack", "-adq")
    yield pack_names, packs_on_disk(site.repo)
    new = new_commit(site, "new")
    site.git("repack", "-dq")
    assert len(packs_on_disk(site.repo)) == 2
    yield pack_names, packs_on_disk(site.repo)
    site.git("-c", "gc.pruneExpire=now", "gc", "-q")
    assert len(packs_on_disk(site.repo)) == 1
    yield pack_names, packs_on_disk(site.repo)
    yield has(new, site.first), [True, True]


@line("objects/pack-hand")
def packs_by_hand(site: Site) -> Steps:
    folder = site.repo / "objects/pack"
    [pack] = (site.other / "objects/pack").glob("*.pack")
    yield has(site.foreign, site.first), [False, True]
    shutil.copy(pack, folder)
    shutil.copy(pack.with_suffix(".idx"), folder)
    yield has(site.foreign, site.first), [True, True]
    (folder / pack.name).unlink()
    (folder / pack.name).with_suffix(".idx").unlink()
    yield has(site.foreign, site.first), [False, True]
    folder.rename(site.repo / "objects/old")
    shutil.copytree(site.other / "objects/pack", folder)
    yield has(site.foreign, site.first), [True, True]


@line("objects/pack: another pack of the same name")
def pack_replaced(site: Site) -> Steps:
    [foreign] = (site.other / "objects/pack").glob("*.pack")
    path = site.repo / "objects/pack/pack-x.pack"
    for suffix in (".pack", ".idx"):
        put(path.with_suffix(suffix), foreign.with_suffix(suffix).read_bytes())
    yield has(site.foreign), [True]
    new = new_commit(site, "new", cwd=site.other)
    site.git("repack", "-adq", cwd=site.other)
    site.git("update-ref", "-d", "refs/heads/main", cwd=site.other)
    site.git("repack", "-adq", cwd=site.other)
    [foreign] = (site.other / "objects/pack").glob("*.pack")
    for suffix in (".idx", ".pack"):
        swap(path.with_suffix(suffix), foreign.with_suffix(suffix).read_bytes())
    yield has(site.foreign, new), [False, True]


@line("objects/pack: a pack that is completed in place")
def pack_completed(site: Site) -> Steps:
    folder = site.repo / "objects/pack"
    [pack] = (site.other / "objects/pack").glob("*.pack")
    data, index = pack.read_bytes(), pack.with_suffix(".idx").read_bytes()
    path = folder / "pack-x.pack"
    put(path.with_suffix(".idx"), index[:-30])
    put(path, data[:-10])
    yield has(site.foreign), [False]
    put(path, data)
    yield has(site.foreign), [False]
    put(path.with_suffix(".idx"), index)
    yield has(site.foreign), [True]


@line("multi-pack-index")
def multi_pack_index(site: Site) -> Steps:
    site.git("repack", "-adq")
    new = new_commit(site, "new")
    site.git("repack", "-dq")
    yield has(new, site.first), [True, True]
    site.git("multi-pack-index", "write")
    yield pack_names, packs_on_disk(site.repo)
    swap(site.repo / "objects/pack/multi-pack-index", "no such format")
    yield has(new, site.first), [True, True]
    site.git("-c", "core.multiPackIndex=false", "repack", "-adq")
    yield pack_names, packs_on_disk(site.repo)
    yield has(new, site.first), [True, True]


@line("alternates-hand")
def alternates_by_hand(site: Site) -> Steps:
    path = site.repo / "objects/info/alternates"
    yield has(site.foreign), [False]
    put(path, "../../other.git/objects\n")
    yield has(site.foreign), [True]
    put(path, "../../nowhr.git/objects\n")
    yield has(site.foreign), [False]
    swap(path, "../../other.git/objects\n")
    yield has(site.foreign), [True]
    path.unlink()
    yield has(site.foreign), [False]


@line("alternates of alternates")
def alternates_of_alternates(site: Site) -> Steps:
    middle = site.folder / "middle.git"
    site.git("init", "-q", "--bare", middle)
    put(site.repo / "objects/info/alternates", f"{middle}/objects\n")
    yield has(site.foreign), [False]
    put(middle / "objects/info/alternates", "../../other.git/objects\n")
    yield has(site.foreign), [True]
    swap(middle / "objects/info/alternates", "../../nowhr.git/objects\n")
    yield has(site.foreign), [False]


@line("an alternate that is absent")
def absent_alternate(site: Site) -> Steps:
    put(site.repo / "objects/info/alternates", "../../later.git/objects\n")
    yield has(site.foreign), [False]
    site.git("clone", "-q", "--bare", "--no-local", site.other, site.folder / "later.git")
    yield has(site.foreign), [True]
    (site.folder / "later.git").rename(site.folder / "gone.git")
    yield has(site.foreign), [False]


@line("packs of an alternate")
def packs_of_an_alternate(site: Site) -> Steps:
    put(site.repo / "objects/info/alternates", "../../other.git/objects\n")
    yield has(site.foreign), [True]
    new = new_commit(site, "new", cwd=site.other)
    yield has(site.foreign, new), [True, True]
    site.git("repack", "-adq", cwd=site.other)
    yield pack_names, packs_on_disk(site.other)
    shutil.rmtree(site.other / "objects/pack")
    yield has(site.foreign, new), [False, False]


def tips(snapshot: Snapshot) -> set[bytes]:
    return set(snapshot.alternate_tips)


@line("refs of an alternate-git")
def refs_of_an_alternate_git(site: Site) -> Steps:
    yield tips, set()
    put(site.repo / "objects/info/alternates", "../../other.git/objects\n")
    yield tips, {site.foreign}
    new = new_commit(site, "new", cwd=site.other)
    yield tips, {site.foreign, new}
    site.git("update-ref", "-d", "refs/heads/main", cwd=site.other)
    yield tips, {new}
    site.git("pack-refs", "--all", cwd=site.other)
    yield tips, {new}


@line("refs of an alternate-hand")
def refs_of_an_alternate_hand(site: Site) -> Steps:
    put(site.repo / "objects/info/alternates", "../../other.git/objects\n")
    yield tips, {site.foreign}
    put(site.other / "refs/heads/main", line_of(site.first))
    yield tips, {site.first}
    swap(site.other / "packed-refs", f"{site.second.hex()} refs/heads/p\n")
    yield tips, {site.first, site.second}
    (site.other / "refs").rename(site.other / "gone")
    yield tips, set()


@line("loose objects")
def loose_objects(site: Site) -> Steps:
    oids = [hash_object(SHA1, BLOB, text) for text in (b"one", b"two")]
    yield has(*oids), [False, False]
    site.git("hash-object", "-w", "--stdin", stdin=b"one")
    yield has(*oids), [True, False]
    site.git("hash-object", "-w", "--stdin", stdin=b"two", cwd=site.other)
    name = oids[1].hex()
    put(site.repo / "objects" / name[:2] / name[2:], (site.other / "objects" / name[:2] / name[2:]).read_bytes())
    yield has(*oids), [True, True]
    site.git("prune", "--expire=now")
    yield has(*oids), [False, False]


@line("commit-graph")
def commit_graph(site: Site) -> Steps:
    def parents(snapshot: Snapshot) -> list[tuple[bytes, ...]]:
        found = snapshot.commits
        number = snapshot.store.find(site.second)
        return [tuple(snapshot.store.oid_of(parent) for parent in found.parents(number))]

    yield parents, [()]
    site.git("commit-graph", "write", "--reachable")
    yield parents, [()]
    swap(site.repo / "objects/info/commit-graph", "no such format")
    yield parents, [()]


# Boundaries


def shallow(snapshot: Snapshot) -> set[bytes]:
    return set(snapshot.shallow)


@line("shallow-git")
def shallow_by_git(site: Site) -> Steps:
    yield shallow, set()
    tree = site.git("mktree", cwd=site.other)
    tip = site.git("commit-tree", "-m", "tip", "-p", site.foreign.hex(), tree, cwd=site.other)
    site.git("update-ref", "refs/heads/main", tip, cwd=site.other)
    site.git("fetch", "-q", "--depth=1", f"file://{site.other}", "main")
    yield shallow, {bytes.fromhex(tip)}
    site.git("fetch", "-q", "--unshallow", f"file://{site.other}", "main")
    yield shallow, set()


@line("shallow-hand")
def shallow_by_hand(site: Site) -> Steps:
    path = site.repo / "shallow"
    yield shallow, set()
    put(path, line_of(site.first))
    yield shallow, {site.first}
    put(path, line_of(site.second))
    yield shallow, {site.second}
    swap(path, line_of(site.first))
    yield shallow, {site.first}
    path.unlink()
    yield shallow, set()


def grafts(snapshot: Snapshot) -> dict[bytes, tuple[bytes, ...]]:
    return dict(snapshot.grafts)


@line("info/grafts-git")
def grafts_by_git(site: Site) -> Steps:
    put(site.repo / "info/grafts", f"{site.second.hex()} {site.first.hex()}\n")
    yield grafts, {site.second: (site.first,)}
    site.git("replace", "--convert-graft-file")
    yield grafts, {}


@line("info/grafts-hand")
def grafts_by_hand(site: Site) -> Steps:
    path = site.repo / "info/grafts"
    yield grafts, {}
    put(path, f"{site.second.hex()} {site.first.hex()}\n")
    yield grafts, {site.second: (site.first,)}
    put(path, f"{site.first.hex()} {site.second.hex()}\n")
    yield grafts, {site.first: (site.second,)}
    swap(path, f"{site.second.hex()} {site.first.hex()}\n")
    yield grafts, {site.second: (site.first,)}
    shutil.rmtree(site.repo / "info")
    yield grafts, {}


# The lines in their worlds


CASES = [(name, world) for name in LINES for world in WORLDS if world in WORLDS_FOR_GIT or not name.endswith("-git")]


@pytest.mark.parametrize(("name", "world_name"), CASES, ids=(f"{name}-{world}" for name, world in CASES))
def test_the_next_snapshot_sees(name: str, world_name: str, site: Site) -> None:
    spec = LINES[name]
    grain_ns, has_time, with_inodes = WORLDS[world_name]
    world = World(site.folder, grain_ns, with_inodes=with_inodes)
    watched = None
    for number, (look, expected) in enumerate(spec.run(site)):
        watched = watched or repository(site.folder / spec.gitdir, site.environ, world)
        assert expected == look(watched.snapshot()), f"step {number}"
        if has_time:
            world.advance()
            snapshot = watched.snapshot()
            assert expected == look(snapshot), f"step {number}, later"
            if spec.settles:
                assert snapshot is watched.snapshot()


# The folder itself, its owner and its marker: looked at by each request


@pytest.fixture
def backend(site: Site) -> Backend:
    return Backend(Settings(root=str(site.folder), helper_processes_max=0), PLAIN, site.environ)


def opened(backend: Backend, name: str = "r.git") -> Snapshot:
    return backend.open(f"/{name}", context=RequestContext(service=UPLOAD_PACK)).snapshot


def export(*folders: Path) -> None:
    for folder in folders:
        put(folder / "git-daemon-export-ok", "")


def test_the_export_marker_counts_at_once(site: Site, backend: Backend) -> None:
    for _ in range(2):
        with pytest.raises(RepositoryNotFound):
            opened(backend)
        export(site.repo)
        assert opened(backend) is not None
        (site.repo / "git-daemon-export-ok").unlink()


def test_another_owner_is_refused_at_once(site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    export(site.repo)
    assert opened(backend) is not None
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(RepositoryRefused):
        opened(backend)
    site.git("config", "--global", "safe.directory", site.repo)
    assert opened(backend) is not None


def test_a_deleted_repository_is_gone_at_once(site: Site, backend: Backend) -> None:
    export(site.repo)
    opened(backend)
    shutil.rmtree(site.repo)
    with pytest.raises(RepositoryNotFound):
        opened(backend)


def test_a_renamed_repository_is_at_its_new_path_only(site: Site, backend: Backend) -> None:
    export(site.repo)
    site.git("config", f"includeIf.gitdir:{site.folder}/new.git.path", "included")
    put(site.repo / "included", set_value(1))
    assert value(opened(backend)) is None
    site.repo.rename(site.folder / "new.git")
    with pytest.raises(RepositoryNotFound):
        opened(backend)
    assert value(opened(backend, "new.git")) == "1"


@pytest.mark.parametrize("is_inode_reused", [False, True])
def test_a_repository_replaced_at_the_same_path_is_another(
    is_inode_reused: bool, site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_inode_reused:
        monkeypatch.setattr("govc.repo.pool.identity_of", lambda gitdir: (1, 1))
        monkeypatch.setattr("govc.repo.repository.identity_of", lambda gitdir: (1, 1))
    export(site.repo, site.other)
    assert has(site.first, site.foreign)(opened(backend)) == [True, False]
    site.repo.rename(site.folder / "old.git")
    site.other.rename(site.repo)
    snapshot = opened(backend)
    assert has(site.first, site.foreign)(snapshot) == [False, True]
    assert {"refs/heads/main": site.foreign} == refs(snapshot)
    shutil.rmtree(site.repo)
    site.git("init", "-q", "--bare", "--object-format=sha256", site.repo, cwd=site.folder)
    export(site.repo)
    snapshot = opened(backend)
    assert (snapshot.algo.name, refs(snapshot)) == ("sha256", {})


def test_a_link_to_a_repository_leads_elsewhere_at_once(site: Site, backend: Backend) -> None:
    export(site.repo, site.other)
    link = site.folder / "link.git"
    for folder, oid in ((site.repo, site.first), (site.other, site.foreign)):
        link.symlink_to(folder)
        assert oid == ref("refs/heads/main")(opened(backend, "link.git"))
        link.unlink()
