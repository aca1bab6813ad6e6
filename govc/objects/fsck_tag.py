"""Is a received annotated tag one that git would have written?

    object <hex> LF  type <name> LF  tag <name> LF  [tagger <identity> LF]  [gpgsig...]  [LF message]

Unlike git, an error of the tagger line counts even when another header follows it (git then prints the error and
takes the tag).

Source: git's fsck.c fsck_tag_standalone; git-fsck "Fsck messages".
"""

from govc.objects.fsck_header import check_header_ends, check_identity, get_line
from govc.objects.fsck_messages import FsckMessage, Report
from govc.objects.types import TYPE_NUMBERS
from govc.protocol.oid import HashAlgorithm
from govc.protocol.refname import check_refname_format

_SIGNATURES = (b"gpgsig ", b"gpgsig-sha256 ")
_END = b"invalid format - unexpected end "


def check_tag(content: bytes, algo: HashAlgorithm, report: Report) -> None:
    """Report on one tag, up to the first error (one of the tagger line apart)."""
    if check_header_ends(content, report):
        return
    if not content.startswith(b"object "):
        report(FsckMessage.MISSING_OBJECT, b"invalid format - expected 'object' line")
        return
    line, position = get_line(content, 7)
    is_bad = algo.parse_hex(line) is None
    if is_bad and report(FsckMessage.BAD_OBJECT_SHA1, b"invalid 'object' line format - bad sha1"):
        return
    after = _check_type_and_name(content, position, report)
    if after >= 0:
        _check_rest(content, after, report)


def _check_type_and_name(content: bytes, position: int, report: Report) -> int:
    """Return the position after the tag line, -1 when nothing more is to be looked at."""
    if not content.startswith(b"type ", position):
        report(FsckMessage.MISSING_TYPE_ENTRY, b"invalid format - expected 'type' line")
        return -1
    if content.find(b"\n", position) < 0:
        report(FsckMessage.MISSING_TYPE, _END + b"after 'type' line")
        return -1
    line, position = get_line(content, position + 5)
    if line not in TYPE_NUMBERS and report(FsckMessage.BAD_TYPE, b"invalid 'type' value"):
        return -1
    if not content.startswith(b"tag ", position):
        report(FsckMessage.MISSING_TAG_ENTRY, b"invalid format - expected 'tag' line")
        return -1
    if content.find(b"\n", position) < 0:
        report(FsckMessage.MISSING_TAG, _END + b"after 'type' line")
        return -1
    name, position = get_line(content, position + 4)
    is_bad = not check_refname_format(b"refs/tags/" + name)
    if is_bad and report(FsckMessage.BAD_TAG_NAME, b"invalid 'tag' name: " + name):
        return -1
    return position


def _check_rest(content: bytes, position: int, report: Report) -> None:
    """Report on the tagger, a signature in the header, and what else stands there."""
    if content.startswith(b"tagger ", position):
        line, position = get_line(content, position + 7)
        check_identity(line, report)
    elif report(FsckMessage.MISSING_TAGGER_ENTRY, b"invalid format - expected 'tagger' line"):
        return
    if content.startswith(_SIGNATURES, position):
        if content.find(b"\n", position) < 0:
            report(FsckMessage.BAD_GPGSIG, _END + b"after 'gpgsig' or 'gpgsig-sha256' line")
            return
        _, position = get_line(content, position)
        while content.startswith(b" ", position):
            if content.find(b"\n", position) < 0:
                text = _END + b"in 'gpgsig' or 'gpgsig-sha256' continuation line"
                report(FsckMessage.BAD_HEADER_CONTINUATION, text)
                return
            _, position = get_line(content, position)
    if position < len(content) and not content.startswith(b"\n", position):
        report(FsckMessage.EXTRA_HEADER_ENTRY, b"invalid format - extra header(s) after 'tagger'")
