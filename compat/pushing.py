"""The same push to two repositories, and comparing what came of it."""

from __future__ import annotations

from compat.conftest import Repo
from compat.gitclient import Git
from compat.rawhttp import FLUSH, Reply, lines, make_pack, parse_report, receive
from compat.test_fetch import grow

CAPS = " report-status side-band-64k"
EMPTY_PACK = bytes.fromhex("5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e")

# Where newer releases of git say more exactly what older ones call "failed to update ref".
REASONS = {
    b"incorrect old value provided": b"failed to update ref",
    b"reference already exists": b"failed to update ref",
    b"reference does not exist": b"failed to update ref",
    b"refname conflict": b"failed to update ref",
    b"failed to update refs": b"failed to update ref",
    b"failed to lock": b"failed to update ref",
}


def push_body(commands: list[str], pack: bytes, *, caps: str = CAPS, tail: bytes = b"") -> bytes:
    """A push request: commands, capabilities on the first, flush, an optional further section, the pack."""
    first, *rest = commands
    return lines(f"{first}\0{caps}".encode(), *[line.encode() for line in rest], FLUSH) + tail + pack


def report_of(reply: Reply) -> list[bytes]:
    """A report in the words of every release of git."""
    out = []
    for line in parse_report(reply):
        for new, old in REASONS.items():
            line = line.replace(new, old) if line.startswith(b"ng ") else line
        out.append(line)
    return out


def compare(ours: Repo, theirs: Repo, body: bytes) -> list[bytes]:
    """Push the same bytes to both; reports, refs and objects must agree. Our report."""
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert other.status == mine.status
    assert b"Traceback" not in mine.body
    assert report_of(other) == report_of(mine)
    assert theirs.refs() == ours.refs()
    return report_of(mine)


def new_objects(git: Git, repo: Repo, commits: int = 2, *options: str) -> tuple[str, str, bytes]:
    """(old tip, new tip, pack of what is new), made in a copy so that the repository doesn't have it."""
    git("clone", "-q", "--bare", repo.path, "maker.git")
    maker = Repo(git.cwd / "maker.git", "", git)
    old = maker.rev("main")
    new = grow(maker, commits)
    return old, new, make_pack(git, maker.path, ["main", f"^{old}"], *options)
