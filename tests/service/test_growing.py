"""Bodies of clones that grow out of older ones: the same objects as git names, each once, whatever was pushed between.

git is the oracle: `index-pack --strict` reads the pack, `rev-list --objects` says what belongs into it.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.fetching import encode_fetch, split_pack
from compat.gitclient import Git
from govc.cache import bodies as bodies_room
from govc.cache.flight import WINDOW_BYTES_MIN
from govc.cache.span import FileSpan
from govc.protocol.oid import SHA1
from govc.protocol.pktline import DELIM, FLUSH, encode_text
from govc.repo.introducing import IntroduceTask, fill_introductions
from govc.repo.pack_growth import WantsBefore
from govc.repo.runtime import PLAIN
from govc.repo.stored_packing import WINDOW_BYTES
from govc.service import making
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.service.growing import Growth, Outline, decode_outline, encode_outline
from govc.settings import Settings
from tests.kernels.both import needs_compiled
from tests.waiting import wait_until

pytestmark = needs_compiled


class World:
    """One bare repository, a backend over it, and what git says of it."""

    def __init__(self, tmp_path: Path, object_format: str = "sha1") -> None:
        self.git = Git(tmp_path / "home", tmp_path)
        self.root = tmp_path / "served"
        self.path = self.root / "a.git"
        self.object_format = object_format
        self.git("init", "-q", "--bare", f"--object-format={object_format}", self.path)
        self.cache_dir = tmp_path / "cache"
        self.marks = 0
        self.files: dict[str, bytes] = {}
        self.start()

    def start(self) -> None:
        settings = Settings(
            root=str(self.root),
            export_all=True,
            helper_processes_max=0,
            introductions=False,
            cache_dir=str(self.cache_dir),
        )
        self.backend = Backend(settings, PLAIN)
        self.context = RequestContext(service=UPLOAD_PACK, protocol_version=2)

    def commit(self, branch: str, *parents: str, files: dict[str, bytes]) -> str:
        """Add a commit to a branch as a push would leave it: in a pack."""
        self.marks += 1
        ref = f"refs/heads/{branch}"
        self.files |= files
        lines = [b"commit %s\n" % ref.encode()]
        lines += [b"committer A <a@b> %d +0000\ndata 2\nm\n\n" % (1_700_000_000 + self.marks * 60)]
        for number, parent in enumerate(parents):
            lines.append(b"%s %s\n" % (b"merge" if number else b"from", parent.encode()))
        lines += [b"M 100644 inline %s\ndata %d\n%s\n" % (n.encode(), len(d), d) for n, d in files.items()]
        self.git(
            "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet", "--force", cwd=self.path, input=b"".join(lines)
        )
        return self.git.rev(self.path, ref)

    def fill(self) -> None:
        handle = self.backend.open("/a.git", context=self.context)
        fill_introductions(IntroduceTask.of(handle.snapshot))

    def refs(self, prefix: str = "refs/") -> list[str]:
        said = self.git("for-each-ref", "--format=%(objectname)", prefix, cwd=self.path).stdout
        return sorted(set(said.split()))

    def clone(self, wants: list[str], *options: str) -> bytes:
        """Ask for all that is wanted; the pack."""
        lines = ["thin-pack", "no-progress", "include-tag", "ofs-delta", *options, *wants_of(wants), "done"]
        head = [b"command=fetch", b"agent=git/test", b"object-format=%s" % self.object_format.encode()]
        body = b"".join(map(encode_text, head)) + DELIM
        body += b"".join(encode_text(line.encode()) for line in lines) + FLUSH
        handle = self.backend.open("/a.git", context=self.context)
        answer = b""
        for chunk in handle.upload_pack(self.context, body):
            answer += b"".join(chunk.iter_bytes()) if isinstance(chunk, FileSpan) else chunk
        self.wait_for_flights()
        return split_pack(answer)

    def wait_for_flights(self) -> None:
        wait_until(lambda: not self.backend.fetch_tools.bodies._flights, "its flight ends")

    def check(self, pack: bytes, wants: list[str], *, riding: bool = True) -> None:
        """The pack holds what the wants reach and the tags that ride along, each once; its trailer is right."""
        target = self.root.parent / "target.git"
        if not target.exists():
            self.git("init", "-q", "--bare", f"--object-format={self.object_format}", target)
        name = self.git("index-pack", "--strict", "--stdin", cwd=target, input=pack).stdout.split()[1]
        index = target / f"objects/pack/pack-{name}.idx"
        shown = self.git("show-index", f"--object-format={self.object_format}", cwd=target, input=index.read_bytes())
        got = [line.split()[1] for line in shown.stdout.splitlines()]
        for file in (target / "objects/pack").iterdir():
            file.unlink()
        assert len(got) == len(set(got)) == int.from_bytes(pack[8:12], "big")
        expected = self.reachable(wants)
        if riding:
            said = self.git("for-each-ref", "--format=%(objectname) %(objecttype)", "refs/tags", cwd=self.path).stdout
            names = [line.split()[0] for line in said.splitlines() if line.endswith(" tag")]
            tags = [name for name in names if self.git.rev(self.path, name + "^{}") in expected]
            expected |= self.reachable(wants + tags)
        assert set(got) == expected

    def reachable(self, wants: list[str]) -> set[str]:
        said = self.git("rev-list", "--objects", *dict.fromkeys(wants), cwd=self.path).stdout
        return {line.split()[0] for line in said.splitlines()}

    def cached(self, suffix: str) -> list[Path]:
        return sorted(self.cache_dir.glob(f"*/*{suffix}"))


def wants_of(oids: list[str]) -> list[str]:
    return [f"want {oid}" for oid in oids]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return begun(World(tmp_path))


def begun(world: World) -> World:
    """A history whose body has several packets, a filled index, a tag."""
    noise = random.Random(1)
    one = world.commit("main", files={"large": noise.randbytes(600_000), "text": b"line\n" * 500})
    world.commit("main", one, files={"text": b"line\n" * 500 + b"two\n"})
    world.commit("other", one, files={"b": noise.randbytes(3000)})
    world.git("tag", "-a", "-m", "t", "v1", one, cwd=world.path)
    world.git("symbolic-ref", "HEAD", "refs/heads/main", cwd=world.path)
    world.fill()
    return world


@pytest.fixture(autouse=True)
def little_bodies_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_room, "WORTH_BYTES", 0)


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many objects each body had that grew."""
    counts: list[int] = []
    count_with = Growth.count_with

    def spy(self: Growth, added: Iterator[object]) -> int:
        counts.append(count_with(self, added))
        return counts[-1]

    monkeypatch.setattr(Growth, "count_with", spy)
    return counts


def push(world: World, branch: str = "main", text: bytes = b"more\n") -> str:
    tip = world.git.rev(world.path, f"refs/heads/{branch}")
    return world.commit(branch, tip, files={"text": world.files["text"] + text})


def test_after_a_push_that_adds_the_body_grows_again_and_again(world: World, grown: list[int]) -> None:
    world.check(world.clone(world.refs()), world.refs())
    assert grown == []
    for number in range(5):
        push(world, text=b"%d\n" % number)
        pack = world.clone(world.refs())
        world.check(pack, world.refs())
        assert world.clone(world.refs()) == pack, "from the cache it is the same"
        assert len(grown) == number + 1
    bases = {path.stat().st_ino for path in world.cached(".base")}
    assert bases == {path.stat().st_ino for path in world.cached(".body")}
    assert len(bases) == 1, "all borrow from the first one"
    assert all(path.stat().st_blocks * 512 < 300_000 for path in world.cached(".grown")), "and hold little themselves"


def test_growing_by_what_was_pushed_reads_no_entries_that_were_made_ahead(
    world: World, grown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those are of large packs, and many megabytes; a fetch of what such a pack holds has them read."""
    monkeypatch.setattr("govc.repo.introducing.LARGE_PACK_OBJECTS", 5)
    world.git("repack", "-adq", cwd=world.path)
    world.fill()
    old = world.git.rev(world.path, "refs/heads/main~1")
    world.clone(world.refs())
    push(world)
    wants = world.refs()
    world.check(world.clone(wants), wants)
    index = world.backend.open("/a.git", context=world.context).snapshot.introductions
    assert len(grown) == 1
    assert index is not None
    assert index.forward_packs
    assert index.thin_packs
    assert not index.has_read_forward
    assert not index.has_read_thin
    world.clone(wants, f"have {old}")
    assert index.has_read_forward
    assert index.has_read_thin


def test_after_many_times_a_body_is_made_anew(world: World, grown: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "TIMES_MAX", 2)
    counts = []
    for _ in range(5):
        world.check(world.clone(world.refs()), world.refs())
        counts.append(len(grown))
        push(world)
    assert counts == [0, 1, 2, 2, 3]


def delete_merged_branch(world: World) -> None:
    main, other = (world.git.rev(world.path, f"refs/heads/{name}") for name in ("main", "other"))
    world.commit("main", main, other, files={"merged": b"1"})
    world.git("update-ref", "-d", "refs/heads/other", cwd=world.path)


def tag_tip(world: World) -> None:
    world.git("tag", "-a", "-m", "t", "v2", push(world), cwd=world.path)


GROWING: dict[str, Callable[[World], object]] = {
    "a new branch on an old commit": lambda world: world.git("branch", "new", "main~1", cwd=world.path),
    "a new branch": lambda world: world.commit("new", world.git.rev(world.path, "main"), files={"new": b"1"}),
    "a root of its own": lambda world: world.commit("orphan", files={"x": b"1"}),
    "a branch that was merged is gone": delete_merged_branch,
    "a tag at the new tip": tag_tip,
    "a tag on an old commit": lambda world: world.git("tag", "-a", "-m", "t", "v0", "main~1", cwd=world.path),
    "a repack, too": lambda world: (push(world), world.git("repack", "-adq", cwd=world.path)),
}

MADE_ANEW: dict[str, Callable[[World], object]] = {
    "a branch is gone": lambda world: world.git("update-ref", "-d", "refs/heads/other", cwd=world.path),
    "a branch was set back": lambda world: world.git("update-ref", "refs/heads/main", "main~1", cwd=world.path),
    "a branch was rewritten": lambda world: world.commit(
        "main", world.git.rev(world.path, "main~1"), files={"n": b"1"}
    ),
    "a tag is gone": lambda world: world.git("tag", "-d", "v1", cwd=world.path),
    "a tag on a tag": lambda world: world.git("tag", "-a", "-m", "t", "v3", "v1", cwd=world.path),
    "a tag on a blob": lambda world: world.git("tag", "-a", "-m", "t", "v3", "main:text", cwd=world.path),
}


@pytest.mark.parametrize("what", [*GROWING, *MADE_ANEW])
def test_what_lets_a_body_grow(world: World, grown: list[int], what: str) -> None:
    world.clone(world.refs())
    (GROWING | MADE_ANEW)[what](world)
    world.check(world.clone(world.refs()), world.refs())
    assert len(grown) == (what in GROWING)


RIDING: dict[str, tuple[Callable[[World], object], bool]] = {
    "at the new tip": (tag_tip, True),
    "elsewhere": (lambda world: world.git("tag", "-a", "-m", "t", "v2", "other", cwd=world.path), True),
    "on what was sent": (lambda world: world.git("tag", "-a", "-m", "t", "v0", "main~1", cwd=world.path), False),
    "that is gone": (lambda world: world.git("tag", "-d", "v1", cwd=world.path), False),
    "on a tag": (lambda world: world.git("tag", "-a", "-m", "t", "v2", "v1", cwd=world.path), False),
}


@pytest.mark.parametrize("what", RIDING)
def test_tags_that_ride_along(world: World, grown: list[int], what: str) -> None:
    """Who clones one branch gets the tags on it."""
    world.clone([world.git.rev(world.path, "main")])
    change, grows = RIDING[what]
    change(world)
    wants = [push(world)]
    world.check(world.clone(wants), wants)
    assert len(grown) == grows


def test_who_sees_other_refs_has_another_line(world: World, grown: list[int]) -> None:
    world.clone(world.refs("refs/heads"))
    push(world)
    world.git("config", "uploadpack.hideRefs", "refs/tags", cwd=world.path)
    wants = world.refs("refs/heads")
    world.check(world.clone(wants), wants, riding=False)
    assert grown == []
    push(world)
    wants = world.refs("refs/heads")
    world.check(world.clone(wants), wants, riding=False)
    assert len(grown) == 1, "and that one grows by itself"


def test_a_body_that_is_evicted_while_another_grows_out_of_it(
    world: World, grown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clone(world.refs())
    iter_pieces = Growth.iter_pieces

    def evict(self: Growth, *arguments: object) -> Iterator[object]:
        for path in world.cached(".body"):
            path.unlink()
        return iter_pieces(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Growth, "iter_pieces", evict)
    push(world)
    world.check(world.clone(world.refs()), world.refs())
    assert len(grown) == 1
    assert len(world.cached(".body")) == 1, "what could not be borrowed any more was copied"
    world.check(world.clone(world.refs()), world.refs())


def test_a_body_that_is_not_what_was_noted_is_left_alone(world: World, grown: list[int]) -> None:
    world.clone(world.refs())
    (body,) = world.cached(".body")
    content = bytearray(body.read_bytes())
    content[-10] ^= 1  # in the trailer
    body.write_bytes(content)
    push(world)
    world.check(world.clone(world.refs()), world.refs())
    assert grown == []
    push(world)
    world.check(world.clone(world.refs()), world.refs())
    assert len(grown) == 1, "what was made anew is the last of the line"


def test_other_words_around_the_same_pack_share_the_line(world: World, grown: list[int]) -> None:
    world.clone(world.refs())
    push(world)
    wants = world.refs()
    body = encode_fetch(["ofs-delta", *wants_of(wants), "done"])  # progress, no thin pack
    handle = world.backend.open("/a.git", context=world.context)
    answer = b"".join(
        b"".join(chunk.iter_bytes()) if isinstance(chunk, FileSpan) else chunk
        for chunk in handle.upload_pack(world.context, body)
    )
    world.wait_for_flights()
    (count,) = grown
    assert f"Total {count} ".encode() in answer
    world.check(split_pack(answer), wants, riding=False)


def test_another_hash(tmp_path: Path, grown: list[int]) -> None:
    world = begun(World(tmp_path, "sha256"))
    world.clone(world.refs())
    push(world)
    world.check(world.clone(world.refs()), world.refs())
    assert len(grown) == 1


def test_a_filter_or_a_boundary_has_no_line(world: World, grown: list[int]) -> None:
    world.git("config", "uploadpack.allowFilter", "true", cwd=world.path)
    for option in ("filter blob:none", "deepen 1"):
        world.clone(world.refs(), option)
    assert world.cached(".line") == []


@pytest.mark.parametrize("seed", range(4))
def test_property_random_pushes(tmp_path: Path, grown: list[int], seed: int) -> None:
    world, rng = begun(World(tmp_path)), random.Random(seed)
    for step in range(8):
        change(world, rng, step)
        wants = world.refs()
        world.check(world.clone(wants), wants)
        wants = [world.git.rev(world.path, "refs/heads/main")]
        world.check(world.clone(wants), wants)
    assert grown


def change(world: World, rng: random.Random, step: int) -> None:
    """One push of some kind; most only add."""
    heads = world.git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=world.path).stdout.split()
    tips = {head: world.git.rev(world.path, f"refs/heads/{head}") for head in heads}
    branch = rng.choice(heads)
    kind = rng.choice("aaaaamnttodfr")
    content = world.files["text"] + b"%d\n" % step
    name = rng.choice(("text", f"f{step}", f"d/{rng.randint(0, 3)}/x"))
    if kind == "a":
        for _ in range(rng.randint(1, 3)):
            tips[branch] = world.commit(branch, tips[branch], files={name: content, "big": rng.randbytes(2000)})
    elif kind == "m":
        world.commit(branch, tips[branch], tips[rng.choice(heads)], files={name: content})
    elif kind == "n":
        world.commit(f"new{step}", tips[branch], files={name: content})
    elif kind == "t":
        target = rng.choice((branch, f"{branch}~1", f"{branch}:text", "v1"))
        if not world.git("rev-parse", "-q", "--verify", target, cwd=world.path, check=False).code:
            world.git("tag", "-a", "-m", "t", f"t{step}", target, cwd=world.path)
    elif kind == "o":
        world.commit(f"root{step}", files={name: rng.choice((content, b"line\n" * 500))})
    elif kind == "d" and branch != "main":
        world.git("update-ref", "-d", f"refs/heads/{branch}", cwd=world.path)
    elif kind == "f":
        world.commit(branch, tips["main"] if branch != "main" else tips[branch] + "~1", files={name: content})
    elif kind == "r":
        world.git("repack", "-adq", cwd=world.path)


def test_a_note_is_read_as_it_was_written() -> None:
    names = [bytes((n,)) * 20 for n in range(7)]
    outline = Outline(5, 70_000, 80_000, 12, 3, names[0], WantsBefore(frozenset(names[1:4]), frozenset(names[4:])))
    assert decode_outline(encode_outline(outline), SHA1) == outline
    assert decode_outline(encode_outline(outline)[:-1], SHA1) is None
    assert decode_outline(b"\2" + encode_outline(outline)[1:], SHA1) is None


def test_no_piece_of_old_bytes_is_larger_than_the_least_ring() -> None:
    """On a full disk the producer waits until a piece has room beside what its slowest reader still lacks."""
    assert WINDOW_BYTES <= WINDOW_BYTES_MIN
