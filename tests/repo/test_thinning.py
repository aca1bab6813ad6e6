"""Thin entries: random histories, made ahead and sent; git's index-pack and fsck over exactly what a client has."""

import os
import random
import zlib
from array import array
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from govc.errors import CorruptPack
from govc.graph.segment import Segment, parse_segment
from govc.kernels.thin import FOREIGN, WHOLE
from govc.odb.thin import BadThin, Item, Row, iter_encoded, parse_thin, read_thin_packs
from govc.pack.delta import apply_delta
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from govc.repo import thinning
from govc.repo.introducing import is_due
from govc.repo.introductions import Introductions
from govc.repo.pack_plan import PackPlan
from govc.repo.repository import Repository
from tests.kernels.both import needs_compiled
from tests.repo.test_introductions import fill, git, open_repository, pack_of

NAMES = ("a", "b", "dir/a", "dir/b", "dir/sub/c", "large")


@pytest.fixture(autouse=True)
def small_packs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govc.repo.introducing.LARGE_PACK_OBJECTS", 10)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many objects each pack took from the file."""
    from govc.pack import copying

    found: list[int] = []
    choose = copying.ThinChoice

    def count(*arguments: object) -> object:
        choice = choose(*arguments)  # type: ignore[arg-type]
        found.append(choice.taken)
        return choice

    monkeypatch.setattr(copying, "ThinChoice", count)
    return found


def make_history(where: Path, seed: int, commits: int, object_format: str = "sha1") -> list[str]:
    """Branches that are merged now and then, reverts, and the same content on several of them; every commit."""
    rng = random.Random(seed)
    git(where.parent, "init", "-q", "--bare", "-b", "main", f"--object-format={object_format}", str(where))
    git(where, "config", "gc.auto", "0")
    pieces: list[bytes] = []
    contents: dict[int, dict[str, bytes]] = {}
    tips: list[int] = []
    for mark in range(1, commits + 1):
        parents = [rng.choice(tips[-3:])] if tips else []
        if len(tips) > 4 and rng.random() < 0.25:
            parents.append(rng.choice([tip for tip in tips[-8:] if tip not in parents]))
        files = dict(contents[parents[0]]) if parents else {"large": b"".join(b"%d\n" % (n * n) for n in range(900))}
        for other in parents[1:]:
            files.update(rng.sample(sorted(contents[other].items()), rng.randint(0, len(contents[other]))))
        for _ in range(rng.randint(0, 2)):
            name = rng.choice(NAMES)
            lines = files.get(name, b"").splitlines(keepends=True)
            lines.insert(rng.randint(0, len(lines)), b"%d\n" % rng.randint(0, 9 if name != "large" else 10**6))
            files[name] = b"".join(lines)
        if rng.random() < 0.15:
            files["dir/sub/c"] = contents[rng.choice(tips)].get("a", b"") if tips else b""
        contents[mark] = files
        pieces.append(b"commit refs/heads/b%d\nmark :%d\n" % (mark, mark))
        pieces.append(b"committer A <a@b> %d +0000\ndata 1\nx\n" % (1_600_000_000 + mark))
        pieces += [b"%s :%d\n" % (b"merge" if n else b"from", parent) for n, parent in enumerate(parents)]
        pieces.append(b"deleteall\n")
        for name, text in files.items():
            pieces.append(b"M 100644 inline %s\ndata %d\n" % (name.encode(), len(text)) + text + b"\n")
        tips.append(mark)
    pieces.append(b"reset refs/heads/main\nfrom :%d\n\ndone\n" % commits)
    git(where, "fast-import", "--quiet", stdin=b"".join(pieces))
    git(where, "repack", "-adfq", "--depth=20", "--window=20")
    return git(where, "rev-parse", *(f"b{mark}" for mark in range(1, commits + 1))).decode().split()


def take(path: Path, target: Path, wants: list[str], haves: list[str], pack: bytes) -> int:
    """Give a pack to a client that has exactly `haves`; how many objects it brought. Fails where git does."""
    name = git(path, "rev-parse", "--show-object-format").decode().strip()
    git(target.parent, "init", "-q", "--bare", f"--object-format={name}", str(target))
    listed = git(path, "rev-list", "--objects", "--no-object-names", *haves)
    had = git(path, "pack-objects", "--stdout", "-q", stdin=listed)
    git(target, "index-pack", "--stdin", stdin=had)
    git(target, "index-pack", "--stdin", "--fix-thin", "--strict", stdin=pack)
    for n, oid in enumerate(wants):
        git(target, "update-ref", f"refs/heads/w{n}", oid)
    git(target, "fsck", "--full", "--strict")
    return int.from_bytes(pack[8:12], "big")


def plan_of(wants: list[str], haves: list[str]) -> PackPlan:
    return PackPlan(
        wants=tuple(map(bytes.fromhex, wants)),
        haves=tuple(map(bytes.fromhex, haves)),
        thin=True,
        ofs_delta=True,
        progress=False,
    )


def thin_file(path: Path) -> Path:
    (file,) = path.glob("govc/introductions/*.thin")
    return file


def rewrite(file: Path, change: Callable[[bytes], bytes]) -> None:
    content = change(file.read_bytes())
    file.chmod(0o600)
    file.write_bytes(content)


def check_entries(repository: Repository, index: Introductions) -> int:
    """Every delta makes its object; how many there are."""
    store = repository.snapshot().store
    count = 0
    for target, row in index.iter_thin_rows():
        assert row.base is not None
        kind, base = store.read_oid(row.base)
        delta = zlib.decompress(row.stream)
        assert len(delta) == row.size
        assert (kind, apply_delta(base, delta, result_bytes_max=1 << 20)) == store.read_oid(target)
        count += 1
    return count


@needs_compiled
@pytest.mark.parametrize(("seed", "object_format"), [(1, "sha1"), (2, "sha1"), (3, "sha256")])
def test_whoever_has_some_of_it_is_sent_the_rest(
    tmp_path: Path, taken: list[int], seed: int, object_format: str
) -> None:
    path = tmp_path / "r.git"
    commits = make_history(path, seed, 60, object_format)
    repository = open_repository(path)
    index = fill(repository)
    assert check_entries(repository, index) > 20
    rng = random.Random(seed)
    for n in range(8):
        wants, haves = rng.sample(commits[20:], rng.randint(1, 2)), rng.sample(commits[:50], rng.randint(1, 2))
        expected = git(path, "rev-list", "--objects", *wants, "--not", *haves).split(b"\n")[:-1]
        had = set(git(path, "rev-list", "--objects", "--no-object-names", *haves).split())
        pack = pack_of(repository, plan_of(wants, haves))
        count = take(path, tmp_path / f"c{n}.git", wants, haves, pack)
        assert count == len({line.split()[0] for line in expected} - had)
    assert sum(taken) > 100


@needs_compiled
def test_what_the_file_lacks_goes_out_beside_it(
    tmp_path: Path, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has the newest commits only; what was pushed later, and what is older, comes from packs."""
    path = tmp_path / "r.git"
    commits = make_history(path, 4, 60)
    monkeypatch.setattr(thinning, "THIN_BYTES_MIN", 3000)
    repository = open_repository(path)
    index = fill(repository)
    entries = index.read_thin()
    assert entries is not None
    assert entries.file is not None
    assert 10 < entries.file.count < 120
    stream = b"commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 1\ny\nfrom refs/heads/main^0\n"
    git(path, "fast-import", "--quiet", stdin=stream + b"M 100644 inline a\ndata 2\nn\n\ndone\n")
    tip = git(path, "rev-parse", "main").decode().strip()
    for n, have in enumerate((commits[57], commits[50], commits[20], commits[3])):
        pack = pack_of(repository, plan_of([tip], [have]))
        count = take(path, tmp_path / f"c{n}.git", [tip], [have], pack)
        assert taken[-1] < count
    assert sum(taken) > 10


@needs_compiled
def test_what_is_sent_though_the_client_has_it_is_no_base_by_name(
    tmp_path: Path, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a tree that a new tag names: git's client refuses a pack that has an object and a delta on its name."""
    path = tmp_path / "r.git"
    commits = make_history(path, 4, 60)
    monkeypatch.setattr(thinning, "THIN_BYTES_MIN", 3000)
    repository = open_repository(path)
    entries = fill(repository).read_thin()
    assert entries is not None
    foreign = entries.columns[6]
    names = [bytes(foreign[at : at + 20]).hex() for at in range(0, len(foreign), 20)]
    kinds = git(path, "cat-file", "--batch-check=%(objecttype)", stdin="\n".join(names).encode()).split()
    had = set(git(path, "rev-list", "--objects", "--no-object-names", *commits[40:50]).decode().split())
    chosen = [name for name, kind in zip(names, kinds, strict=True) if kind in (b"tree", b"blob") and name in had]
    assert chosen
    plan = plan_of([commits[-1], *chosen], commits[40:50])
    take(path, tmp_path / "c.git", [commits[-1]], commits[40:50], pack_of(repository, plan))
    assert taken[0] > 0


@needs_compiled
def test_of_a_merge_the_nearest_parent_counts(tmp_path: Path, taken: list[int]) -> None:
    path = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(path))
    rng = random.Random(5)
    old, new = (rng.randbytes(9000) for _ in range(2))
    merged = new[:4000] + b"!" + new[4001:]
    pieces = []
    for mark, (text, parents) in enumerate([(old, ""), (new, "from :1\n"), (old[:-1], "from :1\n")], 1):
        pieces.append(b"commit refs/heads/b%d\nmark :%d\ncommitter A <a@b> %d +0000\ndata 1\nx\n" % (mark, mark, mark))
        pieces.append(parents.encode() + b"M 100644 inline file\ndata %d\n" % len(text) + text + b"\n")
    pieces.append(b"commit refs/heads/main\ncommitter A <a@b> 9 +0000\ndata 1\nx\nfrom :3\nmerge :2\n")
    pieces.append(b"M 100644 inline file\ndata %d\n" % len(merged) + merged + b"\ndone\n")
    git(path, "fast-import", "--quiet", stdin=b"".join(pieces))
    git(path, "repack", "-adfq", "--depth=0")
    repository = open_repository(path)
    fill(repository)
    tip, *haves = git(path, "rev-parse", "main", "b2", "b3").decode().split()
    pack = pack_of(repository, plan_of([tip], haves))
    assert take(path, tmp_path / "c.git", [tip], haves, pack) == 3
    assert (len(pack) < 1000, taken) == (True, [3])


@needs_compiled
def test_chains_stay_short_however_many_versions_there_are(tmp_path: Path, taken: list[int]) -> None:
    path = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(path))
    lines = [b"%d\n" % (n * n * n) for n in range(200)]
    pieces = []
    for n in range(400):
        lines[n % 200] = b"changed %d\n" % n
        text = b"".join(lines)
        pieces.append(b"commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 1\nx\n" % (1_600_000_000 + n))
        pieces.append(b"M 100644 inline file\ndata %d\n" % len(text) + text + b"\n")
    git(path, "fast-import", "--quiet", stdin=b"".join([*pieces, b"done\n"]))
    git(path, "repack", "-adfq")
    repository = open_repository(path)
    fill(repository)
    tip, have = git(path, "rev-parse", "main", "main~390").decode().split()
    pack = pack_of(repository, plan_of([tip], [have]))
    target = tmp_path / "c.git"
    assert take(path, target, [tip], [have], pack) == 3 * 390
    assert taken == [3 * 390]
    depths = []
    for index in target.glob("objects/pack/*.idx"):
        lines = git(target, "verify-pack", "-v", str(index)).splitlines()
        depths += [int(line.split()[5]) for line in lines if len(line.split()) == 7]
    assert 15 < max(depths) <= 50


@needs_compiled
def test_a_damaged_stream_is_not_sent(tmp_path: Path, taken: list[int]) -> None:
    path = tmp_path / "r.git"
    commits = make_history(path, 6, 40)
    fill(open_repository(path))
    index = Introductions(str(path), SHA1)
    index.refresh()
    entries = index.read_thin()
    assert entries is not None
    size = len(entries.streams)

    def spoil(content: bytes) -> bytes:
        streams = bytes(byte ^ 0x55 if n % 40 == 0 else byte for n, byte in enumerate(content[-20 - size : -20]))
        return content[: -20 - size] + streams + content[-20:]

    rewrite(thin_file(path), spoil)
    pack = pack_of(open_repository(path), plan_of([commits[-1]], [commits[10]]))
    take(path, tmp_path / "c.git", [commits[-1]], [commits[10]], pack)
    assert taken[0] > 10


@needs_compiled
def test_a_torn_file_is_passed_over_and_made_again(tmp_path: Path, taken: list[int]) -> None:
    path = tmp_path / "r.git"
    commits = make_history(path, 7, 40)
    fill(open_repository(path))
    rewrite(thin_file(path), lambda content: content[:-5])
    repository = open_repository(path)
    snapshot = repository.snapshot()
    index = snapshot.introductions
    assert index is not None
    plan = plan_of([commits[-1]], [commits[10]])
    pack_of(repository, PackPlan(wants=plan.wants, thin=True, ofs_delta=True, progress=False))
    assert not index.has_read_thin, "a clone needs none"
    assert not is_due(snapshot, index)
    take(path, tmp_path / "c.git", [commits[-1]], [commits[10]], pack_of(repository, plan))
    assert taken == []
    assert is_due(snapshot, index)
    fill(repository)
    assert not is_due(snapshot, index)
    take(path, tmp_path / "d.git", [commits[-1]], [commits[10]], pack_of(repository, plan))
    assert taken[0] > 10
    assert (len(index.bad_names), thin_file(path).stat().st_size > 1000) == (1, True)


@needs_compiled
def test_a_file_that_is_cut_while_it_is_read_ends_the_answer_and_not_the_process(
    tmp_path: Path, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut among the offsets: behind the cut a map reads as zeros, and so a stream would end before it begins."""
    monkeypatch.setattr("govc.repo.introductions._MAP_BYTES_MIN", 1)
    path = tmp_path / "r.git"
    commits = make_history(path, 10, 150)
    repository = open_repository(path)
    entries = fill(repository).read_thin()
    assert entries is not None
    plan = plan_of([commits[-1]], [commits[0]])
    pack_of(repository, plan)
    monkeypatch.setattr(Introductions, "is_current", lambda self: True)  # it looked before
    offsets, streams = len(entries.columns[-1]), len(entries.streams)
    file = thin_file(path)
    file.chmod(0o600)
    os.truncate(file, file.stat().st_size - 20 - streams - offsets + 8 * (offsets // 16))
    with pytest.raises(CorruptPack, match="thin"):
        pack_of(repository, plan)
    assert taken[-1] > 100
    fill(open_repository(path))
    take(path, tmp_path / "c.git", [commits[-1]], [commits[0]], pack_of(open_repository(path), plan))


@needs_compiled
def test_rows_that_read_as_zeros_are_expanded(
    tmp_path: Path, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a cut the last page of a map reads as zeros, with no fault: of no bytes the checksum is nought, too."""
    monkeypatch.setattr("govc.repo.introductions._MAP_BYTES_MIN", 1)
    path = tmp_path / "r.git"
    commits = make_history(path, 10, 150)
    repository = open_repository(path)
    entries = fill(repository).read_thin()
    assert entries is not None
    plan = plan_of([commits[-1]], [commits[0]])
    pack_of(repository, plan)
    monkeypatch.setattr(Introductions, "is_current", lambda self: True)  # it looked before
    columns = len(entries.columns[-2]) + len(entries.columns[-1])
    file = thin_file(path)
    file.chmod(0o600)
    with file.open("r+b") as handle:
        handle.seek(-20 - len(entries.streams) - columns, os.SEEK_END)
        handle.write(bytes(columns))
    take(path, tmp_path / "c.git", [commits[-1]], [commits[0]], pack_of(repository, plan))
    assert taken[-1] > 100


@needs_compiled
def test_rows_that_read_as_zeros_are_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta without a stream makes nothing: the next file would be no good, and be made again, and so on."""
    monkeypatch.setattr("govc.repo.introductions._MAP_BYTES_MIN", 1)
    path = tmp_path / "r.git"
    make_history(path, 10, 60)
    repository = open_repository(path)
    fill(repository)
    for forward in path.glob("govc/introductions/*.forward"):
        forward.unlink()
    index = Introductions(str(path), SHA1)
    index.refresh()
    entries = index.read_thin()
    assert entries is not None
    columns = len(entries.columns[-2]) + len(entries.columns[-1])
    file = thin_file(path)
    file.chmod(0o600)
    with file.open("r+b") as handle:
        handle.seek(-20 - len(entries.streams) - columns, os.SEEK_END)
        handle.write(bytes(columns))
    store = repository.snapshot().store
    head = bytes.fromhex(git(path, "rev-parse", "main").decode().strip())
    assert thinning.add_thin(index, store, store.pack_reader(), [head], [bytes(20)]) > 20
    made = Introductions(str(path), SHA1)
    made.refresh()
    assert check_entries(repository, made) > 20
    assert not made.bad_names


@needs_compiled
def test_no_stream_is_empty() -> None:
    one, two = bytes(20), bytes([1]) * 20
    for stream in (b"s", b""):
        data = b"".join(
            iter_encoded([Item(one, 3, [Row(None, 1, b"w")]), Item(two, 3, [Row(one, 1, stream)])], [], SHA1)
        )
        if stream:
            assert parse_thin(data, SHA1).file is not None
        else:
            with pytest.raises(BadThin, match="outside"):
                parse_thin(data, SHA1)


@needs_compiled
@pytest.mark.parametrize("what", ["segment", "thin", "forward"])
def test_what_is_overwritten_in_place_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """As by a backup that is copied over. Kernels read maps as they were checked: the process would die of some."""
    monkeypatch.setattr("govc.repo.introductions._MAP_BYTES_MIN", 1)
    path = tmp_path / "r.git"
    commits = make_history(path, 11, 80)
    repository = open_repository(path)
    fill(repository)
    (file,) = path.glob(f"govc/introductions/*.{what}")
    good = file.read_bytes()
    plan = plan_of([commits[-1]], [commits[10]])
    right = pack_of(repository, plan)
    file.chmod(0o600)
    contents = (b"\xff" * len(good), good[:4] + good[4:][::-1], good)
    for n, content in enumerate(contents):
        file.write_bytes(good)
        repository = open_repository(path)
        assert pack_of(repository, plan) == right
        with file.open("r+b") as handle:
            handle.write(content)
        index = repository.snapshot().introductions
        assert index is not None
        assert not index.is_current()
        pack = pack_of(repository, plan)
        assert index.is_current()
        assert (file.name in index.bad_names) is (content != good)
        take(path, tmp_path / f"c{n}.git", [commits[-1]], [commits[10]], pack)
    assert pack == right


@needs_compiled
def test_a_refresh_that_runs_meanwhile_does_not_keep_what_was_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has taken the old map over and reads a new segment, while another one notices."""
    monkeypatch.setattr("govc.repo.introductions._MAP_BYTES_MIN", 1)
    path = tmp_path / "r.git"
    make_history(path, 11, 80)
    fill(open_repository(path))
    (file,) = path.glob("govc/introductions/*.segment")
    index = Introductions(str(path), SHA1)
    index.refresh()
    (old,) = index.view.segments
    file.with_name(f"z{file.name}").write_bytes(file.read_bytes())
    asked: list[str] = []

    def parse(content: bytes, algo: HashAlgorithm, *, name: str) -> Segment:
        asked.append(name)
        if name.startswith("z") and len(asked) == 1:
            content = file.read_bytes()
            file.chmod(0o600)
            with file.open("r+b") as handle:
                handle.write(content)
            index.refresh()
        return parse_segment(content, algo, name=name)

    monkeypatch.setattr("govc.repo.introductions.parse_segment", parse)
    index.refresh()
    assert not index.is_current()
    assert index.news_bytes() >= file.stat().st_size
    index.refresh()
    assert index.is_current()
    assert old not in index.view.segments
    assert file.name in asked


def test_a_segment_that_is_merged_away_meanwhile_hides_no_other_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.git"
    make_history(path, 11, 80)
    fill(open_repository(path))
    (file,) = path.glob("govc/introductions/*.segment")
    gone = file.with_name(f"a{file.name}")
    gone.write_bytes(file.read_bytes())
    scandir = os.scandir

    def list_then_vanish(folder: str) -> nullcontext[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        gone.unlink()
        return nullcontext(listed)

    index = Introductions(str(path), SHA1)
    monkeypatch.setattr(os, "scandir", list_then_vanish)
    assert index.news_bytes() == file.stat().st_size


@needs_compiled
def test_what_was_made_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a repack the deltas of the old file are taken over."""
    path = tmp_path / "r.git"
    make_history(path, 8, 40)
    made: list[bytes] = []
    make_delta = thinning.deltify.make_delta

    def count(base: bytes, target: bytes, size_max: int) -> bytes | None:
        delta = make_delta(base, target, size_max)
        made.extend([target] if delta is not None else [])
        return delta

    fill(open_repository(path))
    old = thin_file(path).name
    for forward in path.glob("govc/introductions/*.forward"):
        forward.unlink()
    monkeypatch.setattr("govc.repo.introducing.deltify", SimpleNamespace(AVAILABLE=False))
    monkeypatch.setattr(thinning.deltify, "make_delta", count)
    git(path, "repack", "-adfq", "--depth=0")
    repository = open_repository(path)
    index = fill(repository)
    assert thin_file(path).name != old
    assert check_entries(repository, index) > 20
    assert len(made) < 5


@needs_compiled
def test_who_can_only_be_asked_in_python_is_sent_nothing_from_it(tmp_path: Path) -> None:
    """As where the kernel that paints was not compiled."""
    from govc.kernels.thin import ThinChoice

    path = tmp_path / "r.git"
    make_history(path, 9, 10)
    repository = open_repository(path)
    entries = fill(repository).read_thin()
    reader = repository.snapshot().store.pack_reader()
    assert entries is not None
    assert entries.file is not None
    assert reader is not None
    numbers = array("q", range(5))
    choice = ThinChoice(entries.file, reader, numbers, lambda number: True)
    assert (choice.taken, choice.rest) == (0, numbers)


def items() -> list[Item]:
    one, two, three, old = (bytes([n]) * 20 for n in (9, 3, 5, 7))
    return [
        Item(one, 1, [Row(None, 4, b"whole")]),
        Item(two, 3, [Row(one, 5, b"near"), Row(old, 6, b"far")]),
        Item(three, 3, [Row(three, 7, b"itself")]),
    ]


@needs_compiled
def test_a_file_says_what_was_put_in_and_nothing_when_it_is_damaged(tmp_path: Path) -> None:
    packs = [bytes([40]) * 20, bytes([41]) * 20]
    data = b"".join(iter_encoded(items(), packs, SHA1))
    found = parse_thin(data, SHA1)
    assert found.packs == frozenset(packs)
    rows = [(item.oid, row) for item in items() for row in item.rows if row.base is not None]
    assert rows == list(found.iter_rows())
    path = tmp_path / "one.thin"
    path.write_bytes(data)
    assert read_thin_packs(str(path), SHA1) == frozenset(packs)
    streams = len(b"wholenearfaritself")
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if len(data) - 20 - streams <= at < len(data) - 20:
            assert len(list(parse_thin(damaged, SHA1).iter_rows())) >= 2, "its own checksum is wrong"
        else:
            with pytest.raises(BadThin):
                parse_thin(damaged, SHA1)
    for cut in range(1, len(data), 7):
        with pytest.raises(BadThin):
            parse_thin(data[:-cut], SHA1)
    with pytest.raises(BadThin):
        parse_thin(data, SHA256)


def sign(data: bytes, streams: int, algo: HashAlgorithm) -> bytes:
    return data[:-20] + algo.new(data[: len(data) - 20 - streams]).digest()


@needs_compiled
@pytest.mark.parametrize("value", [1, 2, 3, FOREIGN + 1, FOREIGN + 2, WHOLE - 1])
def test_numbers_that_lead_elsewhere_are_refused(value: int) -> None:
    """With a checksum that fits: whoever wrote it meant it."""
    good = items()[:2]
    data = bytearray(b"".join(iter_encoded(good, [], SHA1)))
    streams = len(b"wholenearfar")
    bases = [WHOLE, 0, FOREIGN]
    at = bytes(data).index(b"".join(base.to_bytes(4, "little") for base in bases))
    assert parse_thin(sign(bytes(data), streams, SHA1), SHA1).file is not None
    data[at + 4 : at + 8] = value.to_bytes(4, "little")
    with pytest.raises(BadThin, match="outside"):
        parse_thin(sign(bytes(data), streams, SHA1), SHA1)
