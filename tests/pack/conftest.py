import os
import random
import subprocess
import zlib
from types import SimpleNamespace

import pytest

from govc.objects.types import OFS_DELTA, REF_DELTA
from govc.pack.entry import encode_entry_header, encode_ofs
from govc.pack.format import encode_pack_header
from govc.protocol.oid import SHA1

GIT_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def git(folder, *arguments, stdin=b"", check=True):
    done = subprocess.run(
        ["git", *arguments], cwd=folder, input=stdin, capture_output=True, env=GIT_ENVIRONMENT, check=False
    )
    if check and done.returncode:
        raise AssertionError(done.stderr.decode())
    return done


def whole(type_number, content):
    return encode_entry_header(type_number, len(content)) + zlib.compress(content)


def ofs(distance, delta):
    return encode_entry_header(OFS_DELTA, len(delta)) + encode_ofs(distance) + zlib.compress(delta)


def ref(base_oid, delta):
    return encode_entry_header(REF_DELTA, len(delta)) + base_oid + zlib.compress(delta)


def pack_of(*entries, count=None, algo=SHA1):
    body = encode_pack_header(len(entries) if count is None else count) + b"".join(entries)
    return body + algo.new(body).digest()


def make_repository(folder, *, algo="sha1", commits=30):
    git(folder, "init", "-q", "--bare", f"--object-format={algo}", "repo.git")
    repo = folder / "repo.git"
    rng = random.Random(7)
    lines = [b"line %d %d\n" % (n, rng.randrange(10**9)) for n in range(400)]
    stream = []
    for number in range(commits):
        lines[rng.randrange(len(lines))] = b"changed %d\n" % rng.randrange(10**9)
        text = b"".join(lines)
        small = b"%d\n" % number
        stream.append(b"commit refs/heads/main\ncommitter C <c@d> %d +0000\ndata 2\nm\n" % (1700000000 + number))
        stream.append(b"M 100644 inline dir/big.txt\ndata %d\n%s\n" % (len(text), text))
        stream.append(b"M 100755 inline s%d\ndata %d\n%s\n" % (number % 7, len(small), small))
    stream.append(b"tag v1\nfrom refs/heads/main\ntagger T <t@t> 1700000000 +0000\ndata 2\nt\n")
    git(repo, "fast-import", "--quiet", stdin=b"".join(stream))
    git(repo, "repack", "-adfq", "--depth=20")
    return repo


@pytest.fixture(scope="session")
def craft():
    return SimpleNamespace(whole=whole, ofs=ofs, ref=ref, pack_of=pack_of, git=git)


@pytest.fixture(scope="session")
def git_repository(tmp_path_factory):
    return make_repository(tmp_path_factory.mktemp("sha1"))


@pytest.fixture(scope="session")
def git_repository_sha256(tmp_path_factory):
    return make_repository(tmp_path_factory.mktemp("sha256"), algo="sha256")
