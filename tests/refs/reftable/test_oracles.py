"""What we write, others read, and the other way round: dulwich always, git where it knows the format."""

import random
from pathlib import Path

import pytest
from dulwich.repo import Repo as DulwichRepo

from govc.protocol.oid import SHA1, SHA256
from govc.refs.backend import LogUpdates, ReftableBackend
from govc.refs.reftable.compaction import Compactor
from govc.refs.reftable.merged import merge_logs
from govc.refs.reftable.writer import ReftableOptions
from tests.refs.reftable.conftest import ONE, ZERO, NewGit, Store, no_sleep


def test_dulwich_reads_ours_and_we_read_dulwichs(store: Store) -> None:
    rng = random.Random(1)
    names = [b"refs/heads/%s/%03d" % (rng.choice([b"a", b"bb", b"ccc"]), number) for number in range(300)]
    for start in range(0, 300, 60):
        store.run(*((name, ZERO, rng.randbytes(20)) for name in names[start : start + 60]))
    store.run((names[7], store.refs()[names[7]], ZERO))
    seen = DulwichRepo(str(store.path)).refs
    assert len(store.refs()) == 299
    for name, oid in store.refs().items():
        assert seen[name] == oid.hex().encode()
    with pytest.raises(KeyError):
        seen[names[7]]
    DulwichRepo(str(store.path)).refs[b"refs/heads/theirs"] = ONE.hex().encode()
    assert store.refs()[b"refs/heads/theirs"] == ONE
    assert store.run((b"refs/heads/ours", ZERO, ONE)) == {}
    assert store.refs()[b"refs/heads/theirs"] == store.refs()[b"refs/heads/ours"] == ONE


class Shared:
    """A repository with two commits and a tag that git and we change in turn."""

    def __init__(self, git: NewGit, path: Path, object_format: str) -> None:
        path.mkdir()
        self.path = path
        self.git = git
        self.run("init", "-q", "--bare", "--ref-format=reftable", f"--object-format={object_format}", "-b", "main")
        tree = self.run("mktree", input=b"").strip()
        self.first = self.run("commit-tree", tree, "-m", "1").strip()
        self.second = self.run("commit-tree", tree, "-p", self.first, "-m", "2").strip()
        tag = f"object {self.first}\ntype commit\ntag t\ntagger C <c@example.com> 1700000000 +0000\n\nt\n"
        self.tag = self.run("mktag", input=tag.encode()).strip()
        self.store = Store.__new__(Store)
        self.store.path, self.store.algo = path, SHA256 if object_format == "sha256" else SHA1
        self.store.use()
        self.store.shared = self.store.backend()

    def run(self, *arguments: str, input: bytes | None = None) -> str:
        return self.git(self.path, *arguments, input=input)

    def gits_refs(self) -> dict[bytes, tuple[str, str]]:
        lines = self.run("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)").splitlines()
        rows = [line.split(" ") for line in lines]
        return {name.encode(): (oid, peeled) for name, oid, peeled in rows}

    def our_refs(self) -> dict[bytes, tuple[str, str]]:
        table = self.store.shared.load().table
        return {ref.name: (ref.oid.hex(), ref.peeled.hex() if ref.peeled else "") for ref in table.iter_refs()}


@pytest.mark.rows("FS-46", "FS-47")
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_git_and_we_change_one_repository_in_turn(new_git: NewGit, tmp_path: Path, object_format: str) -> None:
    shared = Shared(new_git, tmp_path / "r.git", object_format)
    store, rng = shared.store, random.Random(2)
    zero = store.algo.zero
    oids = [shared.first, shared.second]
    names = [f"refs/heads/n{number}" for number in range(12)]
    for step in range(60):
        name = rng.choice(names)
        current = shared.gits_refs().get(name.encode(), ("", ""))[0]
        new = rng.choice(oids)
        kind = rng.randrange(6)
        if kind == 0 and current:
            shared.run("update-ref", "-d", name)
        elif kind < 3:
            shared.run("update-ref", name, new)
        elif kind == 3 and current:
            assert store.run((name.encode(), bytes.fromhex(current), zero), log=LogUpdates.ALWAYS) == {}
        elif kind == 4 and step % 3 == 0:
            shared.run("pack-refs", "--all")
        else:
            old = bytes.fromhex(current) if current else zero
            assert store.run((name.encode(), old, bytes.fromhex(new)), log=LogUpdates.ALWAYS) == {}
            store.shared.tidy(store.options)
        assert shared.gits_refs() == shared.our_refs(), f"step {step}"
    assert shared.run("refs", "verify") == ""
    tables = store.backend().load().stacks[0].tables
    for name in names:
        logs = [log.entry for log in merge_logs(tables, name.encode(), drop_tombstones=True)]
        shown = shared.run("reflog", "show", "--format=%H %gs", name).splitlines() if logs else []
        assert [f"{entry.new.hex()} {entry.message.decode().strip()}" for entry in logs] == shown


@pytest.mark.rows("FS-46")
def test_git_reads_a_large_table_of_ours_and_verifies_it(new_git: NewGit, tmp_path: Path) -> None:
    shared = Shared(new_git, tmp_path / "r.git", "sha1")
    first = bytes.fromhex(shared.first)
    names = [b"refs/changes/%02d/%d/1" % (number % 100, number) for number in range(5000)]
    shared.store.use(block_size=512)
    assert shared.store.run(*((name, ZERO, first) for name in names), log=LogUpdates.ALWAYS) == {}
    assert set(names) == set(shared.gits_refs())
    assert shared.run("rev-parse", "refs/changes/17/4217/1").strip() == shared.first
    assert shared.run("reflog", "show", "--format=%gs", "refs/changes/99/4999/1").strip() == "push"
    assert shared.run("refs", "verify") == ""


def test_the_same_records_give_the_same_bytes_as_gits_compaction(new_git: NewGit, tmp_path: Path) -> None:
    """git packs a stack into one table; so do we, from a copy of the same stack."""
    shared = Shared(new_git, tmp_path / "r.git", "sha1")
    lines = [f"create refs/heads/b{number:03} {shared.first}\n" for number in range(400)]
    shared.run("update-ref", "--stdin", input="".join(lines).encode())
    shared.run("update-ref", "refs/tags/t", shared.tag)
    shared.run("update-ref", "-d", "refs/heads/b017")
    names = shared.store.names()
    ours_folder = tmp_path / "copy"
    ours_folder.mkdir()
    for name in [*names, "tables.list"]:
        (ours_folder / name).write_bytes((shared.path / "reftable" / name).read_bytes())
    shared.run("pack-refs", "--all")
    [packed] = shared.store.names()
    stack = ReftableBackend(str(tmp_path), str(tmp_path), SHA1).stacks[0]
    stack.folder, stack.list_path = str(ours_folder), str(ours_folder / "tables.list")
    compactor = Compactor(stack, ReftableOptions(), sleep=no_sleep, modes=shared.store.options.modes, fsync=False)
    if len(names) > 1:
        assert compactor.compact(everything=True) == len(names)
    [name] = (ours_folder / "tables.list").read_text().split()
    assert (shared.path / "reftable" / packed).read_bytes() == (ours_folder / name).read_bytes()
