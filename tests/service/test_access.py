"""Permissions in front of real repositories: names, aliases, places, and the rules that reach a push."""

import subprocess

import pytest

from govc.auth.permission_file import parse_permissions
from govc.auth.principal import ANONYMOUS, AccessDenied, Principal
from govc.errors import RepositoryNotFound
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.repo.runtime import PLAIN
from govc.service.backend import Backend
from govc.service.context import RECEIVE_PACK, UPLOAD_PACK, RequestContext
from govc.settings import Settings

FILE = b"""
[[rule]]
repositories = ["secret", "nested/**"]
write = ["rita"]
none = ["@anyone"]

[[rule]]
repositories = ["**"]
read = ["@anyone"]
write = ["@users"]

[[branch]]
repositories = ["app"]
refs = ["refs/heads/main"]
"""


class World:
    def __init__(self, root):
        self.root = root
        self.policy = parse_permissions(FILE, "p.toml")
        self.backend = self.over(str(root))

    def over(self, root):
        settings = Settings(root=root, export_all=True)
        environ = {"HOME": str(self.root), "GIT_CONFIG_NOSYSTEM": "1"}
        return Backend(settings, PLAIN, environ, policy=lambda: self.policy)

    def make(self, name):
        path = self.root / name
        create_repository(str(path), SHA1, export=True, allow_push=True)
        create_first_commit(str(path), SHA1, now_seconds=1)
        return path

    def git(self, *arguments):
        environ = {"HOME": str(self.root), "GIT_CONFIG_NOSYSTEM": "1", "PATH": "/usr/bin:/bin"}
        subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True, env=environ)

    def open(self, url, user=None, service=UPLOAD_PACK, backend=None):
        principal = Principal(user=user, method="password") if user else ANONYMOUS
        context = RequestContext(service=service, principal=principal, remote_user=user)
        return (backend or self.backend).open(url, context=context)

    def status(self, *what, **more):
        try:
            self.open(*what, **more)
        except (AccessDenied, RepositoryNotFound) as error:
            return error.http_status
        return 200


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "root")
    world.root.mkdir()
    for name in ("secret.git", "app.git", "nested/a.git"):
        world.make(name)
    return world


@pytest.mark.parametrize("url", ["/secret.git", "/secret", "/secret.git/", "/secret/.git"])
def test_no_alias_of_a_url_gets_around_a_rule(world, url):
    assert world.status(url, "rita") in (200, 404)
    assert (404, 404) == (world.status(url, "ann"), world.status(url))
    with pytest.raises(AccessDenied):
        world.open(url, "ann")


def test_levels_and_services(world):
    assert [world.status("/app", user) for user in (None, "ann")] == [200, 200]
    assert [world.status("/app", user, RECEIVE_PACK) for user in (None, "ann")] == [403, 200]
    assert world.status("/nix", "ann") == 404


def test_what_may_not_be_known_is_refused_without_a_look_at_the_disk(world, monkeypatch):
    def never(*_, **__):
        raise AssertionError("looked")

    monkeypatch.setattr("govc.service.backend.find_repository", never)
    for url in ("/secret", "/nested/a", "/nested/not-there", "/nested/../x"):
        with pytest.raises(AccessDenied) as caught:
            world.open(url, "ann")
        assert caught.value.http_status == 404


def test_a_linked_worktree_gives_no_more_than_its_repository(world):
    world.git("-C", world.root / "secret.git", "worktree", "add", "-q", world.root / "wt", "main")
    for url in ("/wt", "/wt/.git", "/secret.git/worktrees/wt", "/secret/worktrees/wt"):
        assert world.status(url, "ann") == 404
    assert world.status("/wt", "rita") == 200
    assert world.status("/secret.git/worktrees/wt", "rita") == 200


def test_a_repository_inside_another_gives_no_more_than_that(world):
    world.make("secret.git/modules/sub")
    world.make("app.git/modules/sub")
    assert world.status("/secret.git/modules/sub", "ann") == 404
    assert world.status("/secret.git/modules/sub", "rita") == 200
    assert world.status("/app.git/modules/sub", "ann") == 200
    world.make("secret.git/sub")
    assert world.status("/secret.git/sub", "ann") == 404


def test_a_link_is_a_name_of_its_own_but_not_a_way_into_the_middle(world):
    (world.root / "alias.git").symlink_to("secret.git")
    assert world.status("/alias", "ann") == 200
    world.git("-C", world.root / "secret.git", "worktree", "add", "-q", world.root / "wt", "main")
    (world.root / "inside").symlink_to("secret.git/worktrees/wt")
    assert world.status("/inside", "ann") == 404


def test_a_root_that_is_a_repository_itself(world):
    world.policy = parse_permissions(b'[[rule]]\nrepositories = ["/"]\nread = ["ann"]\n', "p")
    backend = world.over(str(world.root / "app.git"))
    assert [world.status("", user, backend=backend) for user in ("ann", "bob")] == [200, 404]
    world.make("app.git/modules/sub")
    world.policy = parse_permissions(b'[[rule]]\nrepositories = ["/"]\nnone = ["bob"]\nread = ["ann"]\n' + FILE, "p")
    assert [world.status("/modules/sub", user, backend=backend) for user in ("ann", "bob")] == [200, 404]
    backend = world.over(str(world.root / "app.git") + "/")
    assert world.status("", "ann", backend=backend) == 200


def test_the_policy_of_this_moment_counts(world):
    assert world.status("/app", "ann") == 200
    world.policy = parse_permissions(b"", "p")
    assert world.status("/app", "ann") == 404


def test_a_push_gets_the_rules_of_its_branches_and_a_fetch_none(world):
    assert world.open("/app", "ann", RECEIVE_PACK)._branch_rules
    assert not world.open("/app", "ann")._branch_rules
    assert not world.open("/secret", "rita", RECEIVE_PACK)._branch_rules


def test_without_a_policy_gits_own_rules_are_all(world):
    settings = Settings(root=str(world.root), export_all=True)
    backend = Backend(settings, PLAIN, {"HOME": str(world.root), "GIT_CONFIG_NOSYSTEM": "1"})
    assert world.status("/secret", None, RECEIVE_PACK, backend=backend) == 200
