"""A repository to practise on: small, but with all that a large one has, so that answers take the same ways.

    pack      COMMITS commits of a few files each, and one blob that makes a clone large enough to be kept
    refs      packed: the branch main, and a tag at each STEP-th commit
    index     filled (`introducing`)

It is written without a sync and belongs to nobody: whoever has made it removes it. Its content is the same each time.
"""

import hashlib
import os
import zlib
from array import array
from typing import NamedTuple

from govc.objects.types import BLOB, COMMIT, TREE
from govc.pack.entry import encode_entry_header
from govc.pack.format import encode_pack_header
from govc.pack.index_writer import encode_index_v2
from govc.protocol.oid import SHA1
from govc.repo.introducing import IntroduceTask, fill_introductions

COMMITS = 24
STEP = 4
BLOB_BYTES = 320 << 10
BRANCH = b"refs/heads/main"
_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}
_WHO = b"govc <govc@localhost> 1700000000 +0000"


class Practice(NamedTuple):
    """The repository's git folder, and its commits, the oldest first."""

    gitdir: str
    commits: tuple[bytes, ...]


class _Pack:
    """Objects as they are added, each whole."""

    def __init__(self) -> None:
        self._entries: list[tuple[bytes, bytes]] = []

    def add(self, type_number: int, content: bytes) -> bytes:
        head = b"%b %d\0" % (_NAMES[type_number], len(content))
        oid = hashlib.sha1(head + content, usedforsecurity=False).digest()
        self._entries.append((oid, encode_entry_header(type_number, len(content)) + zlib.compress(content, 0)))
        return oid

    def write(self, folder: str) -> None:
        """Write the pack and its index. Raises OSError."""
        data = bytearray(encode_pack_header(len(self._entries)))
        rows = []
        for oid, entry in self._entries:
            rows.append((oid, zlib.crc32(entry), len(data)))
            data += entry
        checksum = hashlib.sha1(data, usedforsecurity=False).digest()
        rows.sort()
        oids = b"".join(oid for oid, _, _ in rows)
        crcs, offsets = array("I", (crc for _, crc, _ in rows)), array("Q", (offset for _, _, offset in rows))
        stem = f"{folder}/pack-{checksum.hex()}"
        with open(f"{stem}.pack", "wb") as file:
            file.write(data + checksum)
        with open(f"{stem}.idx", "wb") as file:
            file.writelines(encode_index_v2(SHA1, oids, crcs, offsets, checksum))


def make_practice(gitdir: str) -> Practice:
    """Make the repository at a path where nothing is. Raises OSError, GovcError."""
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags"):
        os.makedirs(f"{gitdir}/{folder}")
    pack = _Pack()
    commits: list[bytes] = []
    large = pack.add(BLOB, hashlib.shake_128(b"govc").digest(BLOB_BYTES))
    for number in range(COMMITS):
        small = pack.add(BLOB, b"version %d\n" % number)
        inner = pack.add(TREE, b"100644 small\0" + small)
        tree = pack.add(TREE, b"40000 folder\0" + inner + b"100644 large\0" + large)
        lines = [b"tree " + tree.hex().encode(), *(b"parent " + parent.hex().encode() for parent in commits[-1:])]
        lines += [b"author " + _WHO, b"committer " + _WHO, b"", b"commit %d" % number, b""]
        commits.append(pack.add(COMMIT, b"\n".join(lines)))
    pack.write(f"{gitdir}/objects/pack")
    refs = [(BRANCH, commits[-1])]
    refs += [(b"refs/tags/v%02d" % number, commits[number]) for number in range(0, COMMITS, STEP)]
    with open(f"{gitdir}/packed-refs", "wb") as file:
        file.write(b"# pack-refs with: peeled fully-peeled sorted \n")
        file.writelines(oid.hex().encode() + b" " + name + b"\n" for name, oid in refs)
    with open(f"{gitdir}/config", "wb") as file:
        file.write(b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    with open(f"{gitdir}/HEAD", "wb") as file:
        file.write(b"ref: " + BRANCH + b"\n")
    status = os.stat(gitdir)
    fill_introductions(
        IntroduceTask(
            commondir=gitdir,
            identity=(status.st_dev, status.st_ino),
            objects_dir=f"{gitdir}/objects",
            algo_name=SHA1.name,
            shared_bits=0,
            tips=(commits[-1],),
            heads=(commits[-1],),
        )
    )
    return Practice(gitdir, tuple(commits))
