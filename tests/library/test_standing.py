"""A picture that stands by the kernel's silence: it does, it falls when anything changes, and it never lies."""

import gc
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc import Repository
from govc.kernels import notices
from govc.kernels.stamps import Stamps
from govc.library import standing
from govc.library.errors import RefNotFound
from govc.library.standing import LOCK, Patience, places_of
from govc.watch import watch_path
from tests.graph.oracle import GitOracle
from tests.kernels.both import needs_compiled
from tests.library.histories import on_disk, opened, random_history

pytestmark = needs_compiled

REPO, COMMITS = random_history(11, size=12)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand as soon as stat proves anything."""
    monkeypatch.setattr(standing, "QUESTIONS_MIN", 1)
    monkeypatch.setattr(standing, "QUESTIONS_MAX", 1)


@pytest.fixture
def git(tmp_path: Path) -> GitOracle:
    made = on_disk(REPO, tmp_path / "above" / "r.git", COMMITS[-3:])
    made.run("pack-refs", "--all")
    made.run("update-ref", "refs/heads/loose", COMMITS[0].hex())
    made.run("symbolic-ref", "HEAD", "refs/heads/b0")
    return made


@pytest.fixture
def repository(git: GitOracle) -> Iterator[Repository]:
    with opened(Path(git.path)) as made:
        yield made


def stands(repository: Repository, tries: int = 1_000_000) -> bool:
    """Ask until it stands: young stamps have to settle first."""
    for _ in range(tries):
        repository.snapshot()
        if repository._stood is not None and repository._stood.is_quiet():
            return True
    return False


needs_trust = pytest.mark.skipif(
    not standing._announces(os.stat(os.environ.get("TMPDIR", "/tmp")).st_dev),
    reason="temporary files are on a file system whose changes are not announced for certain",
)


@needs_trust
def test_it_stands_after_some_questions_and_asks_stat_no_more(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stands(repository)
    picture, ref = repository.snapshot(), repository.ref(b"refs/heads/b1")
    assert repository._stood is not None
    others = repository._stood.standing.others
    assert not [path for path in (*dict(others.present), *others.absent) if path.startswith(repository.path)]
    repository._proved_refs.clear()
    repository._current = None
    assert repository.snapshot() is picture and repository.ref(b"refs/heads/b1") is ref
    with pytest.raises(RefNotFound):
        repository.ref(b"refs/heads/none")


def by_hand(name: str, text: str) -> Callable[[GitOracle], None]:
    def write(git: GitOracle) -> None:
        (Path(git.path) / name).write_text(text)

    return write


def run(*words: str) -> Callable[[GitOracle], None]:
    return lambda git: (git.run(*words), None)[1]


def swap(git: GitOracle, what: str) -> None:
    """Another repository comes to lie at the same path."""
    there = Path(git.path) if what == "the repository" else Path(git.path).parent
    other = there.parent.parent / "other"
    subprocess.run(["cp", "-a", str(there), str(other)], check=True)
    inside = other if what == "the repository" else other / "r.git"
    subprocess.run(["git", "-C", str(inside), "update-ref", "refs/heads/b1", COMMITS[1].hex()], check=True)
    there.rename(there.parent.parent / "gone")
    other.rename(there)


CHANGES = {
    "a packed ref becomes a loose one": run("update-ref", "refs/heads/b1", COMMITS[1].hex()),
    "a loose ref": run("update-ref", "refs/heads/loose", COMMITS[1].hex()),
    "a new ref": run("update-ref", "refs/heads/new", COMMITS[1].hex()),
    "a new ref in a new folder": run("update-ref", "refs/heads/x/y/new", COMMITS[1].hex()),
    "a new ref in a new namespace": run("update-ref", "refs/other/new", COMMITS[1].hex()),
    "a packed ref is deleted": run("update-ref", "-d", "refs/heads/b1"),
    "a loose ref is deleted": run("branch", "-D", "loose"),
    "refs are packed": run("pack-refs", "--all", "--prune"),
    "HEAD": run("symbolic-ref", "HEAD", "refs/heads/b2"),
    "HEAD is detached": run("update-ref", "--no-deref", "HEAD", COMMITS[1].hex()),
    "a loose ref by hand": by_hand("refs/heads/loose", COMMITS[1].hex() + "\n"),
    "a packed ref by hand": by_hand("refs/heads/b1", COMMITS[1].hex() + "\n"),
    "HEAD by hand": by_hand("HEAD", "ref: refs/heads/b2\n"),
    "packed-refs by hand": by_hand("packed-refs", f"{COMMITS[1].hex()} refs/heads/b1\n"),
    "configuration": run("config", "some.thing", "other"),
    "shallow": by_hand("shallow", COMMITS[4].hex() + "\n"),
    "a graft": lambda git: (
        os.makedirs(f"{git.path}/info", exist_ok=True),
        by_hand("info/grafts", COMMITS[4].hex() + "\n")(git),
    )[1],
    "an alternate": lambda git: by_hand("objects/info/alternates", f"{git.path}/objects/../objects\n")(git),
    "the repository is another": lambda git: swap(git, "the repository"),
    "the folder above it is another": lambda git: swap(git, "the folder above"),
}


@needs_trust
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_it_falls_at_each_change_and_the_next_answer_is_right(
    repository: Repository, git: GitOracle, change: str
) -> None:
    assert stands(repository)
    stood = repository._stood
    CHANGES[change](git)
    assert stood is not None and not stood.is_quiet()
    with opened(Path(git.path)) as fresh:
        assert repository.refs.list() == fresh.refs.list()
        assert [repository.ref(ref.name) for ref in fresh.refs.list()] == list(fresh.refs.list())
        assert repository.head == fresh.head
        assert repository.snapshot().is_shallow == fresh.snapshot().is_shallow
        assert repository.snapshot().inner.grafts == fresh.snapshot().inner.grafts


WORDS = st.sampled_from(
    [
        *(f"update-ref refs/heads/{name} {oid.hex()}" for name in ("b0", "b1", "x/y", "x/z") for oid in COMMITS[:3]),
        *(f"update-ref -d refs/heads/{name}" for name in ("b0", "b1", "x/y", "x/z")),
        "pack-refs --all --prune",
        "pack-refs",
        "symbolic-ref HEAD refs/heads/b1",
        "symbolic-ref HEAD refs/heads/x/y",
        f"tag -f t {COMMITS[2].hex()}",
        "tag -d t",
        "config some.thing else",
        "repack -d -q",
        "nothing",
    ]
)


@needs_trust
@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.tuples(WORDS, st.booleans()), min_size=4, max_size=14))
def test_whatever_git_does_it_says_what_a_fresh_look_says(
    steps: list[tuple[str, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    git = on_disk(REPO, tmp_path_factory.mktemp("walk") / "r.git", COMMITS[-3:])
    with opened(Path(git.path)) as repository:
        for words, is_awaited in steps:
            assert not is_awaited or stands(repository)
            if words != "nothing":
                git.run(*words.split(), check=False)
            with opened(Path(git.path)) as fresh:
                expected, head = fresh.refs.list(), fresh.head
            for ref in expected:
                assert repository.ref(ref.name) == ref
            assert (repository.refs.list(), repository.head) == (expected, head)


@needs_trust
def test_a_lock_of_git_s_keeps_it_from_standing(repository: Repository, git: GitOracle) -> None:
    locks = [Path(git.path) / name for name in ("refs/heads/b1.lock", "packed-refs.lock", "HEAD.lock", "config.lock")]
    for lock in locks:
        assert stands(repository)
        stood = repository._stood
        lock.touch()
        assert stood is not None and not stood.is_quiet()
        settled(repository)
        assert not stands(repository, tries=50)
        lock.unlink()
    assert stands(repository)


def settled(repository: Repository) -> None:
    """Wait until stat proves what was seen last."""
    while repository.snapshot() and (repository._current is None or repository._current[0] is None):
        pass


@needs_trust
def test_who_is_told_of_a_change_elsewhere_never_hears_of_the_past_here(repository: Repository, git: GitOracle) -> None:
    """One process moves a ref forward; what another reader has seen is not taken back."""
    rank = {oid.hex(): number for number, oid in enumerate(COMMITS)}
    steps = sorted(rank, key=lambda oid: rank[oid])
    git.run("update-ref", "refs/heads/moving", steps[0])
    path = Path(git.path) / "refs/heads/moving"
    script = "".join(f"start\nupdate refs/heads/moving {oid}\ncommit\n" for oid in steps)
    stood = 0
    for _ in range(6):
        git.run("update-ref", "refs/heads/moving", steps[0])
        assert stands(repository)
        writer = subprocess.Popen(
            ["git", "-C", git.path, "update-ref", "--stdin"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert writer.stdin is not None
        while writer.poll() is None:
            seen = rank[path.read_text().strip()]
            known = rank[repository.ref(b"refs/heads/moving").oid.hex()]
            listed = rank[{ref.name: ref.oid.hex() for ref in repository.refs.list()}[b"refs/heads/moving"]]
            assert seen <= known <= listed
            stood += repository._stood is not None
            if not writer.stdin.closed:  # now, for all of it may be done before the next look
                writer.stdin.write(script.encode())
                writer.stdin.close()
        assert repository.ref(b"refs/heads/moving").oid.hex() == steps[-1]
    assert stood > 0


@needs_trust
def test_a_change_is_seen_once_git_says_that_it_is_done(repository: Repository, git: GitOracle) -> None:
    rng = random.Random(5)
    with subprocess.Popen(
        ["git", "-C", git.path, "update-ref", "--stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        for number in range(200):
            oid, name = rng.choice(COMMITS), rng.choice(["b0", "b1", "loose", "x/y"])
            if number % 10 == 0:
                assert stands(repository)
            writer.stdin.write(f"start\nupdate refs/heads/{name} {oid.hex()}\ncommit\n".encode())
            writer.stdin.flush()
            assert [writer.stdout.readline() for _ in range(2)] == [b"start: ok\n", b"commit: ok\n"]
            assert repository.ref(b"refs/heads/" + name.encode()).oid == oid
            assert repository.resolve(name) == oid


@needs_trust
def test_threads_are_all_told(repository: Repository, git: GitOracle) -> None:
    """Events are taken by one of them; the others must not answer from before."""
    barrier = threading.Barrier(5)
    wanted = COMMITS[-2]
    wrong: list[bytes] = []

    def ask() -> None:
        while True:
            barrier.wait()
            if wanted == b"":
                return
            found = [repository.ref(b"refs/heads/b1").oid for _ in range(20)]
            wrong.extend(oid for oid in found if oid != wanted)
            barrier.wait()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        assert stands(repository)
        wanted = COMMITS[number % 3]
        git.run("update-ref", "refs/heads/b1", wanted.hex())
        barrier.wait()
        barrier.wait()
    wanted = b""
    barrier.wait()
    for thread in threads:
        thread.join()
    assert wrong == []


@needs_trust
def test_a_worktree_s_commit_is_seen_in_what_it_shares(repository: Repository, git: GitOracle, tmp_path: Path) -> None:
    git.run("worktree", "add", "-q", str(tmp_path / "tree"), "b1")
    linked = opened(tmp_path / "tree")
    assert stands(repository)
    settled(linked)
    assert not stands(linked, tries=50)
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m"],
        cwd=tmp_path / "tree",
        check=True,
    )
    new = bytes.fromhex(git.run("rev-parse", "b1").stdout.decode().strip())
    assert repository.ref(b"refs/heads/b1").oid == new == linked.ref(b"refs/heads/b1").oid
    linked.close()


@needs_trust
def test_configuration_elsewhere_is_asked_by_stat(git: GitOracle, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environ = {"HOME": str(tmp_path / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
    with Repository(git.path, environ=environ) as repository:
        assert stands(repository)
        before = repository.snapshot()
        (tmp_path / "home" / ".gitconfig").write_text("[some]\n\tthing = other\n")
        assert repository.snapshot().inner.config is not before.inner.config
        assert stands(repository)


def test_on_the_way_there_are_no_links(git: GitOracle, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "above")
    watched = [watch_path(f"{tmp_path}/{way}/r.git/HEAD") for way in ("link", "above")]
    assert places_of(f"{tmp_path}/link/r.git", watched[:1]) is None
    Path(f"{git.path}/refs/heads/link").symlink_to("b1")
    assert places_of(git.path, [watch_path(f"{git.path}/refs/heads/link")]) is None
    Path(f"{git.path}/refs/heads/link").unlink()


def test_other_file_systems_are_left_to_stat(git: GitOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = [watch_path(f"{git.path}/HEAD")]
    monkeypatch.setattr(standing, "FILE_SYSTEMS", frozenset(("nfs",)))
    assert places_of(git.path, watched) is None


@needs_trust
def test_what_is_watched(git: GitOracle) -> None:
    names = ("HEAD", "refs/heads", "info/none/grafts", "packed-refs")
    found = places_of(git.path, [watch_path(f"{git.path}/{name}") for name in names])
    assert found is not None
    places = {path: (kind, wanted) for path, kind, wanted in found}
    assert places["/"] == places[str(Path(git.path).parent)] == places[f"{git.path}/refs"] == (notices.ITSELF, None)
    assert places[f"{git.path}/refs/heads"] == (notices.FOLDER, None)
    assert places[f"{git.path}/HEAD"] == (notices.FILE, None)
    wanted = {b"HEAD", b"HEAD" + LOCK, b"packed-refs", b"packed-refs" + LOCK}
    assert places[git.path] == (notices.FOLDER, wanted)
    assert places[f"{git.path}/info"] == (notices.FOLDER, {b"none", b"none" + LOCK})


@needs_trust
def test_too_many_places_are_left_to_stat(git: GitOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = [watch_path(f"{git.path}/HEAD")]
    monkeypatch.setattr(standing, "PLACES_MAX", 2)
    assert places_of(git.path, watched) is None


@needs_trust
def test_what_appeared_while_it_was_set_up_is_noticed(
    git: GitOracle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder of an absent file came after it was looked for, and before its folder was watched."""
    folder = Path(git.path) / "later"
    watched = [watch_path(f"{folder}/file")]
    stamps = Stamps([], [f"{folder}/file"])
    real = standing.Notice

    class Slow(real):  # type: ignore[misc, valid-type]
        def watch(self, path: str, kind: int, names: object = None) -> bool:
            folder.mkdir(exist_ok=True)
            return bool(super().watch(path, kind, names))

    monkeypatch.setattr(standing, "Notice", Slow)
    assert standing.stand(git.path, watched, stamps) is None
    made = standing.stand(git.path, watched, stamps)
    assert made is not None and made.holds()
    (folder / "file").touch()
    assert not made.holds()


def test_patience_grows_with_what_falls_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "QUESTIONS_MIN", 4)
    monkeypatch.setattr(standing, "QUESTIONS_MAX", 16)
    patience = Patience()

    def questions() -> int:
        count = 1
        while not patience.is_over():
            count += 1
        return count

    asked = []
    for _ in range(4):
        asked.append(questions())
        patience.begin()
        patience.end()
    assert asked == [4, 8, 16, 16]
    questions()
    patience.begin()
    monkeypatch.setattr(standing, "CALM_SECONDS", -1.0)
    patience.end()
    assert questions() == 4


def test_closing_lets_go_of_all_watches(git: GitOracle) -> None:
    gc.collect()  # what other tests have left is let go of here, and not in between
    before = notices.watch_count()
    repository = opened(Path(git.path))
    stands(repository, tries=2000)
    repository.close()
    assert notices.watch_count() == before
    forgotten = opened(Path(git.path))
    stands(forgotten, tries=2000)
    del forgotten
    gc.collect()
    assert notices.watch_count() == before


def test_a_child_proves_by_stat(repository: Repository, git: GitOracle) -> None:
    stands(repository, tries=2000)
    git.run("update-ref", "refs/heads/b1", COMMITS[1].hex())
    child = os.fork()
    if child == 0:
        right = repository.ref(b"refs/heads/b1").oid == COMMITS[1]
        os._exit(not right)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert repository.ref(b"refs/heads/b1").oid == COMMITS[1]
