"""A server that checks logins, an issuer of bearer tokens, and a person at git's terminal: equipment of test_logins."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

from compat import frontends
from compat.gitclient import Git

ISSUER = "https://issuer.example"
PASSWORDS = {"ann": "ann's pässword: x", "bob": "bobs-s3cr3t-pass", "rita": "ritas/pass@word"}

PERMISSIONS = """
[groups]
developers = ["ann"]
release = []

[[rule]]
repositories = ["secret"]
write = ["rita"]
none = ["@anyone"]

[[rule]]
repositories = ["open"]
read = ["@anyone"]
write = ["@developers"]

[[rule]]
repositories = ["**"]
read = ["bob"]
write = ["@developers", "@release"]
admin = ["rita"]

[[branch]]
repositories = ["app"]
refs = ["refs/heads/main", "refs/tags/**"]
exempt = ["@admins"]

[[branch]]
repositories = ["app"]
refs = ["refs/heads/release/*"]
only = ["@release"]

[[branch]]
repositories = ["app"]
refs = ["refs/heads/signed"]
signed = true
"""


class Issuer:
    """A JWKS server on loopback: its keys can be rotated."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.asked = 0
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps({"keys": [key.as_dict(private=False) for key in issuer.keys]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def rotate(self, kid: str) -> Any:
        key = ECKey.generate_key("P-256", {"kid": kid})
        self.keys = [key]
        return key

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def bearer(key: Any, **changes: Any) -> str:
    claims = {"iss": ISSUER, "aud": "git", "sub": "zoe", "exp": int(time.time()) + 300, **changes}
    return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)


@dataclass
class World:
    """A server that checks logins, its files, and what it serves."""

    running: frontends.Running
    root: Path
    conf: Path
    issuer: Issuer

    def url(self, name: str, login: str = "") -> str:
        parts = urlsplit(self.running.url)
        return f"{parts.scheme}://{login + '@' if login else ''}{parts.netloc}/{name}"

    def govc(self, *arguments: str, input: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "govc.cli", *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=True,
            cwd=self.conf,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(frontends.PROJECT), "LC_ALL": "C.UTF-8"},
        )
        return done.stdout.strip()

    def make_token(self, user: str, *arguments: str) -> str:
        return self.govc("token", "--file", "tokens", "create", user, *arguments)

    def status(self, path: str, authorization: str | None = None) -> int:
        return self.request(path, authorization)[0]

    def request(self, path: str, authorization: str | None = None, method: str = "GET") -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection(urlsplit(self.running.url).netloc, timeout=300)
        try:
            headers = {"Authorization": authorization} if authorization else {}
            if method == "POST":
                headers["Content-Type"] = "application/x-git-receive-pack-request"
            connection.request(method, path, b"0000" if method == "POST" else None, headers)
            response = connection.getresponse()
            response.read()
            names = {name.lower() for name, _ in response.getheaders()}
            return response.status, {name: response.getheader(name) or "" for name in names}  # several are joined
        finally:
            connection.close()

    def metric(self, line: str) -> str:
        connection = http.client.HTTPConnection(urlsplit(self.running.url).netloc, timeout=300)
        try:
            connection.request("GET", "/-/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return next((item.split()[-1] for item in text.splitlines() if item.startswith(line)), "absent")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def fetch_path(name: str) -> str:
    return f"/{name}/info/refs?service=git-upload-pack"


def push_path(name: str) -> str:
    return f"/{name}/info/refs?service=git-receive-pack"


@contextlib.contextmanager
def start_world(name: str, folder: Path, templates: Callable[[str, str], Path]) -> Iterator[World]:
    root, conf, scratch = folder / "root", folder / "conf", folder / "scratch"
    for place in (root, conf, scratch):
        place.mkdir()
    for repository in ("app", "open", "secret"):
        path = root / f"{repository}.git"
        shutil.copytree(templates("small", "sha1"), path, symlinks=True)
        (path / "git-daemon-export-ok").touch()
    issuer = Issuer()
    issuer.rotate("first")
    (conf / "permissions.toml").write_text(PERMISSIONS)
    env = {
        "GOVC_PERMISSION_FILE": str(conf / "permissions.toml"),
        "GOVC_HTPASSWD_FILE": str(conf / "htpasswd"),
        "GOVC_TOKEN_FILE": str(conf / "tokens"),
        "GOVC_JWT_KEYS": issuer.url,
        "GOVC_JWT_ISSUER": ISSUER,
        "GOVC_JWT_AUDIENCE": "git",
        "GOVC_JWT_GROUPS_CLAIM": "groups",
    }
    try:
        world = World(frontends.Running(name, ""), root, conf, issuer)
        for user, password in PASSWORDS.items():
            world.govc("password", user, "--file", "htpasswd", input=f"{password}\n")
        with frontends.start(name, root, scratch, env) as running:
            world.running = running
            yield world
    finally:
        issuer.stop()


@dataclass
class Person:
    """git with somebody at the terminal: an askpass program that answers and takes down what it was asked."""

    git: Git
    folder: Path

    def answers(self, user: str, password: str) -> dict[str, str]:
        script = self.folder / "askpass"
        script.write_text(
            '#!/bin/sh\nprintf "%s\\n" "$1" >> "$ASKED"\ncase "$1" in Username*) printf "%s" "$GIVEN_USER";; '
            '*) printf "%s" "$GIVEN_PASSWORD";; esac\n'
        )
        script.chmod(0o755)
        return {
            "GIT_ASKPASS": str(script),
            "ASKED": str(self.folder / "asked"),
            "GIVEN_USER": user,
            "GIVEN_PASSWORD": password,
        }

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        words = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return [word for word in words if word in ("Username", "Password")]

    @property
    def store(self) -> list[str]:
        return ["-c", f"credential.helper=store --file={self.folder / 'store'}"]

    @property
    def stored(self) -> str:
        path = self.folder / "store"
        return path.read_text() if path.exists() else ""


def login(user: str, password: str | None = None) -> str:
    return f"{quote(user, safe='')}:{quote(PASSWORDS[user] if password is None else password, safe='')}"
