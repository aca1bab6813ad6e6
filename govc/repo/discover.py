"""From the path in a URL to a repository's folder: the gate that every request goes through.

What: refuse paths with aliases, guess suffixes as git does, follow gitfiles, tell a repository from a
folder, check its owner and its export marker. Not here: its configuration or format (`layout`), and nothing
is read from the repository's own configuration before the owner is checked.

    P/.git, P, P.git/.git, P.git    tried in that order; a plain file among them is a gitfile ("gitdir: X")
    HEAD                            a symbolic link to refs/..., "ref: refs/...", or an oid in hex
    objects/ and refs/              must be enterable, in the common folder

Cost: about ten system calls and no directory listing. Symbolic links are followed on purpose: what lies
below the root is the admin's decision, and only ".." in a URL would be a stranger's.

Source: git-http-backend "DESCRIPTION", gitrepository-layout, git-config "safe.directory".
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from govc.config.config import PROTECTED_SCOPES, Config
from govc.config.loader import load_protected_config
from govc.config.values import BadValue, parse_path
from govc.errors import GovcError, RepositoryNotFound, RepositoryRefused
from govc.protocol.oid import SHA1, SHA256
from govc.repo.layout import find_commondir
from govc.watch import OUR_TROUBLE

PATH_BYTES_MAX = 4096
GITFILE_BYTES_MAX = 1 << 20
HEAD_BYTES_MAX = 255
EXPORT_MARKER = "git-daemon-export-ok"
SUFFIXES = ("/.git", "", ".git/.git", ".git")

# A component that is empty, "." or "..": before a slash, or (not when empty) at the end.
_ALIAS = re.compile(r"/\.{0,2}/|/\.{1,2}\Z")
_SYMREF = re.compile(rb"ref:[ \t\n\r]*refs/")
_SUDO_UID = re.compile(r"\s*\+?(\d{1,10})", re.ASCII)


class PathRefused(GovcError):
    """A path in a URL that names its target in a roundabout way. Answered 500, as git-http-backend does."""

    http_status = 500

    def __init__(self, path: str, reason: str = "aliased") -> None:
        super().__init__(f"'{path}': {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRepository:
    """A git folder (absolute), the gitfile that led to it, and the name to show (no server path in it)."""

    gitdir: str
    gitfile: str | None
    display_name: str


def decode_wsgi_path(path_info: str) -> str:
    """Return the disk form of WSGI's PATH_INFO (bytes dressed as latin-1)."""
    return os.fsdecode(path_info.encode("latin-1"))


def check_path_alias(path_info: str) -> None:
    """Refuse `//`, `/./`, `/../`, a trailing `/.` or `/..`, a start other than `/`, `~`. Raises PathRefused.

    Give it the whole PATH_INFO, service part included, before anything is cut off.
    """
    if not path_info.startswith(("/", "~")):
        raise PathRefused(path_info)
    # The first character is a separator whichever of the two it is.
    if _ALIAS.search("/" + path_info[1:]):
        raise PathRefused(path_info)


def resolve_repository_path(root: str, path_info: str) -> str:
    """Return the path on disk of a URL's repository part; "" is the root itself.

    Raises PathRefused, RepositoryNotFound.
    """
    if "\0" in path_info:
        raise RepositoryNotFound(path_info.replace("\0", "\\0"), "path holds a NUL")
    if path_info:
        check_path_alias(path_info)
    base = root if root.endswith("/") else root + "/"
    return os.path.join(os.getcwd(), base + path_info.removeprefix("/"))


def find_repository(
    root: str,
    path_info: str,
    *,
    export_all: bool,
    environ: Mapping[str, str],
    protected_config: Config | None = None,
) -> FoundRepository:
    """Find the repository that a request may see.

    `path_info` is the URL's repository part, decoded, in disk form. `protected_config` saves loading the
    protected scopes again where a repository belongs to somebody else. Raises RepositoryNotFound (404),
    PathRefused, RepositoryRefused and BadConfig (500).
    """
    path = resolve_repository_path(root, path_info)
    found = enter_repository(path, display_name=path_info.strip("/"))
    check_ownership(found, protected_config, environ=environ, euid=os.geteuid())
    if not is_exported(found.gitdir, export_all):
        raise RepositoryNotFound(path, "repository not exported")
    return found


def enter_repository(path: str, *, display_name: str | None = None) -> FoundRepository:
    """Find the git folder at a path on disk, guessing suffixes.

    Raises RepositoryNotFound, RepositoryRefused.
    """
    path = path.rstrip("/") or "/"
    if len(os.fsencode(path)) >= PATH_BYTES_MAX:
        raise RepositoryNotFound(path[:80] + "...", "path is too long")
    name = os.path.basename(path) if display_name is None else display_name
    for suffix in SUFFIXES:
        candidate = path + suffix
        kind = _file_kind(candidate)
        if kind == stat.S_IFREG:
            gitdir = read_gitfile(candidate)
            return FoundRepository(gitdir=gitdir, gitfile=candidate, display_name=name + suffix)
        if kind == stat.S_IFDIR and is_git_directory(candidate):
            return FoundRepository(gitdir=candidate, gitfile=None, display_name=name + suffix)
    raise RepositoryNotFound(path)


def is_git_directory(path: str) -> bool:
    """Say whether a folder is a repository's git folder, by its HEAD, objects/ and refs/."""
    if not _is_valid_head(os.path.join(path, "HEAD")):
        return False
    commondir = find_commondir(path)
    return all(os.access(os.path.join(commondir, name), os.X_OK) for name in ("objects", "refs"))


def read_gitfile(path: str) -> str:
    """Return the git folder that a gitfile names, links resolved. Raises RepositoryRefused."""
    try:
        with open(path, "rb") as file:
            data = file.read(GITFILE_BYTES_MAX + 1)
    except OSError as error:
        raise RepositoryRefused(path, f"error opening gitfile: {error.strerror}") from error
    if len(data) > GITFILE_BYTES_MAX:
        raise RepositoryRefused(path, "too large to be a .git file")
    if not data.startswith(b"gitdir: "):
        raise RepositoryRefused(path, "invalid gitfile format")
    target = os.fsdecode(data.rstrip(b"\r\n").removeprefix(b"gitdir: ").partition(b"\0")[0])
    if not target:
        raise RepositoryRefused(path, "no path in gitfile")
    gitdir = os.path.join(os.path.dirname(path), target)
    if not is_git_directory(gitdir):
        raise RepositoryRefused(path, f"not a git repository: {target}")
    return os.path.realpath(gitdir)


def is_exported(gitdir: str, export_all: bool) -> bool:
    """Say whether the repository carries the marker, or everything is exported."""
    return export_all or os.access(os.path.join(gitdir, EXPORT_MARKER), os.F_OK)


def is_owned(found: FoundRepository, *, environ: Mapping[str, str], euid: int, follows_links: bool = False) -> bool:
    """Say whether the git folder, and the gitfile if any, belong to `euid` (root trusts SUDO_UID too)."""
    paths = [found.gitdir] if found.gitfile is None else [found.gitfile, found.gitdir]
    if follows_links:
        paths.append(os.path.realpath(found.gitdir))
    return all(_owner_is(path, environ, euid) for path in paths)


def check_ownership(
    found: FoundRepository,
    config: Config | None,
    *,
    environ: Mapping[str, str],
    euid: int,
    follows_links: bool = False,
) -> None:
    """Refuse a repository of another user unless safe.directory lists it. Raises RepositoryRefused.

    Only the protected scopes of `config` count; None loads them when they are needed (BadConfig). Of a
    symbolic link its own owner is looked at, as git-http-backend does; `follows_links` looks at its target,
    too, as git-receive-pack does.
    """
    if is_owned(found, environ=environ, euid=euid, follows_links=follows_links):
        return
    if config is None:
        config = load_protected_config(environ).config
    path = found.gitfile or found.gitdir
    if is_listed_safe(os.path.realpath(path), config):
        return
    raise RepositoryRefused(
        path,
        f"detected dubious ownership in repository at '{path}'; to add an exception for this directory, "
        f"call: git config --global --add safe.directory {path}",
    )


def is_listed_safe(real_path: str, config: Config) -> bool:
    """Say whether safe.directory, of protected scopes, lists a path (itself, "*", "dir/*")."""
    is_safe = False
    for entry in config.find_entries("safe.directory"):
        if entry.scope not in PROTECTED_SCOPES:
            continue
        if not entry.value:
            is_safe = False
        elif entry.value == "*":
            is_safe = True
        else:
            is_safe = is_safe or _safe_entry_matches(entry.value, config.home, real_path)
    return is_safe


def _safe_entry_matches(value: str, home: str | None, real_path: str) -> bool:
    try:
        allowed = parse_path(value, home)
    except BadValue:
        return False  # a home that this machine doesn't have: no business of this repository
    if allowed is None or not os.path.isabs(allowed) or "\0" in allowed:
        return False
    allowed = os.path.realpath(allowed)
    if allowed.endswith("/*"):
        return real_path.startswith(allowed[:-1])
    return real_path == allowed


def _owner_is(path: str, environ: Mapping[str, str], euid: int) -> bool:
    try:
        owner = os.lstat(path).st_uid
    except OSError:
        return False
    if euid == 0 and owner != 0:
        match = _SUDO_UID.fullmatch(environ.get("SUDO_UID", ""))
        return match is not None and owner == int(match[1])
    return owner == euid


def _file_kind(path: str) -> int:
    """Return the S_IFMT bits of what a path leads to, 0 for nothing that we can see."""
    try:
        return stat.S_IFMT(os.stat(path).st_mode)
    except OSError:
        return 0


def _is_valid_head(path: str) -> bool:
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind == stat.S_IFLNK:
            return os.readlink(path).startswith("refs/")
        if kind != stat.S_IFREG:
            return False  # opening a pipe would wait for its writer
        with open(path, "rb", buffering=0) as file:  # a buffer costs more than the reading
            head = file.read(HEAD_BYTES_MAX)
    except OSError as error:
        if error.errno in OUR_TROUBLE:
            raise  # too many open files says nothing about the repository
        return False
    if _SYMREF.match(head):
        return True
    return any(algo.parse_hex(head[: algo.hex_size]) is not None for algo in (SHA256, SHA1))
