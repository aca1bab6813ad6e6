"""The conversation of upload-archive: a client asks for an archive of a tree, and gets it in the side band.

    parse the arguments → which tree, may it be had → which container → the archive

Only what a ref names (or a path below it) may be asked for, unless `uploadArchive.allowUnreachable` opens all; hidden
refs and namespaces play no part here, as in git. An error is said on band 2 in git's words, then on band 3 that the
archiver died, and the stream is cut short.

Source: git-upload-archive, git-archive, git-config "uploadArchive.allowUnreachable", "tar.*"; rows HB-05, HB-85..87,
CF-44, CF-45, SEC-27.
"""

import logging
import os
import time as clock
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from govc.archive.convert import LineEnds
from govc.archive.describe import TagName
from govc.archive.options import ArchiveOptions, ArchiveRefused, parse_archive_options
from govc.archive.substitute import Decoration
from govc.archive.tar import DEFAULT_UMASK
from govc.config.config import Config, bool_of
from govc.config.values import BadValue, parse_expiry
from govc.errors import GovcError
from govc.objects.commit import parse_commit_links
from govc.objects.types import BLOB
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.pktline import FLUSH
from govc.protocol.sideband import KEEPALIVE, Band, frame
from govc.protocol.upload_archive import ARCHIVER_DIED, encode_acknowledgment, parse_archive_request
from govc.repo.archiving import ArchivePlan, current_umask, produce_archive
from govc.repo.helper import HelperFailed, HelperSlots, Progress
from govc.repo.object_options import read_big_file_bytes, read_tree_depth_max
from govc.repo.revision import find_ref, peel_to_tree, resolve
from govc.repo.runtime import Runtime
from govc.repo.snapshot import Snapshot
from govc.service.context import RequestContext

log = logging.getLogger(__name__)

SYSTEM_ATTRIBUTES = "/etc/gitattributes"
ATTRIBUTES_BYTES_MAX = MAILMAP_BYTES_MAX = 1 << 20
TAGS_MAX = 50_000
_INTERNAL_GZIP = "git archive gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveTools:
    """What an archive needs beside the snapshot: how to wait, where helpers run, the server's environment."""

    runtime: Runtime
    slots: HelperSlots | None
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Format:
    """A container that clients may ask for; `command` None: tar or zip without a filter."""

    name: str
    command: str | None
    is_remote: bool


def serve_upload_archive(
    snapshot: Snapshot, context: RequestContext, body: bytes, tools: ArchiveTools
) -> Iterator[bytes]:
    """Answer one POST git-upload-archive. Yields framed bytes; closing the generator cancels the work. May switch."""
    yield encode_acknowledgment()
    try:
        options = parse_archive_options(parse_archive_request(body))
        formats = _formats(snapshot.config)
        if options.list:
            names = "".join(f"{found.name}\n" for found in formats if found.is_remote)
            yield frame(Band.DATA, names.encode("utf-8", "surrogateescape")) + FLUSH
            return
        plan = _make_plan(snapshot, options, formats, tools.environ)
        for item in produce_archive(snapshot, plan, tools.runtime, tools.slots):
            if isinstance(item, bytes):
                yield frame(Band.DATA, item)
            elif isinstance(item, Progress):
                yield frame(Band.PROGRESS, item.text.encode("utf-8", "surrogateescape"))
            else:
                yield KEEPALIVE
    except (GovcError, RemoteProtocolError) as error:
        log.warning("%s: %s: archive: %s", context.request_id, snapshot.layout.gitdir, error)
        yield from _fatal(error)
        return
    yield FLUSH


def _fatal(error: GovcError | RemoteProtocolError) -> Iterator[bytes]:
    text = error.text if isinstance(error, RemoteProtocolError) else error.public_text
    if isinstance(error, ArchiveRefused) and error.is_usage:
        said = text
    else:
        kind = "error" if isinstance(error, HelperFailed) and text.startswith("missing ") else "fatal"
        said = f"{kind}: {text}\n"
    yield frame(Band.PROGRESS, said.encode("utf-8", "surrogateescape"))
    yield frame(Band.ERROR, ARCHIVER_DIED.encode("ascii"))


def _formats(config: Config) -> list[_Format]:
    """Return what `git archive --list` lists: tar, the filters (built-in ones first), zip."""
    commands: dict[str, str | None] = {"tgz": _INTERNAL_GZIP, "tar.gz": _INTERNAL_GZIP}
    remote = {"tgz": True, "tar.gz": True}
    for subsection, name, entry in config.iter_section("tar"):
        if subsection is None:
            continue
        commands.setdefault(subsection, None)
        if name == "command":
            commands[subsection] = config.get(entry.key)
        elif name == "remote":
            remote[subsection] = bool_of(entry)
    filters = [_Format(name, command, remote.get(name, False)) for name, command in commands.items() if command]
    return [_Format("tar", None, True), *filters, _Format("zip", None, True)]


def _make_plan(
    snapshot: Snapshot, options: ArchiveOptions, formats: list[_Format], environ: Mapping[str, str]
) -> ArchivePlan:
    config = snapshot.config
    chosen = next((found for found in formats if found.name == options.format and found.is_remote), None)
    if chosen is None:
        raise ArchiveRefused(f"Unknown archive format '{options.format}'")
    level = _level(options, chosen)
    name, *paths = options.arguments
    oid = _find_tree_ish(snapshot, name)
    commit, tree = peel_to_tree(snapshot, oid)
    if tree is None:
        raise ArchiveRefused(f"not a tree object: {oid.hex()}")
    moment = int(clock.time())
    if commit is not None:
        moment = parse_commit_links(snapshot.store.read_oid(commit)[1], snapshot.algo).time
    if options.mtime is not None:
        moment = parse_mtime(options.mtime, int(clock.time()))
    is_gzip = chosen.command == _INTERNAL_GZIP
    above, below = server_attributes(snapshot, environ)
    return ArchivePlan(
        tree=tree,
        commit=commit,
        time=moment,
        container="gzip" if is_gzip else "zip" if chosen.name == "zip" else "tar",
        command=None if is_gzip else chosen.command,
        level=level,
        prefix=options.prefix,
        paths=tuple(paths),
        verbose=options.verbose,
        umask=_umask(config),
        line_ends=line_ends(config),
        big_file_bytes=read_big_file_bytes(config),
        binary_drivers=_binary_drivers(config),
        above=above,
        below=below,
        reads_attributes=not options.worktree_attributes,
        decorations=_decorations(snapshot, commit),
        mailmaps=_mailmaps(snapshot) if commit is not None else (),
        tags=_tags(snapshot) if commit is not None else (),
        tree_depth_max=read_tree_depth_max(config),
    )


def _level(options: ArchiveOptions, chosen: _Format) -> int:
    if options.level is None:
        return -1
    # A filter gets any level; zip and the built-in gzip have those of zlib.
    is_ours = chosen.name == "zip" or chosen.command == _INTERNAL_GZIP
    if chosen.name == "tar" or (is_ours and options.level > 9):
        raise ArchiveRefused(f"Argument not supported for format '{chosen.name}': -{options.level}")
    return options.level


def _find_tree_ish(snapshot: Snapshot, name: bytes) -> bytes:
    shown = name.decode("utf-8", "replace")
    if not snapshot.config.get_bool("uploadarchive.allowunreachable", False):
        ref = name.partition(b":")[0]
        if find_ref(snapshot, ref) is None:
            raise ArchiveRefused(f"no such ref: {ref.decode('utf-8', 'replace')}")
    oid = resolve(snapshot, name)
    if oid is None:
        raise ArchiveRefused(f"not a valid object name: {shown}")
    return oid


def parse_mtime(text: str, now: int) -> int:
    """Return the moment that --mtime names, in seconds; what can't be read is now, as git's parser has it."""
    text = text.strip()
    digits = text.removeprefix("@").split(" ")[0]
    if digits.isascii() and digits.isdigit() and (text.startswith("@") or len(digits) > 8):
        return int(digits[:18])
    try:
        return parse_expiry(text, now)
    except BadValue:
        return now


def _umask(config: Config) -> int:
    entry = config.find_entry("tar.umask")
    if entry is None:
        return DEFAULT_UMASK
    if entry.value == "user":
        return current_umask()
    text = (entry.value or "").strip()
    if len(text) > 1 and text.startswith("0") and text.isdigit() and not set(text) & {"8", "9"}:
        return int(text, 8)
    return config.get_int("tar.umask", DEFAULT_UMASK, bits=32)


def line_ends(config: Config) -> LineEnds:
    """Return how line ends are converted: core.autocrlf, core.eol. Raises BadConfigValue."""
    entry = config.find_entry("core.autocrlf")
    if entry is None:
        autocrlf = "false"
    elif (entry.value or "").lower() == "input":
        autocrlf = "input"
    else:
        autocrlf = "true" if bool_of(entry) else "false"
    return LineEnds(autocrlf=autocrlf, eol=(config.get("core.eol") or "").lower())


def _binary_drivers(config: Config) -> tuple[tuple[str, bool], ...]:
    return tuple(
        (driver, bool_of(entry))
        for driver, name, entry in config.iter_section("diff")
        if driver is not None and name == "binary"
    )


def server_attributes(snapshot: Snapshot, environ: Mapping[str, str]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the server's own attributes files, those above the tree's and those below them."""
    above = _read(f"{snapshot.layout.commondir}/info/attributes")
    paths = []
    own = snapshot.config.get_path("core.attributesfile")
    if own is None:
        home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else None)
        own = f"{home}/git/attributes" if home else None
    if own is not None:
        paths.append(own)
    if environ.get("GIT_ATTR_NOSYSTEM", "").lower() not in ("1", "true", "yes", "on"):
        paths.append(SYSTEM_ATTRIBUTES)
    return tuple(filter(None, [above])), tuple(filter(None, map(_read, paths)))


def _read(path: str) -> bytes:
    """Return a small file, b"" when it isn't there. Raises OSError when it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(ATTRIBUTES_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except PermissionError:
        log.warning("unable to access '%s'", os.fsdecode(path))
        return b""


def _mailmaps(snapshot: Snapshot) -> tuple[bytes, ...]:
    """Return the mailmaps that git would read: mailmap.blob (HEAD:.mailmap where nobody works), mailmap.file."""
    name = snapshot.config.get("mailmap.blob")
    if name is None and snapshot.layout.is_bare:
        name = "HEAD:.mailmap"
    texts = []
    oid = resolve(snapshot, os.fsencode(name)) if name else None
    if oid is not None:
        number = snapshot.store.find(oid)
        if (
            number >= 0
            and snapshot.store.type_of(number) == BLOB
            and snapshot.store.size_of(number) <= MAILMAP_BYTES_MAX
        ):
            texts.append(snapshot.store.read(number)[1])
    file = snapshot.config.get_path("mailmap.file")
    if file is not None:
        texts.append(_read(os.path.join(snapshot.layout.gitdir, file)))
    return tuple(filter(None, texts))


def _decorations(snapshot: Snapshot, commit: bytes | None) -> tuple[Decoration, ...]:
    """Return the names that git log decorates a commit with, in its order."""
    if commit is None:
        return ()
    names = []
    head = snapshot.table.head
    for ref in snapshot.table.iter_refs(b"refs/", snapshot.peel):
        if (ref.peeled or ref.oid) != commit or ref.name == head.symref_target:
            continue
        names.append(_decoration(ref.name))
    names.reverse()
    if head.oid == commit:
        target = head.symref_target
        names.insert(0, Decoration(b"HEAD") if target is None else _decoration(target)._replace(is_head=True))
    elif head.symref_target is not None and snapshot.table.resolve(head.symref_target) == commit:
        names.append(_decoration(head.symref_target))
    return tuple(names)


def _decoration(name: bytes) -> Decoration:
    if name.startswith(b"refs/tags/"):
        return Decoration(name.removeprefix(b"refs/tags/"), is_tag=True)
    for prefix in (b"refs/heads/", b"refs/remotes/"):
        if name.startswith(prefix):
            return Decoration(name.removeprefix(prefix))
    return Decoration(name)


def _tags(snapshot: Snapshot) -> tuple[TagName, ...]:
    out: list[TagName] = []
    for ref in snapshot.table.iter_refs(b"refs/tags/", snapshot.peel):
        if len(out) >= TAGS_MAX:
            break
        out.append(TagName(ref.peeled or ref.oid, ref.name.removeprefix(b"refs/tags/"), ref.peeled is not None))
    return tuple(out)
