"""Signed pushes by the real git, with keys made here: what hooks are told, compared with the oracle's.

The nonce is of the second in which it was made, so hooks get OK or SLOP depending on the clock.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat.conftest import Repo, Server, program_or_skip
from compat.gitclient import Git
from compat.hookkit import Call, calls, record
from compat.pushing import CAPS, EMPTY_PACK, report_of
from compat.rawhttp import FLUSH, ZERO, discover, lines, receive
from tests.waiting import wait_until

Pair = Callable[..., tuple[Repo, Repo]]

SEED = {"receive.certNonceSeed": "sekrit"}


@pytest.fixture(scope="session")
def gnupg() -> Iterator[Path]:
    """A GnuPG home with a key without a passphrase. Short, since a socket lives in it."""
    program_or_skip("gpg")
    home = Path("/tmp") / f"govc-gnupg-{os.getpid()}"
    home.mkdir(mode=0o700)
    made = subprocess.run(
        [
            "gpg",
            "--batch",
            "--passphrase",
            "",
            "--quick-gen-key",
            "Ada Example <ada@example.com>",
            "ed25519",
            "sign",
            "0",
        ],
        env={"PATH": os.environ["PATH"], "GNUPGHOME": str(home)},
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    yield home
    subprocess.run(["gpgconf", "--kill", "all"], env={"PATH": os.environ["PATH"], "GNUPGHOME": str(home)}, check=False)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key pair, and beside it a file of allowed signers that knows it."""
    program_or_skip("ssh-keygen")
    key = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().split()
    key.with_name("allowed").write_text(f'ada@example.com namespaces="git" {public[0]} {public[1]}\n')
    key.with_name("nobody").write_text("")
    return key


def cloned(git: Git, repo: Repo, name: str) -> str:
    """A clone with one commit more."""
    git("clone", "-q", repo.url, name)
    git.commit_file(name, "a.txt", "1\n")
    return name


def told(call: Call) -> dict[str, str]:
    """What a hook was told of the certificate."""
    return {key: value for key, value in call.environment.items() if key.startswith("GIT_PUSH_CERT")}


def without_time(variables: dict[str, str]) -> dict[str, str]:
    """The same without what differs from push to push."""
    out = {key: value for key, value in variables.items() if key not in ("GIT_PUSH_CERT", "GIT_PUSH_CERT_NONCE_SLOP")}
    for key, pattern in (("GIT_PUSH_CERT_NONCE", r"\d{10}-[0-9a-f]{40}"), ("GIT_PUSH_CERT_NONCE_STATUS", "OK|SLOP")):
        if key in out:
            assert re.fullmatch(pattern, out[key])
            out[key] = pattern
    return out


def signed_push(git: Git, where: str, *options: str, env: dict[str, str] | None = None) -> str:
    """Push signed; the client's words."""
    return git("push", "--signed", *options, "origin", "main", cwd=where, env=env).stderr


@pytest.mark.every_frontend
@pytest.mark.rows("RP-05", "RP-70", "RP-73", "RP-74", "CF-29", "CF-80")
def test_a_push_signed_by_gpg(pair: Pair, git: Git, gnupg: Path) -> None:
    env = {"GNUPGHOME": str(gnupg)}
    seen = []
    for repo in pair(config=SEED):
        (repo.path / "verify").write_text(f'#!/bin/sh\nGNUPGHOME={gnupg} exec gpg "$@"\n')
        (repo.path / "verify").chmod(0o755)
        repo.config("gpg.program", f"{repo.path}/verify")
        for event in "pre-receive", "update", "post-receive":
            record(repo.path, event, 'test -z "$GIT_PUSH_CERT" || git cat-file blob "$GIT_PUSH_CERT"')
        where = cloned(git, repo, repo.path.name)
        said = signed_push(git, where, env=env)
        assert git.rev(where, "HEAD") == repo.rev("main")
        pre, update, post = calls(repo.path)
        assert {} == told(update)
        assert told(pre) == told(post)
        assert "G" == told(pre)["GIT_PUSH_CERT_STATUS"]
        assert "Ada Example <ada@example.com>" == told(pre)["GIT_PUSH_CERT_SIGNER"]
        text = repo.run("cat-file", "blob", told(pre)["GIT_PUSH_CERT"])
        assert f"{pre.stdin}-----BEGIN PGP SIGNATURE-----" in text
        assert "remote: certificate version 0.1" in said
        seen.append(without_time(told(pre)))
    assert seen[1] == seen[0]


@pytest.mark.rows("RP-74", "CF-80")
@pytest.mark.parametrize("signers", ["allowed", "nobody", None])
def test_a_push_signed_by_ssh(pair: Pair, git: Git, ssh_key: Path, signers: str | None) -> None:
    config = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={ssh_key}"]
    seen = []
    for repo in pair(config=SEED):
        if signers is not None:
            repo.config("gpg.ssh.allowedSignersFile", str(ssh_key.with_name(signers)))
        record(repo.path, "pre-receive")
        where = cloned(git, repo, repo.path.name)
        git(*config, "push", "--signed", "origin", "main", cwd=where)
        [call] = calls(repo.path)
        seen.append(without_time(told(call)))
    assert seen[1] == seen[0]
    expected = {"allowed": ("G", "ada@example.com"), "nobody": ("G", ""), None: ("N", "")}[signers]
    assert expected == (seen[0]["GIT_PUSH_CERT_STATUS"], seen[0]["GIT_PUSH_CERT_SIGNER"])


@pytest.mark.rows("RP-05", "RP-71")
def test_the_nonce_is_gits(pair: Pair) -> None:
    ours, theirs = pair(config=SEED)

    def nonce(repo: Repo) -> str:
        (found,) = re.findall(rb" push-cert=(\S+) ", discover(repo.url, "receive-pack").body)
        return os.fsdecode(found)

    for repo in theirs, ours:
        before = int(time.time())
        said = nonce(repo)
        seconds = int(said.partition("-")[0])
        assert before <= seconds <= time.time()
        assert said == nonce_of(seconds)
    wait_until(lambda: nonce(ours) != said, "another second, another nonce")


def nonce_of(seconds: int) -> str:
    """The nonce of a moment, with the seed of these repositories."""
    return f"{seconds}-{hmac.new(f'.:{seconds}'.encode(), b'sekrit', hashlib.sha1).hexdigest()}"


def certificate(nonce: str | None, command: str, *options: str, signature: str = "") -> list[str]:
    """The lines of a push certificate."""
    lines_ = ["certificate version 0.1", "pusher Ada <ada@example.com> 1700000000 +0000", "pushee http://x/r.git"]
    if nonce is not None:
        lines_.append(f"nonce {nonce}")
    lines_ += [f"push-option {option}" for option in options]
    return [*lines_, "", command, signature or "-----BEGIN PGP SIGNATURE-----", "abc", "-----END PGP SIGNATURE-----"]


def signed_body(text: list[str], caps: str = CAPS, *, tail: bytes = b"", extra: tuple[str, ...] = ()) -> bytes:
    """A push by certificate alone."""
    return lines(f"push-cert\0{caps}".encode(), *text, "push-cert-end", *extra, FLUSH) + tail + EMPTY_PACK


@pytest.mark.rows("RP-72", "RP-73", "CF-30", "SEC-42")
@pytest.mark.parametrize("kind", ["fresh", "old", "slop", "missing", "forged", "unsolicited", "junk", "future"])
def test_nonces_are_judged_as_git_judges_them(pair: Pair, kind: str) -> None:
    config = {} if kind == "unsolicited" else SEED | ({"receive.certNonceSlop": "3600"} if kind == "slop" else {})
    ours, theirs = pair(config=config)
    found = re.search(rb" push-cert=(\S+) ", discover(ours.url, "receive-pack").body)

    now = int(time.time())
    assert (found is None) == (kind == "unsolicited")
    nonce = {
        "fresh": found[1].decode() if found else "",
        "old": nonce_of(now - 600),
        "slop": nonce_of(now - 600),
        "future": nonce_of(now + 600),
        "missing": None,
        "forged": f"{now}-{'0' * 40}",
        "unsolicited": nonce_of(now),
        "junk": "junk",
    }[kind]
    seen = []
    for repo in ours, theirs:
        record(repo.path, "pre-receive")
        body = signed_body(certificate(nonce, f"{ZERO} {repo.rev('main')} refs/heads/new"))
        assert [b"unpack ok", b"ok refs/heads/new"] == report_of(receive(repo.url, body))
        [call] = calls(repo.path)
        variables = told(call)
        slop = int(variables.pop("GIT_PUSH_CERT_NONCE_SLOP", "0"))
        if kind in ("old", "future"):
            assert abs(abs(slop) - 600) < 30
        if kind not in ("slop", "unsolicited"):
            variables.pop("GIT_PUSH_CERT_NONCE")  # of the second in which it was asked for
        if kind == "fresh":
            assert variables.pop("GIT_PUSH_CERT_NONCE_STATUS") in ("OK", "SLOP")
        seen.append(variables)
    assert seen[1] == seen[0]


@pytest.mark.rows("RP-69", "RP-70")
@pytest.mark.parametrize(
    ("signed", "sent"),
    [((), ()), (("a", "b"), ("a", "b")), (("a",), ()), ((), ("a",)), (("a", "b"), ("b", "a")), (("a",), ("a", "b"))],
)
def test_options_must_be_those_that_were_signed(pair: Pair, signed: tuple[str, ...], sent: tuple[str, ...]) -> None:
    ours, theirs = pair(config=SEED | {"receive.advertisePushOptions": "true"})
    text = certificate("x", f"{ZERO} {ours.rev('main')} refs/heads/new", *signed)
    body = signed_body(text, CAPS + " push-options", tail=lines(*[option.encode() for option in sent], FLUSH))
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert report_of(other) == report_of(mine)
    expected = b"ok refs/heads/new" if signed == sent else b"ng refs/heads/new inconsistent push options"
    assert expected == report_of(mine)[1]
    assert theirs.refs() == ours.refs()


@pytest.mark.different_on_purpose
@pytest.mark.rows("RP-70")
def test_commands_outside_a_certificate_are_refused(server: Server) -> None:
    # git means to die of it, and doesn't: it looks for other commands where none ever are.
    repo = server.create_repo(config=SEED)
    before = repo.state()
    command = f"{ZERO} {repo.rev('main')} refs/heads/new"
    reply = receive(repo.url, signed_body(certificate("x", command), extra=(command + "-unsigned",)))
    assert b"ERR protocol error: got both push certificate and unsigned commands" in reply.body
    assert before == repo.state()


@pytest.mark.different_on_purpose
@pytest.mark.rows("RP-74")
def test_a_certificate_without_a_signature_is_told_as_such(server: Server) -> None:
    # git dies when a hook is to be told of it.
    repo = server.create_repo(config=SEED)
    record(repo.path, "pre-receive", 'test "$GIT_PUSH_CERT_STATUS" = G')
    body = signed_body(certificate("x", f"{ZERO} {repo.rev('main')} refs/heads/new", signature="no signature")[:-3])
    reply = receive(repo.url, body)
    assert b"ng refs/heads/new pre-receive hook declined" in report_of(reply)
    assert "N" == told(calls(repo.path)[0])["GIT_PUSH_CERT_STATUS"]


@pytest.mark.rows("RP-73")
def test_a_verifier_that_hangs_does_not_hang_others(server: Server, git: Git) -> None:
    repo = server.create_repo(config=SEED)
    (repo.path / "verify").write_text("#!/bin/sh\nsleep 2\n")
    (repo.path / "verify").chmod(0o755)
    repo.config("gpg.program", f"{repo.path}/verify")
    repo.config("receive.keepAlive", "1")
    record(repo.path, "pre-receive")
    body = signed_body(certificate("x", f"{ZERO} {repo.rev('main')} refs/heads/new"))
    reply = receive(repo.url, body)
    assert b"ok refs/heads/new" in report_of(reply)
    assert b"\1" in reply.packets
    assert "N" == told(calls(repo.path)[0])["GIT_PUSH_CERT_STATUS"]
