"""What the dumb HTTP routes answer, computed from the snapshot: no `update-server-info` is ever needed.

Source: git's http-backend.c (get_info_refs, get_head, get_info_packs); rows HB-06..12.
"""

import os
import re

from govc.repo.snapshot import Snapshot
from govc.service.shown import HEAD, ShownRefs

_PATHS = {
    "loose": re.compile(r"objects/[0-9a-f]{2}/([0-9a-f]{38}|[0-9a-f]{62})"),
    "pack": re.compile(r"objects/pack/pack-([0-9a-f]{40}|[0-9a-f]{64})\.pack"),
    "idx": re.compile(r"objects/pack/pack-([0-9a-f]{40}|[0-9a-f]{64})\.idx"),
    "alternates": re.compile(r"objects/info/alternates"),
    "http-alternates": re.compile(r"objects/info/http-alternates"),
}


def info_refs(snapshot: Snapshot, namespace: bytes) -> bytes:
    """Return `oid TAB name` lines, a `^{}` line behind each annotated tag. HEAD is left out."""
    key = ("dumb info/refs", namespace)
    known = snapshot.derived.get(key)
    if known is None:
        lines = []
        shown = ShownRefs(snapshot, "uploadpack", namespace)
        shown.hidden = type(shown.hidden)(())  # the dumb protocol knows no hidden refs, as in git
        for ref in shown.iter_refs(peel=snapshot.peel):
            lines.append(b"%b\t%b\n" % (ref.oid.hex().encode("ascii"), ref.name))
            if ref.peeled is not None:
                lines.append(b"%b\t%b^{}\n" % (ref.peeled.hex().encode("ascii"), ref.name))
        known = b"".join(lines)
        if shown.is_complete:
            snapshot.derived[key] = known
    body: bytes = known
    return body


def head(snapshot: Snapshot, namespace: bytes) -> bytes:
    """Return `ref: NAME` or an oid, with LF; nothing when HEAD leads nowhere."""
    shown = ShownRefs(snapshot, "uploadpack", namespace).head()
    if shown.oid is None:
        return b""
    if shown.target is not None:
        return b"ref: %b\n" % shown.target
    return shown.oid.hex().encode("ascii") + b"\n"


def info_packs(snapshot: Snapshot) -> bytes:
    """Return a `P name` line for each pack of the repository itself (not of its alternates), and a blank line."""
    folder = f"{snapshot.layout.objects_dir}/pack/"
    paths = [pack.path for pack in snapshot.store.packs if pack.path.startswith(folder)]
    paths.sort(key=_newest_first)
    return b"".join(b"P %b\n" % os.fsencode(os.path.basename(path)) for path in paths) + b"\n"


def _newest_first(path: str) -> float:
    """The order of git: a client that walks history looks into the newest pack first."""
    try:
        return -os.stat(path).st_mtime
    except OSError:
        return 0.0


def find_file(snapshot: Snapshot, kind: str, relative: str) -> str | None:
    """Return the disk path of a file that the dumb protocol may read, None for any other name.

    `relative` begins with `objects/`. Whether the file is there is the caller's to find out.
    """
    pattern = _PATHS.get(kind)
    if pattern is None or pattern.fullmatch(relative) is None:
        return None
    return os.path.join(snapshot.layout.objects_dir, relative.removeprefix("objects/"))


__all__ = ["HEAD", "find_file", "head", "info_packs", "info_refs"]
