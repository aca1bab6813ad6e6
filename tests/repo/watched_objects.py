"""Lines about packs, loose objects, alternates, the commit-graph and boundaries (`watch_lines`)."""

import shutil
from pathlib import Path

from govc.objects.types import BLOB, hash_object
from govc.protocol.oid import SHA1
from govc.repo.snapshot import Snapshot
from tests.repo.watch_lines import Steps, has, line, line_of, pack_names, packs_on_disk, tips
from tests.repo.worlds import Site, put, swap


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
