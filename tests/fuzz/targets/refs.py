"""Refs as text files: packed-refs, loose refs, HEAD, gitfiles, lists of tables, namespaces, reflogs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from govc.errors import CorruptRefs, ObjectMissing, RepositoryRefused
from govc.protocol.oid import SHA1, HashAlgorithm
from govc.protocol.refname import check_refname_format
from govc.refs.loose import LooseRef, parse_loose_ref, read_loose_ref
from govc.refs.namespace import BadNamespace, expand_namespace, strip_namespace
from govc.refs.packed import NOT_A_TAG, PackedRefs, encode_packed_refs, merge_entries
from govc.refs.reflog import encode_ident, encode_reflog_line
from govc.refs.reftable.stack import parse_tables_list
from govc.refs.table import DELETED, RefTable, Run
from govc.refs.visibility import HiddenRefs
from govc.repo.discover import is_git_directory, read_gitfile
from govc.repo.layout import find_commondir
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.targets.texts import folder_for, remove_scratch, write
from tests.fuzz.targets.wire import algo_of, hex_oid, refname

# Refs


def packed_text(draw: Draw, algo: HashAlgorithm) -> bytes:
    names = sorted(refname(draw) for _ in range(draw.randrange(7)))
    lines = []
    for name in draw.shuffle_some(names):
        lines.append(hex_oid(draw, algo) + draw.pick(b" ", b"", b"\t", b"  ") + name)
        if draw.chance(0.3):
            lines.append(draw.pick(b"^", b"", b"^^") + hex_oid(draw, algo))
    head = (
        b"# pack-refs with: peeled fully-peeled sorted ",
        b"# pack-refs with: peeled",
        b"# pack-refs with:",
        b"#",
        b"# x",
    )
    text = b"\n".join([*([draw.word(*head)] if draw.chance(0.8) else []), *lines]) + draw.pick(b"\n", b"", b"\n\n")
    return draw.spoil(text) if draw.chance(0.3) else text


def make_packed(draw: Draw) -> tuple[bytes, HashAlgorithm, dict[bytes, bytes | None]]:
    algo = algo_of(draw)
    changes: dict[bytes, bytes | None] = {
        b"refs/heads/main": b"\7" * algo.oid_size,
        b"refs/heads/new": b"\7" * algo.oid_size,
        b"refs/tags/v1": None,
    }
    return packed_text(draw, algo), algo, changes


def run_packed(data: tuple[bytes, HashAlgorithm, dict[bytes, bytes | None]]) -> None:
    """What is read is consistent in itself, and survives being written and read again."""
    text, algo, changes = data
    refs = PackedRefs(text, algo)
    entries = list(refs.iter_entries())
    assert [entry.name for entry in entries] == list(refs.iter_names()) and len(entries) == len(refs) == refs.count
    for position, entry in enumerate(entries):
        assert entry.name.startswith(b"refs/") and check_refname_format(entry.name)
        assert (entry.oid, entry.peeled) == (refs.oid_at(position), refs.peeled_at(position))
        assert entry.name == refs.name_at(position) and len(entry.oid) == algo.oid_size
    # A file may say "sorted" and not be: then look-ups find what they find.
    for prefix in (b"", b"refs/heads/", b"\xff", b"refs/tags/v"):
        low, high = refs.range_of_prefix(prefix)
        assert 0 <= low <= high <= len(refs)
    refs.get(b"refs/heads/main")
    names = [entry.name for entry in entries]
    if names == sorted(set(names)):
        merged = list(merge_entries(refs, changes, lambda oid: oid if oid[0] & 1 else None))
        again = PackedRefs(b"".join(encode_packed_refs(merged)), algo)
        assert list(again.iter_entries()) == merged and NOT_A_TAG == b""
    table = RefTable(refs, {b"refs/heads/x": parse_loose_ref(text[:100], algo)}, parse_loose_ref(text, algo), algo)
    list(table.iter_refs(b"refs/", lambda oid: None))
    list(table.iter_runs())
    list(table.iter_names())
    table.resolve(b"HEAD")


def make_loose(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    oid = hex_oid(draw, algo) + draw.pick(b"\n", b"", b" x", b"x", b"\r\n")
    symref = draw.pick(b"ref: ", b"ref:", b"ref:\t\n ", b"ref") + refname(draw) + draw.pick(b"\n", b"", b" ")
    return draw.raw(draw.choice((oid, symref))), algo


def run_loose(data: tuple[bytes, HashAlgorithm]) -> None:
    """One of the three, and a name that can't lead out of the repository."""
    content, algo = data
    ref = parse_loose_ref(content, algo)
    assert sum((ref.oid is not None, ref.target is not None, bool(ref.problem))) == 1
    if ref.target is not None:
        assert not {b"", b".", b".."} & set(ref.target.split(b"/"))


def make_ref_files(draw: Draw) -> tuple[bytes, bytes, bytes, HashAlgorithm]:
    content, algo = make_loose(draw)
    gitfile = (
        draw.pick(b"gitdir: ", b"gitdir:", b"")
        + draw.word(b"..", b"/", b"nowhere", b".")
        + draw.pick(b"\n", b"\r\n", b"")
    )
    common = draw.word(b".", b"..", b"../x\n", b"/", b"")
    return content, gitfile, common, algo


def run_ref_files(data: tuple[bytes, bytes, bytes, HashAlgorithm]) -> None:
    content, gitfile, common, algo = data
    folder = folder_for("gitdir")
    for name in ("objects", "refs"):
        Path(folder, name).mkdir(exist_ok=True)
    kind = len(content) % 9
    with suppress(FileNotFoundError):
        os.unlink(f"{folder}/HEAD")
    with suppress(IsADirectoryError, FileNotFoundError, NotADirectoryError):
        os.rmdir(f"{folder}/HEAD")
    if kind == 0:
        os.symlink(draw_text(content), f"{folder}/HEAD")
    elif kind == 1:
        os.mkfifo(f"{folder}/HEAD")
    else:
        write(f"{folder}/HEAD", content)
    if len(common) == 3:
        gitfile = b"gitdir: " + bytes(1 << 20)
    write(f"{folder}/commondir", common)
    write(f"{folder}/gitfile", gitfile)
    read_loose_ref(f"{folder}/HEAD", algo)
    for ask in (
        lambda: find_commondir(folder),
        lambda: is_git_directory(folder),
        lambda: read_gitfile(f"{folder}/gitfile"),
    ):
        try:
            ask()
        except RepositoryRefused:
            continue


def draw_text(content: bytes) -> str:
    """The target of a symbolic link."""
    return os.fsdecode(content.removeprefix(b"ref: ").strip().replace(b"\0", b"") or b"refs/heads/x")[:200]


def make_table(draw: Draw) -> tuple[bytes, dict[bytes, LooseRef], LooseRef | None]:
    """Packed refs, loose ones on top (chains of symrefs, deletions, broken ones) and HEAD."""
    names = (b"refs/heads/a", b"refs/heads/b", b"refs/heads/c", b"refs/tags/v1", b"refs/tags/v2", b"HEAD")
    packed = sorted(draw.sample(names[:5], draw.randrange(6)))
    lines = [b"# pack-refs with: peeled fully-peeled sorted "] if draw.chance(0.5) else []
    for name in packed:
        lines.append(b"%02x" % draw.randrange(4) * 20 + b" " + name)
        lines += [b"^" + b"77" * 20] if draw.chance(0.3) else []
    loose: dict[bytes, LooseRef] = {}
    for name in draw.sample(names[:5], draw.randrange(6)):
        loose[name] = draw.choice(
            (
                LooseRef(b"\5" * 20, None),
                LooseRef(None, draw.choice(names)),
                DELETED,
                LooseRef(None, None, "broken"),
            )
        )
    head = draw.choice(
        (None, LooseRef(b"\6" * 20, None), LooseRef(None, draw.choice(names)), LooseRef(None, None, "bad"))
    )
    return b"\n".join(lines) + b"\n" if lines else b"", loose, head


def run_table(data: tuple[bytes, dict[bytes, LooseRef], LooseRef | None]) -> None:
    """All ways of asking agree: listing, runs, single look-ups."""
    text, loose, head = data
    packed = PackedRefs(text, SHA1)

    def peel(oid: bytes) -> bytes | None:
        if oid[0] == 3:
            raise ObjectMissing(oid)
        return b"\7" * 20 if oid[0] == 1 else None

    table = RefTable(packed, loose, head, SHA1)
    listed = list(table.iter_refs(b"", peel))
    assert [ref.name for ref in listed] == sorted({ref.name for ref in listed})
    for ref in listed:
        assert table.get(ref.name, peel) == ref and table.resolve(ref.name) == ref.oid
    again = RefTable(packed, loose, head, SHA1, peeled=table.peeled_so_far)
    unrolled = []
    for item in again.iter_runs(b"refs/", peel):
        unrolled += list(again.iter_packed(item.low, item.high, peel)) if isinstance(item, Run) else [item]
    assert [ref.name for ref in unrolled] == [ref.name for ref in listed]
    named = list(again.iter_names(b"refs/tags/"))
    assert set(named) >= {ref.name for ref in listed if ref.name.startswith(b"refs/tags/")}
    assert again.has_prefix(b"refs/tags/") == bool(named) and again.count_max >= len(listed)
    list(again.iter_refs(b"refs/heads/"))
    for name in (b"HEAD", b"refs/heads/a", b"refs/none"):
        again.follow(name)
        again.get(name)
        again.raw(name)


def make_lists(draw: Draw) -> bytes:
    name = (b"0x000000000001-0x000000000002-abcdef01.ref", b"../x", b".x", b"a/b", b"a\0b", b"")
    lines = [draw.word(*name[:1]) if draw.chance(0.7) else draw.word(*name) for _ in range(draw.randrange(5))]
    return b"".join(line + draw.pick(b"\n", b"", b"\r\n") for line in lines)


def run_lists(content: bytes) -> None:
    for name in parse_tables_list(content):
        assert "/" not in name and "\0" not in name and name not in ("", ".", "..")


def make_namespace(draw: Draw) -> tuple[bytes, list[bytes], list[bytes]]:
    namespace = b"/".join(draw.word(b"a", b"b", b"") for _ in range(draw.randrange(4)))
    patterns = [
        draw.pick(b"", b"!", b"^", b"!^") + refname(draw) + draw.pick(b"", b"/") for _ in range(draw.randrange(4))
    ]
    return namespace, patterns, [refname(draw) for _ in range(3)]


def run_namespace(data: tuple[bytes, list[bytes], list[bytes]]) -> None:
    namespace, patterns, names = data
    prefix = expand_namespace(namespace)
    hidden = HiddenRefs(patterns)
    assert bool(hidden) == bool(patterns)
    for name in names:
        assert name == strip_namespace(prefix + name, prefix)
        hidden.is_hidden(name, prefix + name)
        hidden.is_hidden(None, name)


_REFLOG_LINE = re.compile(rb"[0-9a-f]{40} [0-9a-f]{40} [^<>\n\0]*<[^<>\n\0]*> [0-9]+ \+0000(?:\t[^\n]*)?\n")


def make_reflog(draw: Draw) -> tuple[bytes, bytes, int, bytes]:
    name = draw.word(b"A", b"a\nb", b"<x>", b"", b"\0")
    return (
        encode_ident(name, draw.word(b"a@b", b"> 1 +0000\tforged\n")),
        draw.word(b"push", b"a\nb"),
        draw.number(5, 40),
        name,
    )


def run_reflog(data: tuple[bytes, bytes, int, bytes]) -> None:
    """Whatever a peer calls himself, a line stays one line with the fields in their places."""
    ident, message, seconds, _ = data
    line = encode_reflog_line(bytes(20), b"\1" * 20, ident, seconds, message)
    assert _REFLOG_LINE.fullmatch(line), line


TARGETS = (
    Target(
        name="packed-refs",
        covers=("govc.refs.packed", "govc.refs.table"),
        make=make_packed,
        run=run_packed,
        allowed=(CorruptRefs,),
        weight=3,
    ),
    Target(name="loose-ref", covers=("govc.refs.loose:parse_loose_ref",), make=make_loose, run=run_loose, weight=12),
    Target(name="ref-table", covers=("govc.refs.table",), make=make_table, run=run_table, weight=1),
    Target(
        name="git-folder",
        covers=("govc.repo.discover:is_git_directory,read_gitfile,_is_valid_head", "govc.refs.loose:read_loose_ref"),
        make=make_ref_files,
        run=run_ref_files,
        weight=0.15,
        tidy=remove_scratch,
    ),
    Target(
        name="tables-list",
        covers=("govc.refs.reftable.stack:parse_tables_list",),
        make=make_lists,
        run=run_lists,
        allowed=(CorruptRefs,),
        weight=8,
    ),
    Target(
        name="namespace",
        covers=("govc.refs.namespace", "govc.refs.visibility"),
        make=make_namespace,
        run=run_namespace,
        allowed=(BadNamespace,),
        weight=8,
    ),
    Target(
        name="reflog",
        covers=("govc.refs.reflog:clean_ident,encode_ident,encode_reflog_line",),
        make=make_reflog,
        run=run_reflog,
        weight=8,
    ),
)
