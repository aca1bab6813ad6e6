"""Histories of paths that are asked for again: the same answers, for as long as they are right, within a budget."""

from pathlib import Path

import pytest

from govc import Repository
from govc.library import paths as path_histories
from tests.graph.oracle import GitOracle
from tests.library.histories import hexes, on_disk, opened, random_history

REPO, COMMITS = random_history(23, size=40)


@pytest.fixture
def git(tmp_path: Path) -> GitOracle:
    return on_disk(REPO, tmp_path / "r.git", COMMITS[-3:], seed=23)


def answers(repository: Repository) -> int:
    return len(repository._paths._answers[1])


QUESTIONS: list[tuple[list[str], dict[str, object], list[str]]] = [
    (["b0"], {}, []),
    (["b1"], {}, []),
    (["b0"], {"order": "topo"}, ["--topo-order"]),
    (["b0"], {"first_parent": True}, ["--first-parent"]),
    (["b0"], {"limit": 2}, ["-n2"]),
    (["b0", "b1"], {}, []),
    (["b0"], {"exclude": ["b1"]}, ["^b1"]),
    (["b1"], {"exclude": ["b0"]}, ["^b0"]),
]


def test_each_question_has_its_own_answer_again(git: GitOracle) -> None:
    with opened(Path(git.path)) as repository:
        for _ in range(3):
            for names in ([b"a"], [b"b"], [b"a", b"b"], [b"dir"], [b"none"]):
                for tips, options, words in QUESTIONS:
                    found = repository.log(*tips, paths=names, **options)  # type: ignore[arg-type]
                    expected = git.run("rev-list", *words, *tips, "--", *(name.decode() for name in names)).stdout
                    assert [commit.hex for commit in found] == hexes(expected)
        assert answers(repository) == 5 * len(QUESTIONS)
        repository.log("b0")
        assert answers(repository) == 5 * len(QUESTIONS)


def test_what_came_since_is_there(git: GitOracle) -> None:
    with opened(Path(git.path)) as repository:
        for step in (10, 20, 39):
            git.run("update-ref", "refs/heads/b0", COMMITS[step].hex())
            for _ in range(2):
                found = [commit.hex for commit in repository.log("b0", paths=[b"a"])]
                assert found == hexes(git.run("rev-list", "b0", "--", "a").stdout)
        assert answers(repository) == 3


def test_another_graph_has_other_answers(git: GitOracle) -> None:
    with opened(Path(git.path)) as repository:
        asked = [(tip.hex(), path) for tip in COMMITS for path in (b"a", b"b", b"c", b"dir")]
        tip, path = max(asked, key=lambda one: len(repository.log(one[0], paths=[one[1]])))
        whole = repository.log(tip, paths=[path]).oids
        assert len(whole) > 2
        (Path(git.path) / "shallow").write_text(whole[1].hex() + "\n")
        for _ in range(2):
            cut = [commit.hex for commit in repository.log(tip, paths=[path])]
            assert cut == hexes(git.run("rev-list", tip, "--", path.decode()).stdout) != [oid.hex() for oid in whole]
        (Path(git.path) / "shallow").unlink()
        assert repository.log(tip, paths=[path]).oids == whole


def test_answers_are_counted_and_bounded(git: GitOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(Path(git.path)) as repository:
        before = repository.statistics().path_bytes
        repository.log("b0", paths=[b"a"])
        once = repository.statistics().path_bytes
        repository.log("b0", paths=[b"a"])
        assert before < once == repository.statistics().path_bytes
        most = int(repository._paths._budget_bytes * path_histories.ANSWERS_SHARE)
        for number in range(most // 400 + 10):
            repository.log("b0", paths=[b"none-%d" % number])
            assert repository._paths._answers_bytes <= most
        assert 0 < answers(repository) < most // 400
        monkeypatch.setattr(path_histories, "ANSWERS_SHARE", 0)
        asked = repository.log("b0", paths=[b"b"]).oids
        assert answers(repository) == 0 and repository.log("b0", paths=[b"b"]).oids == asked
        repository.close()
        assert repository.statistics().path_bytes == 0
