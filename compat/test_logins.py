"""Logging in with the real git: prompts, credential helpers, tokens, bearer tokens, and who may do what."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from joserfc.jwk import ECKey

from compat import frontends
from compat.conftest import chosen_frontends, program_or_skip
from compat.gitclient import Git
from compat.hookkit import calls, record
from compat.logins import (
    ISSUER,
    PASSWORDS,
    PERMISSIONS,
    Person,
    World,
    basic,
    bearer,
    fetch_path,
    login,
    push_path,
    start_world,
)
from tests.waiting import wait_until

# One server for all of them, and its log is read at the end.
pytestmark = pytest.mark.xdist_group("logins")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, templates: Callable[[str, str], Path]) -> Iterator[World]:
    name = chosen_frontends()[0]
    if name in ("oracle", "cgi"):
        pytest.skip("logins are checked by servers that stay, not by a CGI program's front")
    with start_world(name, tmp_path_factory.mktemp("logins"), templates) as made:
        yield made


@pytest.fixture
def person(git: Git, tmp_path: Path) -> Person:
    folder = tmp_path / "person"
    folder.mkdir()
    return Person(git, folder)


# Asking and answering


@pytest.mark.rows("HB-78")
def test_git_asks_once_and_comes_in(world: World, person: Person) -> None:
    answers = person.answers("ann", PASSWORDS["ann"])
    person.git("clone", "-q", world.url("app.git"), "c", env=answers)
    assert person.asked() == ["Username", "Password"]
    person.git.commit_file("c", "x.txt", "1\n")
    person.git("push", "-q", "origin", "HEAD:refs/heads/asked", cwd="c", env=answers)
    assert person.asked() == ["Username", "Password"]


@pytest.mark.rows("HB-78")
def test_a_helper_is_told_what_worked_and_what_did_not(world: World, person: Person) -> None:
    url = world.url("app.git")
    host = urlsplit(url).netloc
    (person.folder / "store").write_text(f"http://{login('ann', 'outdated')}@{host}\n")
    wrong = person.answers("ann", "still wrong")
    assert "Authentication failed" in person.git.fails(*person.store, "ls-remote", url, env=wrong)
    # The stored password was tried, was refused, and is forgotten: next time git asks.
    assert person.stored == ""
    person.asked()
    right = person.answers("ann", PASSWORDS["ann"])
    person.git(*person.store, "ls-remote", url, env=right)
    assert person.asked() == ["Username", "Password"]
    assert quote(PASSWORDS["ann"], safe="").lower() in person.stored.lower()
    person.git(*person.store, "ls-remote", url, env=right)
    assert person.asked() == []


def test_anonymous_reading_asks_nobody_and_a_push_asks(world: World, person: Person) -> None:
    answers = person.answers("ann", PASSWORDS["ann"])
    person.git("clone", "-q", world.url("open.git"), "c", env=answers)
    assert person.asked() == []
    tip = person.git.commit_file("c", "x.txt", "2\n")
    person.git("push", "-q", "origin", "HEAD:refs/heads/asked", cwd="c", env=answers)
    assert person.asked() == ["Username", "Password"]
    assert person.git.rev(world.root / "open.git", "refs/heads/asked") == tip


def test_a_large_push_is_let_in_once_and_not_sent_twice(world: World, person: Person) -> None:
    person.git("clone", "-q", world.url("app.git", login("ann")), "c")
    (person.git.cwd / "c" / "big").write_bytes(os.urandom(3 << 20))
    tip = person.git.commit_file("c", "x.txt", "3\n")
    person.git("add", "big", cwd="c")
    person.git("commit", "-qm", "big", cwd="c")
    tip = person.git.rev("c", "HEAD")
    answers = person.answers("ann", PASSWORDS["ann"])
    person.git(
        "-c", "http.postBuffer=65536", "push", "-q", world.url("app.git"), "HEAD:refs/heads/big", cwd="c", env=answers
    )
    assert person.asked() == ["Username", "Password"]
    assert person.git.rev(world.root / "app.git", "refs/heads/big") == tip


def test_who_may_read_only_is_told_so_and_not_asked_again(world: World, person: Person) -> None:
    person.git("clone", "-q", world.url("app.git", login("bob")), "c")
    person.git.commit_file("c", "x.txt", "4\n")
    answers = person.answers("ann", PASSWORDS["ann"])
    assert "403" in person.git.fails("push", "origin", "HEAD:refs/heads/b", cwd="c", env=answers)
    assert person.asked() == []


def test_what_one_may_not_know_of_is_not_found(world: World, person: Person) -> None:
    for name in ("secret.git", "secret", "nothing.git"):
        said = person.git.fails("ls-remote", world.url(name, login("ann")))
        assert "not found" in said
        assert "Authentication failed" in person.git.fails("ls-remote", world.url(name), env=person.answers("x", "y"))
    person.git("ls-remote", world.url("secret.git", login("rita")))


@pytest.mark.parametrize(
    "path", [fetch_path("app.git"), fetch_path("nothing.git"), push_path("open.git"), "/app.git/HEAD"]
)
def test_the_challenge_is_one_that_helpers_understand(world: World, path: str) -> None:
    status, headers = world.request(path)
    assert status == 401
    assert headers["www-authenticate"].startswith('Basic realm="Git", charset="UTF-8"')
    assert headers["content-length"] == "0"
    assert "no-cache" in headers["cache-control"]


def test_the_post_asks_by_itself(world: World) -> None:
    status, headers = world.request("/open.git/git-receive-pack", method="POST")
    assert status == 401 and "www-authenticate" in headers
    # Without a service enabled, the answer for whoever may write is git's own (HB-26).
    config = ["git", "-C", str(world.root / "open.git"), "config", "http.receivepack"]
    subprocess.run([*config, "false"], check=True)
    try:
        assert world.status(push_path("open.git"), basic("ann", PASSWORDS["ann"])) == 403
    finally:
        subprocess.run(["git", "-C", str(world.root / "open.git"), "config", "--unset", "http.receivepack"], check=True)


@pytest.mark.rows("HB-68")
def test_reflogs_have_the_users_name(world: World, person: Person) -> None:
    subprocess.run(["git", "-C", str(world.root / "app.git"), "config", "core.logAllRefUpdates", "true"], check=True)
    person.git("clone", "-q", world.url("app.git", login("ann")), "c")
    person.git.commit_file("c", "x.txt", "5\n")
    person.git("push", "-q", "origin", "HEAD:refs/heads/logged", cwd="c")
    line = (world.root / "app.git" / "logs" / "refs" / "heads" / "logged").read_text()
    assert " ann <ann@http.127.0.0.1> " in line


def test_hooks_are_told_who_pushed_and_no_secret(world: World, person: Person) -> None:
    repository = world.root / "open.git"
    record(repository, "post-receive")
    try:
        person.git("clone", "-q", world.url("open.git", login("ann")), "c")
        person.git.commit_file("c", "x.txt", "for the hook\n")
        person.git("push", "-q", "origin", "HEAD:refs/heads/hooked", cwd="c")
        (call,) = calls(repository)
    finally:
        shutil.rmtree(repository / "hooks")
    assert call.environment["REMOTE_USER"] == "ann"
    assert call.environment["AUTH_TYPE"] == "Basic"
    assert call.environment["GIT_COMMITTER_NAME"] == "ann"
    told = "\n".join(call.environment.values())
    assert PASSWORDS["ann"] not in told and basic("ann", PASSWORDS["ann"])[6:] not in told


# Tokens


def test_a_token_stands_in_for_the_password(world: World, person: Person) -> None:
    token = world.make_token("ann", "--read", "**")
    for user in ("ann", "x-access-token"):
        person.git("ls-remote", world.url("app.git", f"{user}:{token}"))
    person.git("clone", "-q", world.url("app.git", f"ann:{token}"), "c")
    person.git.commit_file("c", "x.txt", "6\n")
    assert "403" in person.git.fails("push", "origin", "HEAD:refs/heads/t", cwd="c")
    token = world.make_token("ann", "--write", "open", "--write", "app")
    person.git("push", "-q", world.url("app.git", f"ann:{token}"), "HEAD:refs/heads/t", cwd="c")
    header = f"http.extraHeader=Authorization: Bearer {token}"
    person.git("-c", header, "ls-remote", world.url("app.git"))
    # It opens what it was made for, and never more than its user has.
    assert world.status(fetch_path("secret.git"), f"Bearer {world.make_token('ann', '--read', '**')}") == 404
    assert world.status(push_path("app.git"), f"Bearer {world.make_token('bob', '--write', '**')}") == 403


def test_an_expired_token_is_refused_and_forgotten_by_the_helper(world: World, person: Person) -> None:
    token = world.make_token("ann", "--read", "**", "--expires", "1h")
    path = world.conf / "tokens"
    host = urlsplit(world.running.url).netloc
    (person.folder / "store").write_text(f"http://ann:{token}@{host}\n")
    person.git(*person.store, "ls-remote", world.url("app.git"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["id"] == token[5:15]:
            line["expires_at"] = int(time.time())
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = person.git.fails(*person.store, "ls-remote", world.url("app.git"), env=person.answers("ann", token))
    assert "Authentication failed" in said
    assert person.stored == ""


def test_a_revoked_token_is_refused_at_once_by_every_worker(world: World) -> None:
    token = world.make_token("ann", "--read", "**")
    statuses = [world.status(fetch_path("app.git"), f"Bearer {token}") for _ in range(20)]
    assert statuses == [200] * 20
    world.govc("token", "--file", "tokens", "revoke", token[5:15])
    statuses = [world.status(fetch_path("app.git"), f"Bearer {token}") for _ in range(40)]
    assert statuses == [401] * 40


def test_a_deleted_user_is_out_at_once_in_every_worker(world: World) -> None:
    world.govc("password", "temp", "--file", "htpasswd", input="temps-password\n")
    allowed = [world.status(fetch_path("open.git"), basic("temp", "temps-password")) for _ in range(10)]
    assert allowed == [200] * 10
    world.govc("password", "temp", "--file", "htpasswd", "--delete")
    refused = [world.status(fetch_path("open.git"), basic("temp", "temps-password")) for _ in range(10)]
    assert refused == [401] * 10


# Bearer tokens of an issuer


def wait_until_known(world: World, key: Any) -> None:
    """The issuer isn't asked more often than every five seconds, by each worker: an unknown key waits for its turn."""

    def is_known() -> bool:
        return world.status(fetch_path("open.git"), f"Bearer {bearer(key)}") == 200

    wait_until(lambda: all(is_known() for _ in range(8)), "both workers know the key")


def test_a_bearer_token_opens_what_its_groups_may(world: World, person: Person) -> None:
    key = world.issuer.keys[0]
    wait_until_known(world, key)
    header = "http.extraHeader=Authorization: Bearer "
    token = bearer(key, groups=["release"])
    person.git("-c", header + token, "clone", "-q", world.url("app.git"), "c")
    person.git.commit_file("c", "x.txt", "7\n")
    person.git("-c", header + token, "push", "-q", "origin", "HEAD:refs/heads/release/1", cwd="c")
    assert world.status(fetch_path("app.git"), f"Bearer {bearer(key)}") == 404
    assert world.status(fetch_path("app.git"), f"Bearer {bearer(key, groups=['release', 'x'], sub='bob')}") == 200
    person.git("ls-remote", world.url("app.git", f"oauth2:{token}"))


def test_keys_are_rotated_under_a_running_server(world: World) -> None:
    old = world.issuer.keys[0]
    wait_until_known(world, old)
    new = world.issuer.rotate("new")

    def is_rotated() -> bool:
        """Who meets the new key asks the issuer, and forgets the old one; each worker by itself."""
        known, forgotten = (world.status(fetch_path("open.git"), f"Bearer {bearer(key)}") for key in (new, old))
        return (known, forgotten) == (200, 401)

    wait_until(lambda: all(is_rotated() for _ in range(8)), "both workers know the new key, and only that")


def test_bearer_tokens_that_are_no_good(world: World) -> None:
    key = world.issuer.keys[0]
    wait_until_known(world, key)
    stranger = ECKey.generate_key("P-256", {"kid": key.kid})
    none = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": key.kid}, {"iss": ISSUER, "aud": "git", "sub": "rita", "exp": 4102444800})
    )
    before = world.issuer.asked
    for token in (
        bearer(key, exp=int(time.time()) - 3600),
        bearer(key, nbf=int(time.time()) + 3600),
        bearer(key, aud="other"),
        bearer(key, iss="https://other.example"),
        bearer(stranger, sub="rita"),
        none + ".",
        none + ".AAAA",
        "garbage",
    ):
        status, headers = world.request(fetch_path("open.git"), f"Bearer {token}")
        assert status == 401
        assert "Bearer" in headers["www-authenticate"]
    assert world.issuer.asked - before <= 2


# The permission file under a running server


def test_a_change_counts_at_once_and_a_broken_one_does_not(world: World) -> None:
    path = world.conf / "permissions.toml"
    header = basic("bob", PASSWORDS["bob"])
    assert world.status(fetch_path("app.git"), header) == 200
    try:
        path.write_text(PERMISSIONS.replace('read = ["bob"]', 'none = ["bob"]'))
        assert [world.status(fetch_path("app.git"), header) for _ in range(8)] == [404] * 8
        line = len(PERMISSIONS.splitlines()) + 1
        path.write_text(PERMISSIONS + "nonsense\n")
        assert [world.status(fetch_path("app.git"), header) for _ in range(8)] == [404] * 8
        assert world.metric('govc_login_file_refused{file="permission_file"}') == "1.0"
        assert world.running.log is not None
        log = world.running.log.read_text()
        assert f"REFUSED, the version read before still counts: {path} line {line}: not TOML" in log
    finally:
        path.write_text(PERMISSIONS)

    def is_over() -> bool:
        """Several at once: which worker takes a connection is not ours to say, and who refused the file has to look."""
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: world.status(fetch_path("app.git"), header), range(8))) == {200}
        return world.metric('govc_login_file_refused{file="permission_file"}') == "0.0"

    wait_until(is_over, "every worker takes the file again")


# Branch protection


def test_a_protected_branch_goes_forward_only_and_stays(world: World, person: Person) -> None:
    git, url = person.git, world.url("app.git", login("ann"))
    git("clone", "-q", url, "c")
    # git's own word on deleting HEAD's branch comes first; here it is silent.
    git("config", "receive.denyDeleteCurrent", "ignore", cwd=world.root / "app.git")
    first = git.commit_file("c", "x.txt", "8\n")
    git("push", "-q", "origin", "HEAD:main", cwd="c")
    git("reset", "-q", "--hard", "HEAD~1", cwd="c")
    git.commit_file("c", "y.txt", "y\n")
    said = git.fails("push", "origin", "+HEAD:main", cwd="c")
    assert "main (protected ref: non-fast-forward not allowed)" in said
    assert "main (protected ref: deletion not allowed)" in git.fails("push", "origin", ":main", cwd="c")
    assert git.rev(world.root / "app.git", "refs/heads/main") == first
    # Other branches are nobody's business, and a refused one takes only an atomic push with it.
    said = git.fails("push", "origin", "+HEAD:main", "+HEAD:refs/heads/other", cwd="c")
    assert git.rev(world.root / "app.git", "refs/heads/other") == git.rev("c", "HEAD")
    said = git.fails("push", "--atomic", "origin", "+HEAD:main", "+HEAD:refs/heads/atomic", cwd="c")
    assert "atomic" not in git.refs(world.root / "app.git")
    # An admin is exempt by the rule.
    git("push", "-q", world.url("app.git", login("rita")), "+HEAD:main", cwd="c")
    assert git.rev(world.root / "app.git", "refs/heads/main") == git.rev("c", "HEAD")


def test_protected_tags_never_move(world: World, person: Person) -> None:
    git, url = person.git, world.url("app.git", login("ann"))
    git("clone", "-q", url, "c")
    git("tag", "-a", "-m", "one", "kept", cwd="c")
    git("push", "-q", "origin", "kept", cwd="c")
    git.commit_file("c", "x.txt", "9\n")
    git("tag", "-f", "-a", "-m", "two", "kept", cwd="c")
    assert "kept (protected ref: non-fast-forward not allowed)" in git.fails("push", "-f", "origin", "kept", cwd="c")
    assert "kept (protected ref: deletion not allowed)" in git.fails("push", "origin", ":refs/tags/kept", cwd="c")


def test_branches_for_some_only_and_for_signed_pushes_only(world: World, person: Person) -> None:
    git, url = person.git, world.url("app.git", login("ann"))
    git("clone", "-q", url, "c")
    said = git.fails("push", "origin", "HEAD:refs/heads/release/9", cwd="c")
    assert "release/9 (protected ref: not yours to update)" in said
    said = git.fails("push", "origin", "HEAD:refs/heads/signed", cwd="c")
    assert "signed (protected ref: the push must be signed (git push --signed))" in said
    assert not {"refs/heads/release/9", "refs/heads/signed"} & git.refs(world.root / "app.git").keys()


def test_a_signed_push_by_a_trusted_key_may_enter_and_no_other(world: World, person: Person, tmp_path: Path) -> None:
    keygen = program_or_skip("ssh-keygen")
    git, repository = person.git, world.root / "app.git"
    for name in ("trusted", "stranger"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    public = (tmp_path / "trusted.pub").read_text().split()
    (tmp_path / "allowed").write_text(f'ada@example.com namespaces="git" {public[0]} {public[1]}\n')
    git("config", "receive.certNonceSeed", "sekrit", cwd=repository)
    git("config", "gpg.ssh.allowedSignersFile", tmp_path / "allowed", cwd=repository)
    git("clone", "-q", world.url("app.git", login("ann")), "c")
    target = "HEAD:refs/heads/signed"
    for name in ("stranger", "trusted"):
        options = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={tmp_path / name}"]
        if name == "stranger":
            assert "must be signed" in git.fails(*options, "push", "--signed", "origin", target, cwd="c")
            assert "must be signed" in git.fails("push", "origin", target, cwd="c")
        else:
            git(*options, "push", "-q", "--signed", "origin", target, cwd="c")
    assert git.rev(repository, "refs/heads/signed") == git.rev("c", "HEAD")


def test_no_other_name_gets_around_a_protection(world: World, person: Person) -> None:
    git, url = person.git, world.url("app.git", login("ann"))
    repository = world.root / "app.git"
    git("symbolic-ref", "refs/heads/alias", "refs/heads/main", cwd=repository)
    git("update-ref", "refs/namespaces/x/refs/heads/main", "refs/heads/main", cwd=repository)
    git("clone", "-q", url, "c")
    git("checkout", "-q", "--orphan", "other", cwd="c")
    before = git.refs(repository)
    for name in ("refs/heads/alias", "refs/namespaces/x/refs/heads/main"):
        git.commit_file("c", "z.txt", f"{name}\n")
        assert "protected ref: non-fast-forward" in git.fails("push", "origin", f"+HEAD:{name}", cwd="c")
        assert "protected ref: deletion" in git.fails("push", "origin", f":{name}", cwd="c")
    assert git.refs(repository) == before


def test_nothing_secret_is_in_the_servers_log(world: World) -> None:
    # Everything above has been logged by now; each way of logging in once more, and what is malformed, where gunicorn
    # quotes what it read.
    secret = "a-secret-that-stays-one"
    token = world.make_token("ann", "--read", "**")
    encoded = basic("ann", secret).removeprefix("Basic ")
    address = urlsplit(world.running.url)
    assert address.hostname is not None and address.port is not None
    for raw in (
        f"GET /open.git/HEAD HTTP/1.1\r\nHost: x\r\nAuthorization Basic {encoded}\r\n\r\n",
        f"GET /open.git/HEAD HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {encoded}\x00\r\n\r\n",
        f"Basic {encoded} {secret}\r\n\r\n",
        f"GET /open.git/HEAD?token={token} HTTP/7.7 {secret}\r\nHost: x\r\n\r\n",
        f"GET /{token}/open.git/HEAD HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=300) as connection:
            connection.sendall(raw.encode("latin-1"))
            connection.recv(1000)
    for header in (f"Bearer {token}", basic("ann", PASSWORDS["ann"]), f"Bearer {bearer(world.issuer.keys[0])}"):
        world.status(fetch_path("app.git"), header)
    world.status(fetch_path("app.git"), basic(secret, "x"))
    world.status(fetch_path("app.git"), f"Bearer {secret}")
    world.status(fetch_path("app.git") + f"&token={token}", basic("ann", secret))
    assert world.running.log is not None
    path = world.running.log
    ways = ("status=401", "login=token:", "login=password", "login=jwt")
    wait_until(lambda: all(way in path.read_text() for way in ways), "the log has each way of logging in")
    log = path.read_text()
    assert "Invalid request from" in log or world.running.name != "gunicorn"
    for word in (secret, encoded, token, *PASSWORDS.values(), *(basic(*item)[6:] for item in PASSWORDS.items())):
        assert word not in log
    assert "eyJ" not in log


@pytest.mark.slow
def test_the_same_behind_nginx(tmp_path: Path, person: Person, templates: Callable[[str, str], Path]) -> None:
    if "nginx" not in chosen_frontends():
        pytest.skip("nginx is not among the front ends of this run")
    folder = tmp_path / "nginx"
    folder.mkdir()
    with start_world("nginx", folder, templates) as world:
        answers = person.answers("ann", PASSWORDS["ann"])
        person.git("clone", "-q", world.url("app.git"), "c", env=answers)
        assert person.asked() == ["Username", "Password"]
        person.git.commit_file("c", "x.txt", "10\n")
        person.git("push", "-q", "origin", "HEAD:refs/heads/n", cwd="c", env=answers)
        # The header that names a user is nginx's own; a client can't set it.
        connection = http.client.HTTPConnection(urlsplit(world.running.url).netloc, timeout=300)
        connection.request("GET", fetch_path("secret.git"), headers={"X-Remote-User": "rita", "X_Remote_User": "rita"})
        assert connection.getresponse().status == 401
        connection.close()


def test_nginx_asks_and_names_the_user(tmp_path: Path, person: Person, templates: Callable[[str, str], Path]) -> None:
    if "nginx" not in chosen_frontends():
        pytest.skip("nginx is not among the front ends of this run")
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    for folder in (root, scratch):
        folder.mkdir()
    shutil.copytree(templates("small", "sha1"), root / "app.git", symlinks=True)
    (root / "app.git" / "git-daemon-export-ok").touch()
    (tmp_path / "users").write_text("ann:{PLAIN}anns-password\nbob:{PLAIN}bobs-password\n")
    (tmp_path / "p.toml").write_text('[[rule]]\nrepositories = ["**"]\nread = ["@users"]\nwrite = ["ann"]\n')

    def with_users(text: str) -> str:
        emptied = 'proxy_set_header X-Remote-User "";'
        assert text.count(emptied) == 2
        text = text.replace(emptied, "proxy_set_header X-Remote-User $remote_user;")
        asking = f'auth_basic "nginx asks"; auth_basic_user_file {tmp_path / "users"};'
        return text.replace("client_max_body_size 0;", f"client_max_body_size 0;\n        {asking}", 1)

    env = frontends.server_environment(scratch / "home", {"GOVC_PERMISSION_FILE": str(tmp_path / "p.toml")})
    git = person.git
    with frontends.start_nginx(root, env, scratch, with_users) as running:
        url = f"{running.url}/app.git"
        answers = person.answers("ann", "anns-password")
        git("clone", "-q", url, "c", env=answers)
        assert person.asked() == ["Username", "Password"]
        git.commit_file("c", "x.txt", "behind nginx\n")
        assert "403" in git.fails("push", url.replace("://", "://bob:bobs-password@"), "HEAD:refs/heads/n", cwd="c")
        git("push", "-q", "origin", "HEAD:refs/heads/n", cwd="c", env=answers)
        assert git.rev(root / "app.git", "refs/heads/n") == git.rev("c", "HEAD")
        assert "Authentication failed" in git.fails("ls-remote", url, env=person.answers("ann", "wrong"))
        assert running.log is not None
        log = running.log.read_text()
        assert 'user="ann" login=proxy' in log and "bobs-password" not in log


def test_equal_logins_of_a_crowd_are_let_in(world: World) -> None:
    statuses: list[int] = []

    def log_in() -> None:
        statuses.append(world.status(fetch_path("app.git"), basic("rita", PASSWORDS["rita"])))

    threads = [threading.Thread(target=log_in) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 60
