"""Is a received commit one that git would have written?

    tree <hex> LF  (parent <hex> LF)*  author <identity> LF  committer <identity> LF  ...

Only these lines, the end of the header, and NUL bytes are looked at; further headers are free.

Source: git's fsck.c fsck_commit; git-fsck "Fsck messages".
"""

from govc.objects.fsck_header import check_header_ends, check_identity, get_line
from govc.objects.fsck_messages import FsckMessage, Report
from govc.protocol.oid import HashAlgorithm


def check_commit(content: bytes, algo: HashAlgorithm, report: Report) -> None:
    """Report on one commit, up to the first error."""
    if check_header_ends(content, report):
        return
    if not content.startswith(b"tree "):
        report(FsckMessage.MISSING_TREE, b"invalid format - expected 'tree' line")
        return
    line, position = get_line(content, 5)
    is_bad = algo.parse_hex(line) is None
    if is_bad and report(FsckMessage.BAD_TREE_SHA1, b"invalid 'tree' line format - bad sha1"):
        return
    while content.startswith(b"parent ", position):
        line, position = get_line(content, position + 7)
        is_bad = algo.parse_hex(line) is None
        if is_bad and report(FsckMessage.BAD_PARENT_SHA1, b"invalid 'parent' line format - bad sha1"):
            return
    _check_people(content, position, report)


def _check_people(content: bytes, position: int, report: Report) -> None:
    """Report on what begins with the author line."""
    author_count = 0
    while content.startswith(b"author ", position):
        author_count += 1
        line, position = get_line(content, position + 7)
        if check_identity(line, report):
            return
    if author_count == 0 and report(FsckMessage.MISSING_AUTHOR, b"invalid format - expected 'author' line"):
        return
    if author_count > 1 and report(FsckMessage.MULTIPLE_AUTHORS, b"invalid format - multiple 'author' lines"):
        return
    if not content.startswith(b"committer ", position):
        report(FsckMessage.MISSING_COMMITTER, b"invalid format - expected 'committer' line")
        return
    line, position = get_line(content, position + 10)
    if not check_identity(line, report) and b"\0" in content:
        report(FsckMessage.NUL_IN_COMMIT, b"NUL byte in the commit object body")
