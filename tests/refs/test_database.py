import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from govc.kernels.stamps import Stamps
from govc.protocol.oid import SHA1
from govc.refs import loose
from govc.refs.database import RefDatabase
from govc.refs.pack_refs import pack_refs
from govc.refs.table import Ref
from govc.watch import signature_of

FAR_FUTURE_NS = 1 << 62
SIGNATURE = signature_of


def settled_database(repo):
    """A database whose clock makes every stamp look old."""
    return repo.database(clock_ns=lambda: FAR_FUTURE_NS)


def listed(database):
    return {ref.name.decode(): ref.oid.hex() for ref in database.load().table.iter_refs()}


def test_loose_packed_and_symbolic_refs_are_what_git_lists(repo):
    for name in "heads/main", "heads/a/b", "tags/t":
        repo.git("update-ref", f"refs/{name}", (repo.tag if name == "tags/t" else repo.first).hex())
    repo.git("pack-refs", "--all")
    repo.git("update-ref", "refs/heads/main", repo.second.hex())
    repo.git("symbolic-ref", "refs/heads/s", "refs/heads/a/b")
    repo.git("symbolic-ref", "refs/heads/dangling", "refs/heads/none")
    os.symlink("refs/heads/main", repo.path / "refs/heads/legacy")
    os.makedirs(repo.path / "refs/heads/refs/heads")
    (repo.path / "refs/heads/refs/heads/main").write_text(repo.first.hex())
    (repo.path / "FETCH_HEAD").write_text(repo.first.hex())
    table = repo.database().load().table
    found = {ref.name.decode(): ref.oid.hex() for ref in table.iter_refs()}
    assert repo.refs() == found
    assert sorted(found) == list(found)
    assert Ref(b"refs/tags/t", repo.tag, repo.first, None) == table.get(b"refs/tags/t")
    assert table.get(b"refs/heads/legacy").symref_target == b"refs/heads/main"
    assert (b"refs/heads/main", repo.second, False) == table.head
    assert table.get(b"FETCH_HEAD") is None


def test_unborn_detached_and_missing_heads(repo):
    assert repo.database().load().table.head == (b"refs/heads/main", None, False)
    repo.git("update-ref", "--no-deref", "HEAD", repo.first.hex())
    assert (None, repo.first, True) == repo.database().load().table.head
    (repo.path / "HEAD").unlink()
    assert repo.database().load().table.head == (None, None, False)
    os.symlink("refs/heads/x", repo.path / "HEAD")
    assert repo.database().load().table.head == (b"refs/heads/x", None, False)
    (repo.path / "HEAD").unlink()
    (repo.path / "HEAD").write_text("ref: HEAD\n")
    assert repo.database().load().table.head.oid is None


def test_odd_files_are_skipped_or_broken_and_nothing_leaks(repo, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0\n")
    heads = repo.path / "refs/heads"
    os.symlink(secret, heads / "p")
    os.symlink(tmp_path, heads / "d")
    os.symlink("nowhere", heads / "gone")
    os.mkfifo(heads / "pipe")
    (heads / "a.lock").write_text(repo.first.hex())
    (heads / "bad..name").write_text(repo.first.hex())
    (heads / "zero").write_text("0" * 40)
    (heads / "no-lf").write_text(repo.first.hex())
    (heads / "blanks").write_text(repo.first.hex() + "  \n")
    with open(os.fsencode(heads) + b"/\xff", "wb") as file:
        file.write(repo.first.hex().encode() + b"\n")
    table = repo.database().load().table
    names = [b"refs/heads/blanks", b"refs/heads/no-lf", b"refs/heads/\xff"]
    assert names == [ref.name for ref in table.iter_refs()]
    broken = {b"refs/heads/p", b"refs/heads/pipe", b"refs/heads/zero"}
    assert broken == {name for name, _ in table.broken}
    assert "root" not in repr((table.broken, table.warnings))
    assert len(table.warnings) == 2


CHANGES = {
    "git makes a ref": lambda r: r.git("update-ref", "refs/heads/new/x", r.first.hex()),
    "git moves a ref": lambda r: r.git("update-ref", "refs/heads/main", r.second.hex()),
    "git deletes a ref": lambda r: r.git("update-ref", "-d", "refs/heads/main"),
    "git deletes a packed ref": lambda r: r.git("update-ref", "-d", "refs/heads/packed"),
    "git points HEAD elsewhere": lambda r: r.git("symbolic-ref", "HEAD", "refs/heads/packed"),
    "a hand overwrites in place": lambda r: (r.path / "refs/heads/main").write_text(r.second.hex() + "\n"),
    "a hand removes packed-refs": lambda r: (r.path / "packed-refs").unlink(),
    "a hand overwrites HEAD": lambda r: (r.path / "HEAD").write_text("ref: refs/heads/packed\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_seen_once_and_then_settles(repo, change):
    repo.git("update-ref", "refs/heads/packed", repo.first.hex())
    repo.git("pack-refs", "--all")
    repo.git("update-ref", "refs/heads/main", repo.first.hex())
    database = settled_database(repo)
    state = database.load()
    assert database.is_current(state)
    change(repo)
    assert not database.is_current(state)
    new = database.load(state)
    assert state.table is not new.table
    assert database.is_current(new)
    assert repo.refs() == {ref.name.decode(): ref.oid.hex() for ref in new.table.iter_refs()}
    assert new.table is database.load(new).table


@pytest.mark.parametrize("grain_ns", [4_000_000, 1_000_000_000, 2_000_000_000])
def test_a_write_within_one_tick_is_seen_on_a_coarse_clock(repo, grain_ns):
    repo.git("update-ref", "refs/heads/main", repo.first.hex())
    frozen_ns = 1_700_000_000_000_000_000

    def coarse_stat(path):
        real = os.stat(path)
        stamp = frozen_ns // grain_ns * grain_ns
        return SimpleNamespace(
            st_dev=real.st_dev,
            st_ino=real.st_ino,
            st_size=real.st_size,
            st_mode=real.st_mode,
            st_mtime_ns=stamp,
            st_ctime_ns=stamp,
        )

    now = [frozen_ns]
    database = repo.database(stat=coarse_stat, clock_ns=lambda: now[0])
    state = database.load()
    assert not database.is_current(state)
    (repo.path / "refs/heads/main").write_text(repo.second.hex() + "\n")
    assert repo.second == database.load(state).table.resolve(b"refs/heads/main")
    now[0] += 3_000_000_000
    assert database.is_current(database.load(state))


def test_unsettled_but_unchanged_gives_the_same_table(repo):
    database = repo.database(clock_ns=lambda: 0)
    state = database.load()
    assert not database.is_current(state)
    assert state.table is database.load(state).table


def test_a_linked_worktree_shares_refs_and_keeps_its_own(repo, tmp_path):
    repo.git("update-ref", "refs/heads/main", repo.first.hex())
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "w"), "main")
    gitdir = next((repo.path / "worktrees").iterdir())
    os.makedirs(gitdir / "refs/bisect")
    (gitdir / "refs/bisect/bad").write_text(repo.first.hex() + "\n")
    own = RefDatabase(str(gitdir), str(repo.path), SHA1)
    assert {"refs/heads/main", "refs/heads/side", "refs/bisect/bad"} == set(listed(own))
    assert own.load().table.head.symref_target == b"refs/heads/side"
    assert {"refs/heads/main", "refs/heads/side"} == set(listed(repo.database()))


@pytest.mark.parametrize("name", [b"refs/../config", b"config", b"/etc/passwd", b"refs/heads/..", b"refs/a\0b"])
def test_paths_never_leave_the_repository(repo, name):
    with pytest.raises(ValueError):
        repo.database().path_of(name)


def test_packing_is_what_git_packs(repo):
    repo.git("update-ref", "refs/heads/a/b", repo.first.hex())
    repo.git("update-ref", "refs/tags/t", repo.tag.hex())
    repo.git("symbolic-ref", "refs/heads/s", "refs/heads/a/b")
    before = repo.refs()
    assert pack_refs(repo.database(), repo.peel, sleep=lambda seconds: None, fsync=True) == 2
    ours = (repo.path / "packed-refs").read_bytes()
    assert before == repo.refs() == listed(repo.database())
    assert os.listdir(repo.path / "refs/heads") == ["s"]
    repo.git("pack-refs", "--all")
    assert (repo.path / "packed-refs").read_bytes() == ours
    repo.git("fsck")
    assert pack_refs(repo.database(), repo.peel, sleep=lambda seconds: None) == 0


def test_a_locked_loose_ref_is_packed_and_stays_loose(repo):
    repo.git("update-ref", "refs/heads/a", repo.first.hex())
    Path(repo.path / "refs/heads/a.lock").touch()
    assert pack_refs(repo.database(), repo.peel, sleep=lambda seconds: None) == 0
    assert (repo.path / "refs/heads/a").exists()
    assert repo.first == repo.database().read_packed().get(b"refs/heads/a")


@pytest.mark.parametrize("is_exact", [True, False])
def test_what_was_changed_just_now_is_read_once_more_where_its_folder_is_known(repo, monkeypatch, is_exact):
    """Where folders show each change only the young file is read; what it says counts, whatever its stamps are."""
    monkeypatch.setattr("govc.watch.shows_each_change", lambda _: is_exact)
    repo.git("update-ref", "refs/heads/new", repo.first.hex())
    new = repo.path / "refs/heads/new"
    now = os.stat(new).st_ctime_ns
    clock = [now]
    database = repo.database(clock_ns=lambda: clock[0], grain_ns=1)
    state = database.load()
    assert database.is_current(state) is is_exact
    if is_exact:
        new.write_text(f"{repo.second.hex()}\n")
        assert not database.is_current(state)
        asked = state.loose._asked
        asked[:] = [asked[0]._replace(stamps=Stamps((), ()))]  # as if the file had the stamps that it had
        assert not database.is_current(state)
        new.write_text(f"{repo.first.hex()}\n")
        assert database.is_current(state)
    # Once its stamp has settled it is taken in as settled.
    clock[0] = os.stat(new).st_ctime_ns + 1
    assert not database.is_current(state)
    assert database.is_current(database.load(state))
    assert database.load(state).table is state.table


@pytest.mark.parametrize("way", ["in place", "by rename", "gone", "new", "a link", "back again"])
def test_of_many_files_those_that_changed_are_read(repo, monkeypatch, way):
    """The others are asked together, and not one by one."""
    for number in range(30):
        repo.git("update-ref", f"refs/heads/b{number}", repo.first.hex())
    database = settled_database(repo)
    state = database.load()
    assert database.is_current(state)
    path = repo.path / "refs/heads/b7"
    if way in ("in place", "back again"):
        path.write_text(f"{repo.second.hex()}\n")
    if way == "back again":
        path.write_text(f"{repo.first.hex()}\n")
    if way == "by rename":
        repo.git("update-ref", "refs/heads/b7", repo.second.hex())
    if way == "gone":
        path.unlink()
    if way == "new":
        repo.git("update-ref", "refs/heads/b7b", repo.second.hex())
    if way == "a link":
        path.unlink()
        os.symlink("refs/heads/b8", path)
    asked = []
    monkeypatch.setattr(
        "govc.refs.loose.signature_of", lambda name, stat=os.stat: asked.append(name) or SIGNATURE(name)
    )
    now = database.load(state)
    assert repo.refs() == {ref.name.decode(): ref.oid.hex() for ref in now.table.iter_refs()}
    assert len(asked) <= 1
    assert database.is_current(now) is (way != "a link")  # what it leads to may appear without a change of its folder


def test_a_ref_that_moves_while_the_refs_become_too_many_to_be_asked_is_read(tmp_path, monkeypatch):
    """All files are asked in one call before the folders are: what moves in between is seen, or asked again."""
    heads = tmp_path / "refs/heads"
    heads.mkdir(parents=True)
    for name in "abc":
        (heads / name).write_text(f"{'1' * 40}\n")
    roots = ((str(tmp_path / "refs"), b"refs/"),)

    def scan(previous=None):
        return loose.scan_loose(roots, SHA1, previous=previous, clock_ns=lambda: FAR_FUTURE_NS)

    monkeypatch.setattr(loose, "LOOSE_STAT_MAX", 3)
    before = scan()
    assert before.is_current(clock_ns=lambda: FAR_FUTURE_NS)
    ask = loose.LooseScan.changed

    def changed(self):
        found = ask(self)
        for name, value in ("a", "2"), ("d", "1"):
            (heads / "new").write_text(f"{value * 40}\n")
            (heads / "new").rename(heads / name)
        return found

    monkeypatch.setattr(loose.LooseScan, "changed", changed)
    after = scan(before)
    assert len(after.refs) == 4
    assert after.refs[b"refs/heads/a"].oid == bytes.fromhex("2" * 40)
