"""Very many new refs go straight into packed-refs, where nothing but a look keeps a ref and one below it apart."""

import os
import subprocess

from govc.protocol.oid import SHA1
from govc.refs.pack_refs import pack_refs
from govc.refs.transaction import PACKED_CREATION_MIN

from .conftest import ENV
from .test_transaction import begin

ZERO = SHA1.zero
X, BELOW = b"refs/heads/x", b"refs/heads/x/y"


def begin_many(repo, name, **options):
    """So many new refs that they go into packed-refs, `name` among them."""
    others = [(b"refs/tags/%04d" % number, ZERO, repo.first) for number in range(PACKED_CREATION_MIN)]
    return begin(repo, *others, (name, ZERO, repo.first), peel=repo.peel, **options)


class GitTransaction:
    """`git update-ref`, stopped where it has verified and locked one new ref."""

    def __init__(self, repo, name):
        self.process = subprocess.Popen(
            ["git", "-C", str(repo.path), "update-ref", "--stdin"],
            env=ENV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.say(b"start", b"create %b %b" % (name, repo.second.hex().encode()), b"prepare")
        assert [self.process.stdout.readline() for _ in range(2)] == [b"start: ok\n", b"prepare: ok\n"]

    def say(self, *lines):
        self.process.stdin.write(b"".join(b"%b\n" % line for line in lines))
        self.process.stdin.flush()

    def commit(self):
        """Return the exit status."""
        _, errors = self.process.communicate(b"commit\n", timeout=60)
        return self.process.returncode, errors.decode()


def heads(repo):
    """What is there, by git, which finds no conflict."""
    repo.git("fsck")
    return {name for name in repo.refs() if name.startswith("refs/heads/")}


def leftovers(repo):
    return [name for _, _, names in os.walk(repo.path) for name in names if name.endswith((".lock", ".new"))]


def test_git_makes_a_ref_below_one_that_goes_packed(repo):
    with begin_many(repo, X) as transaction:
        assert transaction.prepare() == {}
        repo.git("update-ref", BELOW.decode(), repo.second.hex())
        assert set(transaction.commit()) == {X}
    assert heads(repo) == {"refs/heads/x/y"}
    assert len(repo.refs()) == PACKED_CREATION_MIN + 1
    assert leftovers(repo) == []


def test_a_push_makes_a_ref_below_one_that_goes_packed(repo):
    with begin_many(repo, X) as many, begin(repo, (BELOW, ZERO, repo.second)) as one:
        assert many.prepare() == {}
        assert one.prepare() == {}
        assert set(many.commit()) == {X}  # the lock below is in its place
        assert one.commit() == {}
    assert heads(repo) == {"refs/heads/x/y"}


def test_git_is_making_a_ref_above_one_that_goes_packed(repo):
    above = GitTransaction(repo, X)
    with begin_many(repo, BELOW) as transaction:
        assert transaction.prepare() == {}
        assert transaction.commit() == {}
    status, errors = above.commit()
    assert status != 0, errors
    assert heads(repo) == {"refs/heads/x/y"}
    assert leftovers(repo) == []


def test_a_push_is_making_a_ref_above_one_that_goes_packed(repo):
    with begin(repo, (X, ZERO, repo.second)) as one, begin_many(repo, BELOW) as many:
        assert one.prepare() == {}
        assert many.prepare() == {}
        assert many.commit() == {}
        assert set(one.commit()) == {X}
    assert heads(repo) == {"refs/heads/x/y"}
    assert len(repo.refs()) == PACKED_CREATION_MIN + 1


def test_a_ref_that_came_packed_while_the_lock_was_waited_for(repo):
    lock = repo.path / "packed-refs.lock"
    lock.touch()

    def sleep(seconds):
        if lock.exists():
            lock.unlink()
            repo.git("update-ref", BELOW.decode(), repo.second.hex())
            repo.git("pack-refs", "--all")

    with begin_many(repo, X, sleep=sleep) as transaction:
        refused = transaction.prepare()
        assert {name: error.reason for name, error in refused.items()} == {X: "refname conflict"}
        assert transaction.commit() == {}
    assert heads(repo) == {"refs/heads/x/y"}
    assert len(repo.refs()) == PACKED_CREATION_MIN + 1


def test_packing_leaves_a_ref_loose_above_which_one_is_made(repo):
    above = GitTransaction(repo, X)
    repo.git("update-ref", BELOW.decode(), repo.first.hex())
    assert pack_refs(repo.database(), repo.peel, sleep=lambda seconds: None) == 0
    status, errors = above.commit()
    assert status != 0, errors
    assert heads(repo) == {"refs/heads/x/y"}
    assert pack_refs(repo.database(), repo.peel, sleep=lambda seconds: None) == 1
    assert leftovers(repo) == []
