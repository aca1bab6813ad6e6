"""Refs that are there and not for everybody: hideRefs in its three places, and GIT_NAMESPACE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from compat import frontends
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import V2, ZERO, discover, parse_advertisement, request

Twin = Callable[[Repo], str]
RULES = [
    ["refs/heads/feature"],
    ["refs/heads/"],
    ["refs/heads", "!refs/heads/topic"],
    ["refs/tags", "!refs/tags/v1", "refs/tags/v1"],
    ["^refs/heads/main"],
    ["refs/heads/top"],
    ["!refs/heads"],
    ["refs"],
    ["HEAD"],
    ["refs/heads/main", "refs/notes/"],
]


@pytest.mark.rows("CF-06", "U0-68", "V2-20", "RP-13")
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("section", ["transfer", "uploadpack", "receive"])
def test_hidden_refs_are_gits(server: Server, git: Git, twin: Twin, rules: list[str], section: str) -> None:
    repo = server.create_repo()
    for rule in rules:
        repo.run("config", "--add", f"{section}.hideRefs", rule)
    for service in ("upload-pack", "receive-pack"):
        ours, theirs = (parse_advertisement(discover(url, service).packets)[0] for url in (repo.url, twin(repo)))
        assert theirs == ours
    assert git("ls-remote", twin(repo), check=False).stdout == git("ls-remote", repo.url, check=False).stdout


@pytest.mark.rows("U0-68")
def test_settings_of_two_sections_add_up(server: Server, twin: Twin) -> None:
    repo = server.create_repo(config={"transfer.hideRefs": "refs/heads", "uploadpack.hideRefs": "!refs/heads/main"})
    for service in ("upload-pack", "receive-pack"):
        ours, theirs = (parse_advertisement(discover(url, service).packets)[0] for url in (repo.url, twin(repo)))
        assert theirs == ours


def fill(git: Git, server: Server) -> Repo:
    """A repository with refs in namespaces `a` and `a/b`."""
    repo = server.create_repo()
    repo.run("update-ref", "refs/namespaces/a/refs/heads/main", "main~1")
    repo.run("update-ref", "refs/namespaces/a/refs/tags/v1", "refs/tags/v1")
    repo.run("symbolic-ref", "refs/namespaces/a/HEAD", "refs/namespaces/a/refs/heads/main")
    repo.run("update-ref", "refs/namespaces/a/refs/namespaces/b/refs/heads/deep", "main~2")
    return repo


@pytest.mark.rows("HB-70", "HB-71", "V2-54", "U0-15", "RP-11")
@pytest.mark.parametrize("name", ["a", "a/b", "none"])
def test_a_namespace_is_a_repository_of_its_own(
    private_server: Callable[..., Any], git: Git, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    env = {"GIT_NAMESPACE": name}
    server = private_server(env)
    repo = fill(git, server)
    with frontends.start("oracle", server.root, tmp_path_factory.mktemp("oracle-ns"), env) as oracle:
        other = repo.url.replace(server.url, oracle.url, 1)
        for service in ("upload-pack", "receive-pack"):
            ours, theirs = (parse_advertisement(discover(url, service).packets) for url in (repo.url, other))
            if (name, service, server.name != "oracle") == ("none", "upload-pack", True):
                # Releases of git since 2.44 say so much (U0-06); 2.39 says nothing.
                assert [ZERO.encode() + b" capabilities^{}"] == ours[0]
            else:
                assert theirs[0] == ours[0]
        for path in ("/info/refs", "/HEAD"):
            assert request(other, "GET", path).body == request(repo.url, "GET", path).body
        # git 2.39 lists a namespace's HEAD twice, once as HEAD and once as the ref that it is there.
        listed = [git("ls-remote", "--symref", url).stdout.splitlines() for url in (other, repo.url)]
        assert list(dict.fromkeys(listed[0])) == listed[1]
        assert discover(repo.url, headers=V2).status == 200


@pytest.mark.rows("HB-70", "RP-42")
def test_clone_and_push_stay_inside_the_namespace(private_server: Callable[..., Any], git: Git) -> None:
    server = private_server({"GIT_NAMESPACE": "a"})
    repo = fill(git, server)
    before = repo.refs()
    git("clone", "-q", repo.url, "clone")
    assert repo.rev("main~1") == git.rev("clone", "HEAD")
    tip = git.commit_file("clone", "a.txt", "a")
    git("push", "-q", "origin", "main", "main:new", ":refs/tags/v1", cwd="clone")
    after = repo.refs()
    assert tip == after.pop("refs/namespaces/a/refs/heads/new") == after["refs/namespaces/a/refs/heads/main"]
    assert "refs/namespaces/a/refs/tags/v1" not in after
    for name in ("refs/heads/main", "refs/tags/v1"):
        assert before[name] == after[name]
