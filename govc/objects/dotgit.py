r"""Names that some file system takes for `.git`, `.gitmodules` and their kin.

A tree checked out on HFS+ or NTFS must not overwrite what git itself reads. Three families, all without case:

    HFS+    ignorable code points anywhere in the name (U+200C-200F, 202A-202E, 206A-206F, FEFF)
    NTFS    blanks and dots at the end; `:stream` behind it; the short names git~1, gitmod~1 to ~4, and the
            hashed ones (gi7eba~1, gi7eb~10, ... ~1000000)
    both    for `.git`, whatever follows a slash or (NTFS) a backslash

As in git, bytes after an HFS+ name that are no UTF-8 end that name. Every question takes time linear in the name.

Source: git's utf8.c is_hfs_dotgit, path.c is_ntfs_dotgit, is_ntfs_dotgitmodules; CVE-2014-9390, CVE-2019-1352,
CVE-2019-1353.
"""

import re
from enum import Enum

_IGNORED = rb"(?:\xe2\x80[\x8c-\x8f\xaa-\xae]|\xe2\x81[\xaa-\xaf]|\xef\xbb\xbf)*"
_UTF8_CHARACTER = (
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xef(?!\xbf[\xbe\xbf])[\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})"
)

_SUSPECT = re.compile(rb"[~\\]|(?:\A|\0)[.\xe2\xef]")

_BACKSLASH = re.compile(rb"\\")


class DotFile(Enum):
    """The files git reads from a tree: name without its dot, and the start of the hashed NTFS short name."""

    GITMODULES = (b"gitmodules", b"gi7eba")
    GITATTRIBUTES = (b"gitattributes", b"gi7d29")
    GITIGNORE = (b"gitignore", b"gi250a")
    MAILMAP = (b"mailmap", b"maba30")


def _compile_hfs(name: bytes) -> re.Pattern[bytes]:
    spelled = _IGNORED.join(bytes([byte]) for byte in name)
    return re.compile(
        _IGNORED + rb"\." + _IGNORED + spelled + _IGNORED + rb"(?:/|(?!" + _UTF8_CHARACTER + rb"))",
        re.IGNORECASE,
    )


def _compile_ntfs(name: bytes, short: bytes) -> re.Pattern[bytes]:
    hashed = b"|".join(b"%s~[1-9][0-9]{%d}" % (short[:size], 6 - size) for size in range(7))
    stems = rb"\.%s|%s~[1-4]|%s" % (name, name[:6], hashed)
    return re.compile(rb"(?:" + stems + rb")[ .]*+(?:\Z|:)", re.IGNORECASE)


_HFS_DOTGIT = _compile_hfs(b"git")
_NTFS_DOTGIT = re.compile(rb"(?:\.git|git~1)[ .]*+(?:\Z|[:/\\])", re.IGNORECASE)
_HFS = {file: _compile_hfs(file.value[0]) for file in DotFile}
_NTFS = {file: _compile_ntfs(*file.value) for file in DotFile}


def may_hold_lookalikes(names: bytes) -> bool:
    """Tell whether any of several NUL-separated names is worth a closer look; a quick no for most trees."""
    return _SUSPECT.search(names) is not None


def is_dotgit(name: bytes) -> bool:
    """Tell whether an entry's name, or what follows a backslash in it, is a spelling of `.git`."""
    if _HFS_DOTGIT.match(name) or _NTFS_DOTGIT.match(name):
        return True
    return any(_NTFS_DOTGIT.match(name, found.end()) for found in _BACKSLASH.finditer(name))


def is_dot_file(name: bytes, file: DotFile) -> bool:
    """Tell whether an entry's name is a spelling of that file."""
    return bool(_HFS[file].match(name) or _NTFS[file].match(name))


def count_backslashed_gitmodules(name: bytes) -> int:
    """Return how often a spelling of `.gitmodules` follows a backslash, up to the end of the name."""
    pattern = _NTFS[DotFile.GITMODULES]
    return sum(pattern.match(name, found.end()) is not None for found in _BACKSLASH.finditer(name))
