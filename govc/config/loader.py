"""From files and environment to one Config: scopes in git's order, includes, and what has to be watched.

    system     GIT_CONFIG_SYSTEM or /etc/gitconfig, unless GIT_CONFIG_NOSYSTEM is true
    global     GIT_CONFIG_GLOBAL, or $XDG_CONFIG_HOME/git/config (~/.config/git/config) and then ~/.gitconfig
    local      <common folder>/config
    worktree   <git folder>/config.worktree, when extensions.worktreeConfig is on
    command    GIT_CONFIG_COUNT..., GIT_CONFIG_PARAMETERS (module `environment`)

`include.path` and `includeIf.<condition>.path` are replaced by the file's entries where they stand (the
include entry itself stays before them). Every path that was read **or looked for in vain** is in `watched`:
as long as none of them changes or appears, the result is the same. The environment is handed in; the
process's own is never asked.

Limits: a depth of ten includes, as git; files and bytes in all are bounded too, because a chain of ten
files that include each other a thousand times is a legal file and an endless night.

Source: git-config "FILES", "Includes", "Conditional includes", "ENVIRONMENT".
"""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from govc.config.config import Config, ConfigEntry, Scope, bool_of
from govc.config.environment import parse_environment
from govc.config.parser import parse_config, split_key
from govc.config.values import BadValue, expand_path, parse_bool
from govc.config.wildmatch import matches
from govc.errors import BadConfig

SYSTEM_CONFIG_PATH = "/etc/gitconfig"
INCLUDE_DEPTH_MAX = 10
FILES_MAX = 1000
BYTES_MAX = 16 << 20
READ_BYTES = 64 << 10

_ABSENT_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration and every path whose change or appearance could change it, in order of first look."""

    config: Config
    watched: tuple[str, ...]


def load_config(
    *,
    environ: Mapping[str, str],
    gitdir: str | None,
    commondir: str | None,
    head_branch: str | None = None,
    system_path: str = SYSTEM_CONFIG_PATH,
) -> LoadedConfig:
    """Load every scope of one repository. Raises BadConfig.

    `head_branch` is the branch that HEAD names, without refs/heads/, for "onbranch:" conditions; when one
    was met, HEAD is among the watched paths. Without `gitdir` and `commondir` only the protected scopes are
    loaded.
    """
    loading = _Loading(environ, gitdir, head_branch)
    loading.load_all(commondir, system_path)
    return LoadedConfig(
        config=Config(tuple(loading.entries), loading.home), watched=tuple(dict.fromkeys(loading.watched))
    )


def load_protected_config(environ: Mapping[str, str], *, system_path: str = SYSTEM_CONFIG_PATH) -> LoadedConfig:
    """Load the scopes that the repository's owner can't write: system, global and command.

    Raises BadConfig.
    """
    return load_config(environ=environ, gitdir=None, commondir=None, system_path=system_path)


class _Loading:
    """One run over all scopes; a second one, for remote URLs only, is made when a condition asks for them."""

    def __init__(
        self,
        environ: Mapping[str, str],
        gitdir: str | None,
        head_branch: str | None,
        *,
        takes_every_remote: bool = False,
    ) -> None:
        self.entries: list[ConfigEntry] = []
        self.watched: list[str] = []
        self.home = environ.get("HOME")
        self._environ = environ
        self._gitdir = gitdir
        self._head_branch = head_branch
        self._takes_every_remote = takes_every_remote
        self._commondir: str | None = None
        self._system_path = SYSTEM_CONFIG_PATH
        self._remote_urls: list[str] | None = None
        self._files = 0
        self._bytes = 0

    def load_all(self, commondir: str | None, system_path: str) -> None:
        """Load the scopes in git's order."""
        self._commondir, self._system_path = commondir, system_path
        for path, scope in find_shared_files(self._environ, system_path):
            self._load_file(path, scope, absent_when_denied=scope is Scope.GLOBAL)
        if commondir is not None and self._gitdir is not None:
            first = len(self.entries)
            self._load_file(os.path.join(commondir, "config"), Scope.LOCAL)
            if has_worktree_config(self.entries[first:]):
                self._load_file(os.path.join(self._gitdir, "config.worktree"), Scope.WORKTREE)
        for entry in parse_environment(self._environ):
            self._take(entry, "", 0, under_remote_condition=False)

    def _load_file(
        self,
        path: str,
        scope: Scope,
        depth: int = 0,
        *,
        absent_when_denied: bool = False,
        under_remote_condition: bool = False,
    ) -> None:
        self.watched.append(path)
        data = self._read(path, absent_when_denied)
        if data is None:
            return
        for parsed in parse_config(data, path):
            entry = ConfigEntry(parsed.key, parsed.value, scope, path, parsed.line, depth)
            self._take(entry, path, depth, under_remote_condition=under_remote_condition)

    def _read(self, path: str, absent_when_denied: bool) -> bytes | None:
        data = read_config_file(path, absent_when_denied=absent_when_denied)
        if data is not None:
            self._files += 1
            self._bytes += len(data)
            if self._files > FILES_MAX or self._bytes > BYTES_MAX:
                raise BadConfig(path, 0, f"more than {FILES_MAX} files or {BYTES_MAX} bytes of configuration")
        return data

    def _take(self, entry: ConfigEntry, path: str, depth: int, *, under_remote_condition: bool) -> None:
        """Keep one entry and follow it when it includes a file."""
        self.entries.append(entry)
        section, subsection, name = split_key(entry.key)
        if under_remote_condition and section == "remote" and subsection is not None and name == "url":
            raise BadConfig(
                entry.source,
                entry.line,
                "remote URLs cannot be configured in file directly or indirectly included by "
                "includeIf.hasconfig:remote.*.url",
            )
        if name != "path" or section not in ("include", "includeif"):
            return
        if section == "include":
            if subsection is not None:
                return
        elif subsection is None or not self._condition_holds(subsection, entry):
            return
        else:
            under_remote_condition = under_remote_condition or self._takes_every_remote
        included = self._included_path(entry, path)
        if depth + 1 > INCLUDE_DEPTH_MAX and os.path.exists(included):
            raise BadConfig(
                entry.source,
                entry.line,
                f"exceeded maximum include depth ({INCLUDE_DEPTH_MAX}) while including {included}",
            )
        self._load_file(included, entry.scope, depth + 1, under_remote_condition=under_remote_condition)

    def _included_path(self, entry: ConfigEntry, path: str) -> str:
        if entry.value is None:
            raise BadConfig(entry.source, entry.line, "missing value for 'include.path'")
        included = expand_path(entry.value, self.home)
        if included is None:
            raise BadConfig(entry.source, entry.line, f"could not expand include path '{entry.value}'")
        if os.path.isabs(included):
            return included
        if not path:
            raise BadConfig("environment", 0, "relative config includes must come from files")
        return os.path.join(os.path.dirname(path), included)

    def _condition_holds(self, condition: str, entry: ConfigEntry) -> bool:
        kind, colon, pattern = condition.partition(":")
        if kind in ("gitdir", "gitdir/i") and colon:
            return self._gitdir_matches(pattern, entry, ignore_case=kind == "gitdir/i")
        if kind == "onbranch" and colon:
            if self._gitdir is not None:
                self.watched.append(os.path.join(self._gitdir, "HEAD"))
            return self._head_branch is not None and matches(_with_tail(pattern), self._head_branch)
        prefix = "hasconfig:remote.*.url:"
        if condition.startswith(prefix):
            pattern = condition.removeprefix(prefix)
            return self._takes_every_remote or any(matches(pattern, url) for url in self._urls())
        return False  # "worktree:" too: what is served has none

    def _gitdir_matches(self, pattern: str, entry: ConfigEntry, *, ignore_case: bool) -> bool:
        if self._gitdir is None:
            return False
        if pattern.startswith("~"):
            home = None if self.home is None else os.path.realpath(self.home)
            pattern = expand_path(pattern, home) or pattern
        literal = ""
        if pattern.startswith("./"):
            if not entry.source:
                raise BadConfig("environment", 0, "relative config include conditionals must come from files")
            literal = os.path.dirname(os.path.realpath(entry.source)).rstrip("/") + "/"
            pattern = pattern[2:]
        elif not pattern.startswith("/"):
            pattern = "**/" + pattern
        pattern = _with_tail(pattern) if pattern or not literal else "**"
        real = os.path.realpath(self._gitdir)
        if not _starts_with(real, literal, ignore_case):
            return False
        # git's serving programs stand in the folder and call it ".": so "x.git/" matches x.git itself, too.
        return any(matches(pattern, text[len(literal) :], ignore_case=ignore_case) for text in (real, real + "/."))

    def _urls(self) -> list[str]:
        if self._remote_urls is None:
            other = _Loading(self._environ, self._gitdir, self._head_branch, takes_every_remote=True)
            other.load_all(self._commondir, self._system_path)
            self.watched += other.watched
            self._remote_urls = [
                entry.value
                for entry in other.entries
                if entry.value is not None and entry.key.startswith("remote.") and _is_remote_url(entry.key)
            ]
        return self._remote_urls


def find_shared_files(environ: Mapping[str, str], system_path: str) -> list[tuple[str, Scope]]:
    """Return (path, scope) of the files that all repositories share, in git's order. Raises BadConfig."""
    files: list[tuple[str, Scope]] = []
    try:
        without_system = parse_bool(environ.get("GIT_CONFIG_NOSYSTEM", "false"))
    except BadValue as error:
        reason = f"bad boolean environment value '{environ['GIT_CONFIG_NOSYSTEM']}' for 'GIT_CONFIG_NOSYSTEM'"
        raise BadConfig("environment", 0, reason) from error
    if not without_system:
        files.append((environ.get("GIT_CONFIG_SYSTEM", system_path), Scope.SYSTEM))
    home, xdg_home = environ.get("HOME"), environ.get("XDG_CONFIG_HOME")
    if "GIT_CONFIG_GLOBAL" in environ:
        files.append((environ["GIT_CONFIG_GLOBAL"], Scope.GLOBAL))
    else:
        if not xdg_home and home is not None:
            xdg_home = os.path.join(home, ".config")
        if xdg_home:
            files.append((os.path.join(xdg_home, "git", "config"), Scope.GLOBAL))
        if home is not None:
            files.append((os.path.join(home, ".gitconfig"), Scope.GLOBAL))
    return [(path, scope) for path, scope in files if path]


def has_worktree_config(entries: list[ConfigEntry]) -> bool:
    """Say whether the entries of <common folder>/config turn on config.worktree.

    As everything about the format, only what stands in the file itself counts, and only if it has a version.
    """
    direct = {entry.key: entry for entry in entries if entry.include_depth == 0}
    entry = direct.get("extensions.worktreeconfig")
    return entry is not None and "core.repositoryformatversion" in direct and bool_of(entry)


def read_config_file(path: str, *, absent_when_denied: bool = False) -> bytes | None:
    """Return the bytes of a configuration file, or None when there is none. Raises BadConfig.

    A device or a pipe would block the reader or never end: only plain files are read; /dev/null is empty.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _ABSENT_ERRNOS or (absent_when_denied and error.errno == errno.EACCES):
            return None
        raise BadConfig(path, 0, f"unable to access: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise BadConfig(path, 0, "not a file name") from error
    try:
        found = os.fstat(descriptor)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
            return b""
        if not stat.S_ISREG(found.st_mode):
            raise BadConfig(path, 0, "not a plain file")
        data = b""
        while len(data) <= BYTES_MAX and (piece := os.read(descriptor, READ_BYTES)):
            data += piece
        return data
    finally:
        os.close(descriptor)


def _with_tail(pattern: str) -> str:
    return pattern + "**" if pattern.endswith("/") else pattern


def _starts_with(text: str, prefix: str, ignore_case: bool) -> bool:
    start = text[: len(prefix)]
    return start == prefix or (ignore_case and start.lower() == prefix.lower())


def _is_remote_url(key: str) -> bool:
    section, subsection, name = split_key(key)
    return section == "remote" and subsection is not None and name == "url"
