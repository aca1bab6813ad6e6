import pickle
import time
import tracemalloc

import pytest

from govc.errors import LimitExceeded
from govc.graph.closure import ClosureRequest, find_closure
from govc.graph.commits import CommitTable, History
from govc.graph.filter import ObjectSelection
from govc.graph.interface import Ticker, drain
from govc.graph.sparse import PATTERNS_BYTES_MAX, SparsePatterns, parse_sparse_patterns

from .builder import RepositoryBuilder
from .oracle import GitOracle

PATTERNS = [
    b"*", b"/*\n!/*/", b"x", b"d/", b"/d", b"d/e", b"**/e", b"d/**", b"d/**/x", b"a*c", b"?bc", b"[ab]bc", b"[!a]*",
    b"\\!x", b"!x", b"*\n!d/", b"*\n!d/\n/d/e/", b"#x", b"\\#x", b"x ", b"x\\ ", b"[[:digit:]]*", b"/d/*/x", b"[a-c]bc",
    b"d/e/", b"**", b"/**/x", b"*.c\n!abc.c", b"[", b"a\\*c", b"d/*", b"***/x", b"d**", b"e/x", b"[]x]", b"\\x", b"",
    b"d/e/**\n!**/x", b"//x", b"a**c", b"[^a]bc",
]  # fmt: skip


def sample() -> tuple[RepositoryBuilder, bytes]:
    repo = RepositoryBuilder()
    files = [b"x", b"abc", b"abc.c", b"bbc", b"z.c", b"!x", b"#x", b"x ", b"1file", b"a*c", b"]", b"a-c"]
    deep = {name: b"deep " + name for name in files}
    middle = {**{name: b"middle " + name for name in files}, b"e": deep, b"f": {b"x": b"f x"}}
    top = {**{name: b"top " + name for name in files}, b"d": middle, b"e": {b"x": b"e x", b"g": {b"x": b"g x"}}}
    return repo, repo.commit(top)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[RepositoryBuilder, bytes, GitOracle]:
    repo, commit = sample()
    for pattern in PATTERNS:
        repo.blob(pattern + b"\n")
    return repo, commit, GitOracle(repo, tmp_path_factory.mktemp("sparse") / "r.git", [commit])


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.decode().replace("\n", "|") or "empty")
def test_chosen_blobs_are_those_git_chooses(pattern: bytes, judged: tuple[RepositoryBuilder, bytes, GitOracle]) -> None:
    repo, commit, git = judged
    patterns = repo.blob(pattern + b"\n")
    expected = git.objects(f"--filter=sparse:oid={patterns.hex()}", commit.hex())
    request = ClosureRequest(
        wants=(commit,), selection=ObjectSelection(sparse=(parse_sparse_patterns(pattern + b"\n"),))
    )
    assert expected == set(repo.names(drain(find_closure(History(CommitTable(repo)), request)).numbers))


@pytest.mark.parametrize(
    "words",
    ["blob:none", "blob:limit=6", "tree:0", "tree:1", "tree:2", "tree:3", "object:type=commit", "object:type=tree",
     "object:type=blob", "object:type=tag", "combine:tree:2+blob:limit=6"],
)  # fmt: skip
def test_filters_leave_out_what_git_leaves_out(words: str, judged: tuple[RepositoryBuilder, bytes, GitOracle]) -> None:
    repo, commit, git = judged
    selections = {
        "blob:none": ObjectSelection(types=frozenset({1, 2, 4})),
        "blob:limit=6": ObjectSelection(blob_limit=6),
        **{f"tree:{n}": ObjectSelection(tree_depth=n) for n in range(4)},
        "object:type=commit": ObjectSelection(types=frozenset({1})),
        "object:type=tree": ObjectSelection(types=frozenset({2})),
        "object:type=blob": ObjectSelection(types=frozenset({3})),
        "object:type=tag": ObjectSelection(types=frozenset({4})),
        "combine:tree:2+blob:limit=6": ObjectSelection(tree_depth=2).and_also(ObjectSelection(blob_limit=6)),
    }
    expected = git.objects(f"--filter={words}", commit.hex())
    request = ClosureRequest(wants=(commit,), selection=selections[words])
    assert expected == set(repo.names(drain(find_closure(History(CommitTable(repo)), request)).numbers))


def test_hostile_stars_take_no_exponential_time() -> None:
    patterns = parse_sparse_patterns(b"*a" * 200 + b"b\n")
    assert patterns.find_choice(b"a" * 2000, is_directory=False) is None


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        parse_sparse_patterns(b"x" * (PATTERNS_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (b" " * PATTERNS_BYTES_MAX, None),
        (b"*a" * (PATTERNS_BYTES_MAX // 2), None),
        (b"/" + b"*" * (PATTERNS_BYTES_MAX - 3) + b"/x", True),
        (b"[" + b"[:" * (PATTERNS_BYTES_MAX // 2 - 2) + b"[]", None),
        (b"[[:a]" * (PATTERNS_BYTES_MAX // 5), None),
    ],
    ids=["spaces", "stars", "run", "classes", "brackets"],
)
def test_long_lines_are_read_in_proportion_to_their_length(text: bytes, chosen: bool | None) -> None:
    """Of this thread's own processor time, which no neighbour takes: it was a minute."""
    before = time.thread_time()
    assert parse_sparse_patterns(text).find_choice(b"x", is_directory=False) is chosen
    assert time.thread_time() - before < 10


@pytest.mark.parametrize("text", [b"[!a]", b"a?", b"*a", b"[[:alpha:]]"])
def test_long_lines_take_memory_in_proportion_to_their_length(text: bytes) -> None:
    data = text * (40_000 // len(text))
    tracemalloc.start()
    try:
        parse_sparse_patterns(data).find_choice(b"x", is_directory=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * len(data)


def test_to_another_process_goes_the_text_alone() -> None:
    text = b"/d/*\n!x\n" * 1000
    patterns = parse_sparse_patterns(text)
    assert patterns.find_choice(b"d/y", is_directory=False) is True
    data = pickle.dumps(ObjectSelection(sparse=(patterns, patterns)))
    assert len(data) < len(text) + 1000
    one, other = pickle.loads(data).sparse
    assert one is other
    assert one.canonical_form == text
    assert one.find_choice(b"d/x", is_directory=False) is False


def test_the_same_patterns_twice_are_asked_once() -> None:
    one, other = (ObjectSelection(sparse=(parse_sparse_patterns(text),)) for text in (b"a\n", b"b\n"))
    assert one.and_also(other).and_also(one).sparse == one.sparse + other.sparse


def test_a_tick_may_come_between_any_two_entries_of_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    repo = RepositoryBuilder()
    commit = repo.commit({b"%d" % number: b"%d" % number for number in range(100)})
    asked = 0
    find_choice = SparsePatterns.find_choice

    def count(patterns: SparsePatterns, path: bytes, *, is_directory: bool) -> bool | None:
        nonlocal asked
        asked += 1
        return find_choice(patterns, path, is_directory=is_directory)

    monkeypatch.setattr(SparsePatterns, "find_choice", count)
    monkeypatch.setattr(Ticker, "due", lambda _ticker: True)
    request = ClosureRequest(wants=(commit,), selection=ObjectSelection(sparse=(parse_sparse_patterns(b"1*\n"),)))
    between = []
    for _tick in find_closure(History(CommitTable(repo)), request):
        between.append(asked)
        asked = 0
    assert sum(between) + asked == 100
    assert max(between) == 1
