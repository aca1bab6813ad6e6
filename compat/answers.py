"""When two servers' packs answer a negotiation equally well, though not with the same objects.

A server that answers haves may leave out what it can prove to be on the client's side, and is free in how hard
it tries. git proves cheaply: it takes the trees of the haves on the edge of its walk, keeps the walk going for
some commits more when clocks look odd, and with reachability bitmaps it would prove far more than without. Two
correct servers therefore send sets that differ at their rims, and a test that demands the same set would test
who guesses alike. What must hold instead, and fails when it does not:

    whole     what git sends and govc does not is on the client's side by the client's own words: reachable from
              its haves, with the history cut where its `shallow` lines cut it. A client that fetches has the
              union in the end, so nothing it needs can be lacking.
    thrifty   what govc sends and git does not is a rim and not a history: at most 5 % and ten objects.

The client's side is computed by git itself, in an empty repository that borrows the server's objects and has
the client's `shallow` file. Packets before the pack are no matter of taste and are compared by the callers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compat.conftest import Repo
from compat.gitclient import Git

EXCESS_SHARE_MAX = 0.05
EXCESS_OBJECTS_MAX = 10


@dataclass(frozen=True)
class Claims:
    """What a client says of itself: the ids in its `have` and `shallow` lines, unknown ones among them."""

    haves: frozenset[str] = frozenset()
    shallows: frozenset[str] = frozenset()

    @classmethod
    def of(cls, items: Iterable[object]) -> Claims:
        """The claims among the text lines of a request (`have X`, `shallow X`)."""
        words = [item.split() for item in items if isinstance(item, str)]
        said = {
            verb: frozenset(line[1] for line in words if len(line) == 2 and line[0] == verb)
            for verb in ("have", "shallow")
        }
        return cls(said["have"], said["shallow"])


def client_objects(git: Git, repo: Repo, claims: Claims) -> set[str]:
    """Every object that a client with these claims holds, as far as the server knows it."""
    if not claims.haves:
        return set()
    place = Path(tempfile.mkdtemp(dir=git.cwd, prefix="client-side-"))
    git("init", "-q", "--bare", place)
    (place / "objects/info/alternates").write_text(f"{repo.path}/objects\n")
    known = keep_known(git, place, claims.haves)
    if not known:
        return set()
    (place / "shallow").write_text("".join(f"{oid}\n" for oid in sorted(claims.shallows)))
    stdin = "".join(f"{oid}\n" for oid in known).encode()
    listing = git("rev-list", "--objects", "--no-object-names", "--stdin", cwd=place, input=stdin)
    return set(listing.stdout.split())


def keep_known(git: Git, where: Path, oids: Iterable[str]) -> list[str]:
    """Those of the ids that name an object."""
    stdin = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
    rows = git("cat-file", "--batch-check", cwd=where, input=stdin).stdout.splitlines()
    return [row.split()[0] for row in rows if not row.endswith(" missing")]


def assert_objects_agree(git: Git, repo: Repo, claims: Claims, *, theirs: set[str], ours: set[str]) -> None:
    """Ours is as good an answer as git's: whole and thrifty, in the sense of this module."""
    lacking = theirs - ours
    if lacking:
        assert set() == lacking - client_objects(git, repo, claims), "the client would lack these"
    excess = ours - theirs
    assert len(excess) <= EXCESS_SHARE_MAX * len(theirs) + EXCESS_OBJECTS_MAX, (
        f"{len(excess)} objects more than git's {len(theirs)}"
    )
