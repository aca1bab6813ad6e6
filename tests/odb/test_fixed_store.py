"""A helper's store, opened over inherited descriptors, while plain git repacks what was loose."""

import os
import subprocess

from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1


def git(path, *arguments, data=b""):
    environ = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", path, *arguments], input=data, capture_output=True, env=environ | names, check=True
    )
    return done.stdout.decode().strip()


def test_an_object_that_was_packed_meanwhile_is_found(tmp_path):
    path = str(tmp_path / "r.git")
    git(str(tmp_path), "init", "-q", "--bare", path)
    tree = git(path, "mktree")
    first, second = (git(path, "commit-tree", tree, "-m", str(n)) for n in range(2))
    git(path, "update-ref", "refs/heads/a", first)
    git(path, "update-ref", "refs/heads/b", second)
    shared = ObjectStore.open(f"{path}/objects", SHA1)
    helper = ObjectStore.from_descriptors(
        [f"{path}/objects"],
        SHA1,
        [(d.path, os.dup(d.pack_fd), os.dup(d.idx_fd)) for d in shared.descriptors()],
    )
    known = helper.find(bytes.fromhex(first))
    assert known >= 0
    git(path, "repack", "-adbq")
    assert not os.path.exists(f"{path}/objects/{first[:2]}/{first[2:]}")
    assert helper.read(known)[1].endswith(b"\n\n0\n")  # by the number that it had when it was loose
    number = helper.find(bytes.fromhex(second))
    assert number >= 0
    assert helper.read(number)[1].endswith(b"\n\n1\n")
    assert helper.find(bytes(20)) < 0
