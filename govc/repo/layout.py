"""Where a repository keeps things, and whether we understand its format.

What: the folders, the object format, the extensions and the file permissions of one repository as one
frozen value. Not here: finding it by name (`discover`), reading objects or refs.

    <gitdir>/commondir    only in a linked worktree: path of the folder that is shared (objects, refs, config)
    core.repositoryFormatVersion
        0                 extensions that only version 1 has are an error, unknown ones are ignored
        1                 an unknown extension is an error; above 1 is an error
        absent            as 0, and every extension is ignored
    extensions.<name>     counts only in <commondir>/config itself, never in an included or global file
    extensions.refStorage files | reftable, perhaps with "://" and the folder in which the refs are kept

What we don't know we refuse: guessing at a format means damaging it at the first push.

Source: gitrepository-layout, git's technical/repository-version, git-config "extensions.*",
"core.sharedRepository".
"""

import os
import re
import stat
from dataclasses import dataclass, field

from govc.config.config import Config, ConfigEntry, Scope, bool_of, number_of
from govc.config.values import parse_int
from govc.errors import RepositoryRefused
from govc.protocol.oid import SHA1, HashAlgorithm, find_algorithm
from govc.refs.backend import FILES, REFTABLE

FORMAT_VERSION_MAX = 1
COMMONDIR_BYTES_MAX = 1 << 16

_ANY_VERSION_EXTENSIONS = frozenset({"noop", "preciousobjects", "partialclone", "worktreeconfig"})
_VERSION_1_EXTENSIONS = frozenset(
    {
        "noop-v1",
        "objectformat",
        "compatobjectformat",
        "refstorage",
        "relativeworktrees",
        "submodulepathconfig",
    }
)
_BOOL_EXTENSIONS = frozenset({"preciousobjects", "worktreeconfig", "relativeworktrees", "submodulepathconfig"})
_VALUED_EXTENSIONS = frozenset({"partialclone", "objectformat", "compatobjectformat", "refstorage"})

_OCTAL = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-7]*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPermissions:
    """core.sharedRepository: permission bits to add to what umask left or, when exact, to set instead."""

    bits: int = 0
    is_exact: bool = False

    def file_mode(self, mode: int) -> int:
        """Return the permission bits for a file that was made with `mode`."""
        tweak = self.bits
        if not mode & stat.S_IWUSR:
            tweak &= ~0o222
        if mode & stat.S_IXUSR:
            tweak |= (tweak & 0o444) >> 2
        return (mode & ~0o777) | tweak if self.is_exact else mode | tweak

    def directory_mode(self, mode: int) -> int:
        """Return the permission bits for a folder made with `mode`: readable is enterable, and set-gid."""
        if not self.bits:
            return mode
        mode = self.file_mode(mode)
        mode |= (mode & 0o444) >> 2
        return mode | stat.S_ISGID if mode & 0o060 else mode


UMASK = SharedPermissions()
GROUP = SharedPermissions(bits=0o660)
EVERYBODY = SharedPermissions(bits=0o664)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryLayout:
    """One repository's folders (absolute paths) and format.

    Equal to `gitdir` except in a linked worktree: `commondir`. `refs_folder` is where the refs are kept instead, when
    extensions.refStorage names a folder. `main_is_bare`: nobody works in the common folder's own worktree.
    """

    gitdir: str
    commondir: str
    objects_dir: str
    algo: HashAlgorithm = SHA1
    is_bare: bool = True
    main_is_bare: bool = True
    format_version: int = 0
    extensions: dict[str, str | None] = field(default_factory=dict)
    shared: SharedPermissions = UMASK
    ref_storage: str = FILES
    refs_folder: str | None = None
    precious_objects: bool = False
    worktree: str | None = None

    @property
    def is_linked_worktree(self) -> bool:
        """Say whether refs and objects live in another folder."""
        return self.commondir != self.gitdir

    @property
    def refs_commondir(self) -> str:
        """Return the folder in which the shared refs are kept."""
        return self.commondir if self.refs_folder is None else self.refs_folder

    @property
    def refs_gitdir(self) -> str:
        """Return the folder in which HEAD and the refs of this worktree are kept."""
        if self.refs_folder is None:
            return self.gitdir
        if not self.is_linked_worktree:
            return self.refs_folder
        return f"{self.refs_folder}/worktrees/{os.path.basename(self.gitdir)}"


def find_commondir(gitdir: str) -> str:
    """Return the folder that holds objects, refs and config.

    Raises RepositoryRefused when commondir is unreadable.
    """
    path = os.path.join(gitdir, "commondir")
    try:
        with open(path, "rb") as file:
            data = file.read(COMMONDIR_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return gitdir
    except OSError as error:
        raise RepositoryRefused(gitdir, f"failed to read commondir: {error.strerror}") from error
    target = os.fsdecode(data.rstrip(b"\r\n").partition(b"\0")[0])
    if not data:
        raise RepositoryRefused(gitdir, "failed to read commondir: it is empty")
    return os.path.realpath(os.path.join(gitdir, target))


def read_layout(gitdir: str, config: Config) -> RepositoryLayout:
    """Check the format and return the layout. `config` is the repository's, all scopes.

    Raises RepositoryRefused for a format that we don't serve, BadConfig for a value that git would die on.
    """
    commondir = find_commondir(gitdir)
    direct = [entry for entry in config.entries if entry.scope is Scope.LOCAL and entry.include_depth == 0]
    version, extensions = _read_format(gitdir, direct)
    values = {name: entry.value for name, entry in extensions.items()}
    precious = extensions.get("preciousobjects")
    main_is_bare, worktree = _read_worktree(config)
    is_linked = commondir != gitdir
    storage, refs_folder = _find_refs(commondir, values.get("refstorage"))
    return RepositoryLayout(
        gitdir=gitdir,
        commondir=commondir,
        objects_dir=os.path.join(commondir, "objects"),
        algo=_read_algorithm(gitdir, values.get("objectformat")),
        is_bare=main_is_bare and not is_linked,
        main_is_bare=main_is_bare,
        format_version=version,
        extensions=values,
        shared=read_shared_permissions(gitdir, config),
        ref_storage=storage,
        refs_folder=refs_folder,
        precious_objects=precious is not None and bool_of(precious),
        worktree=None if is_linked else worktree,
    )


def _find_refs(commondir: str, value: str | None) -> tuple[str, str | None]:
    """Return (backend, folder of the refs when it is another) by extensions.refStorage."""
    storage, separator, folder = (value or FILES).partition("://")
    return storage, os.path.realpath(os.path.join(commondir, folder)) if separator else None


def _read_format(gitdir: str, direct: list[ConfigEntry]) -> tuple[int, dict[str, ConfigEntry]]:
    version = -1
    extensions: dict[str, ConfigEntry] = {}
    for entry in direct:
        if entry.key == "core.repositoryformatversion":
            version = number_of(entry, lambda text: parse_int(text, bits=32))
        elif entry.key.startswith("extensions."):
            name = entry.key.removeprefix("extensions.")
            _check_extension_value(gitdir, name, entry)
            extensions[name] = entry
    if version < 0:
        return 0, {}
    if version > FORMAT_VERSION_MAX:
        raise RepositoryRefused(gitdir, f"Expected git repo version <= {FORMAT_VERSION_MAX}, found {version}")
    _check_extensions(gitdir, version, extensions)
    return version, extensions


def _check_extension_value(gitdir: str, name: str, entry: ConfigEntry) -> None:
    """Refuse a bad value of a known extension, whatever the version."""
    if name in _BOOL_EXTENSIONS:
        bool_of(entry)
    if name in _VALUED_EXTENSIONS and entry.value is None:
        raise RepositoryRefused(gitdir, f"missing value for 'extensions.{name}'")
    known = entry.value is not None and (
        (name in ("objectformat", "compatobjectformat") and find_algorithm(entry.value) is not None)
        or (name == "refstorage" and entry.value.partition("://")[0] in (FILES, REFTABLE))
    )
    if name in ("objectformat", "compatobjectformat", "refstorage") and not known:
        raise RepositoryRefused(gitdir, f"invalid value for 'extensions.{name}': '{entry.value}'")


def _check_extensions(gitdir: str, version: int, extensions: dict[str, ConfigEntry]) -> None:
    if version == 0:
        early = sorted(_VERSION_1_EXTENSIONS & extensions.keys())
        if early:
            raise RepositoryRefused(gitdir, f"repo version is 0, but v1-only extension found: {', '.join(early)}")
        return
    unknown = sorted(extensions.keys() - _VERSION_1_EXTENSIONS - _ANY_VERSION_EXTENSIONS)
    if unknown:
        raise RepositoryRefused(gitdir, f"unknown repository extension found: {', '.join(unknown)}")
    if "compatobjectformat" in extensions:
        raise RepositoryRefused(
            gitdir, "a second object format (compatObjectFormat) is not supported by this version of govc"
        )


def _read_algorithm(gitdir: str, name: str | None) -> HashAlgorithm:
    algo = SHA1 if name is None else find_algorithm(name)
    if algo is None:
        raise RepositoryRefused(gitdir, f"invalid value for 'extensions.objectformat': '{name}'")
    return algo


def _read_worktree(config: Config) -> tuple[bool, str | None]:
    """Return (bare, core.worktree). Not said to be non-bare is bare, as for git's serving programs."""
    own = {Scope.LOCAL, Scope.WORKTREE}
    entries = [entry for entry in config.entries if entry.scope in own and entry.include_depth == 0]
    bare: bool = True
    worktree: str | None = None
    for entry in entries:
        if entry.key == "core.bare":
            bare = bool_of(entry)
        elif entry.key == "core.worktree":
            worktree = entry.value
    return bare, worktree


def read_shared_permissions(gitdir: str, config: Config) -> SharedPermissions:
    """Return what core.sharedRepository asks for. Raises RepositoryRefused, BadConfig."""
    entry = config.find_entry("core.sharedrepository")
    if entry is None:
        return UMASK
    if entry.value is None or entry.value == "group":
        return GROUP
    if entry.value == "umask":
        return UMASK
    if entry.value in ("all", "world", "everybody"):
        return EVERYBODY
    match = _OCTAL.fullmatch(entry.value)
    if match is None or match[1] in ("+", "-"):
        return GROUP if bool_of(entry) else UMASK
    mode = int(match[1] or "0", 8)
    if mode in (0, 1, 2):
        return (UMASK, GROUP, EVERYBODY)[mode]
    if mode & 0o600 != 0o600:
        raise RepositoryRefused(
            gitdir,
            f"problem with core.sharedRepository filemode value (0{mode:03o}). "
            "The owner of files must always have read and write permissions.",
        )
    return SharedPermissions(bits=mode & 0o666, is_exact=True)
