"""Can every git read this `.gitattributes` blob without overflowing?

A line must be shorter than 2048 bytes and the file at most 100 MiB; newer gits ignore what is longer, older ones
computed with it. What the lines say is free.

Source: git's attr.h, fsck.c fsck_blob; CVE-2022-23521.
"""

from govc.objects.fsck_messages import FsckMessage, Report

ATTRIBUTES_BYTES_MAX = 100 << 20
ATTRIBUTES_LINE_BYTES_MAX = 2048
"""The first length that is too long, without the line feed."""


def check_gitattributes(content: bytes, report: Report) -> None:
    """Report on the whole blob; as in git, it ends at a NUL."""
    if len(content) > ATTRIBUTES_BYTES_MAX:
        report(FsckMessage.GITATTRIBUTES_LARGE, b".gitattributes too large to parse")
        return
    nul = content.find(b"\0")
    position, end = 0, len(content) if nul < 0 else nul
    while position < end:
        newline = content.find(b"\n", position, end)
        line_end = end if newline < 0 else newline
        if line_end - position >= ATTRIBUTES_LINE_BYTES_MAX:
            report(FsckMessage.GITATTRIBUTES_LINE_LENGTH, b".gitattributes has too long lines to parse")
            return
        position = line_end + 1
