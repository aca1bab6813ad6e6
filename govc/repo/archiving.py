"""From a tree to the bytes of an archive: the work behind `git archive --remote`.

`iter_archive` is one generator wherever it runs: in a helper process (`archive_job`), which inherits the open packs, or
in the process itself where there are no helpers. It yields bytes of the archive, `Progress` texts (the paths, when they
were asked for) and None where its driver may look at the clock.

A filter of the configuration (`tar.<format>.command`) is a program that the server's admin chose; it runs in a shell,
as with git, with the tar stream on its standard input.

Source: git-archive, git-config "tar.<format>.command".
"""

import os
import queue
import subprocess
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from govc.archive.abbreviate import Shortener
from govc.archive.attributes import Attributes, parse_attributes
from govc.archive.convert import LineEnds
from govc.archive.describe import TagName, describe, parse_describe_options
from govc.archive.entries import TREE_DEPTH_MAX, ArchiveEntry, EntrySettings, TreeWalk
from govc.archive.mailmap import Mailmap
from govc.archive.options import ArchiveRefused
from govc.archive.pathspec import parse_pathspec
from govc.archive.substitute import CommitFacts, Decoration, Substitution
from govc.archive.tar import DEFAULT_UMASK, TarSettings, write_tar
from govc.archive.zip import ZipSettings, write_zip
from govc.graph.commits import History
from govc.odb.store import ObjectStore
from govc.repo.helper import Emit, HelperSlots, Job, Progress, Quiet, run_helper
from govc.repo.packing import StoreHandle
from govc.repo.runtime import Breather, Runtime
from govc.repo.snapshot import Snapshot

CHUNK_BYTES = 256 << 10
_QUEUE_CHUNKS = 8
_READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """Everything that decides an archive's bytes. Picklable.

    `container` is "tar", "gzip" or "zip"; `command` a filter's shell command (then the container is "tar"); `level` -1
    for the default. `above`, `below`: attributes files of the server that win over the tree's, and lose against them.
    `reads_attributes`: whether the tree's own .gitattributes count. `mailmaps`: later ones win.
    """

    tree: bytes
    commit: bytes | None
    time: int
    container: str
    command: str | None = None
    level: int = -1
    prefix: bytes = b""
    paths: tuple[bytes, ...] = ()
    verbose: bool = False
    umask: int = DEFAULT_UMASK
    line_ends: LineEnds = field(default_factory=LineEnds)
    big_file_bytes: int = 512 << 20
    binary_drivers: tuple[tuple[str, bool], ...] = ()
    above: tuple[bytes, ...] = ()
    below: tuple[bytes, ...] = ()
    reads_attributes: bool = True
    decorations: tuple[Decoration, ...] = ()
    mailmaps: tuple[bytes, ...] = ()
    tags: tuple[TagName, ...] = ()
    tree_depth_max: int = TREE_DEPTH_MAX


def iter_archive(store: ObjectStore, history: History, plan: ArchivePlan) -> Iterator[bytes | Progress | None]:
    """Yield the archive. Raises ArchiveRefused, ObjectMissing, Corrupt, LimitExceeded."""
    walk = TreeWalk(store, plan.tree, _entry_settings(store, history, plan), lambda: None)
    unmatched = parse_pathspec(plan.paths).unmatched(walk.paths()) if plan.paths else None
    if unmatched is not None:
        raise ArchiveRefused(f"pathspec '{unmatched}' did not match any files")
    said: list[Progress] = []
    chunks = _contain(_spoken(walk.entries(), said if plan.verbose else None), plan)
    if plan.command is not None:
        chunks = _filtered(chunks, plan.command if plan.level < 0 else f"{plan.command} -{plan.level}")
    for chunk in _gathered(chunks):
        yield from said
        said.clear()
        yield chunk
    yield from said


def _spoken(entries: Iterator[ArchiveEntry], said: list[Progress] | None) -> Iterator[ArchiveEntry]:
    for entry in entries:
        if said is not None:
            said.append(Progress(entry.path.decode("utf-8", "replace") + "\n"))
        yield entry


def _contain(entries: Iterator[ArchiveEntry], plan: ArchivePlan) -> Iterator[bytes]:
    comment = plan.commit.hex().encode("ascii") if plan.commit is not None else b""
    if plan.container == "zip":
        yield from write_zip(entries, ZipSettings(time=plan.time, level=plan.level, comment=comment))
        return
    pieces = write_tar(entries, TarSettings(time=plan.time, umask=plan.umask, comment=comment))
    if plan.container != "gzip":
        yield from pieces
        return
    deflater = zlib.compressobj(plan.level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush()


def _gathered(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Join small pieces, and show the clock between them."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
        else:
            yield None
    if size:
        yield b"".join(waiting)


def _filtered(chunks: Iterator[bytes], command: str) -> Iterator[bytes]:
    """Pass the tar through a program. Raises ArchiveRefused when it fails, in git's words."""
    program = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin is not None and program.stdout is not None
    failed: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def feed() -> None:
        assert program.stdin is not None
        try:
            with program.stdin:
                for chunk in chunks:
                    program.stdin.write(chunk)
        except BrokenPipeError:
            return  # its exit status says the rest
        except BaseException as error:
            failed.put(error)
            program.kill()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while piece := program.stdout.read1(_READ_BYTES):  # type: ignore[attr-defined]
            yield piece
        status = program.wait()
        feeder.join()
        if not failed.empty():
            raise failed.get()
        if status:
            raise ArchiveRefused(f"'{command}' filter reported error")
    finally:
        program.stdout.close()
        if program.poll() is None:
            program.kill()
            program.wait()


def _entry_settings(store: ObjectStore, history: History, plan: ArchivePlan) -> EntrySettings:
    attributes = Attributes(
        above=tuple(parse_attributes(data) for data in plan.above),
        below=tuple(parse_attributes(data) for data in plan.below),
    )
    return EntrySettings(
        prefix=plan.prefix,
        pathspec=parse_pathspec(plan.paths),
        attributes=attributes,
        reads_attributes=plan.reads_attributes,
        line_ends=plan.line_ends,
        substitute=_substitution(store, history, plan) if plan.commit is not None else None,
        stream_bytes_min=plan.big_file_bytes,
        binary_drivers=dict(plan.binary_drivers),
        tree_depth_max=plan.tree_depth_max,
    )


def _substitution(store: ObjectStore, history: History, plan: ArchivePlan) -> Substitution:
    assert plan.commit is not None
    commit = plan.commit
    shorten = Shortener(store)

    def tell(options: bytes) -> bytes:
        parsed = parse_describe_options(options)
        name, distance = describe(history, store.find(commit), plan.tags, parsed)
        if not name or not distance or parsed.digits == 0:
            return name
        digits = commit.hex().encode("ascii")[: parsed.digits] if parsed.digits else b""
        short = max(digits, shorten(commit), key=len) if parsed.digits is None else digits
        return b"%b-%d-g%b" % (name, distance, short)

    return Substitution(
        CommitFacts(
            oid=commit,
            data=store.read_oid(commit)[1],
            shorten=shorten,
            decorations=plan.decorations,
            mailmap=Mailmap(plan.mailmaps),
            describe=tell,
        )
    )


def archive_job(argument: tuple[StoreHandle, ArchivePlan], emit: Emit) -> None:
    """The helper's "archive" job."""
    handle, plan = argument
    store = handle.open_store()
    for item in iter_archive(store, handle.make_history(store), plan):
        if item is not None:
            emit(item)


def produce_archive(
    snapshot: Snapshot, plan: ArchivePlan, runtime: Runtime, slots: HelperSlots | None
) -> Iterator[bytes | Progress | Quiet]:
    """Yield the archive, in a helper where there are any. Closing the generator stops the work. May switch."""
    if slots is not None:
        handle = StoreHandle.of(snapshot)
        yield from run_helper(Job("archive", (handle, plan)), descriptors=handle.inherited, slots=slots)
        return
    breathe = Breather(runtime)
    for item in iter_archive(snapshot.store, snapshot.history(), plan):
        breathe()
        if item is not None:
            yield item


def current_umask() -> int:
    """Return this process's umask, without setting it even for a moment where the system tells."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
