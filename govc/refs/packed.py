r"""packed-refs: many refs in one sorted file, kept here as the bytes they came in.

    # pack-refs with: peeled fully-peeled sorted \n
    <oid hex> SP <refname> LF
    ^<oid hex> LF                      the peeled value of the tag in the line above

`PackedRefs` holds the file's bytes and an array with the start of each ref's line; there is no object per
ref, and lookups bisect over the lines. The fast path checks a file of ordinary names with a few passes in
C; one that is out of the ordinary is read line by line, which also finds the text that git would die with.

What this isn't: the lock or the rename of the file (`transaction`, `pack_refs`).

Source: git-pack-refs, gitrepository-layout "packed-refs"; the traits are told in git's
refs/packed-backend.c.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, NoReturn

from govc.errors import CorruptRefs, ObjectMissing
from govc.protocol.oid import HashAlgorithm
from govc.protocol.refname import check_refname_format

NOT_A_TAG: Final = b""
"""What `peeled_at` returns when the file says that the ref has nothing to peel."""

PACKED_REFS_BYTES_MAX = 1 << 31
"""No packed-refs file larger than this is read (thirty million refs)."""

_HEADER_START = b"# pack-refs with:"
_FULL_HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"
_SORTED_HEADER = b"# pack-refs with: sorted \n"
_LF = 10
_CHUNK_LINES = 1000
_PLACES_MAX = 4096
_PLACE_BYTES_MAX = 255
"""So many names, up to so long, are remembered with their places: a megabyte at most."""

# Bytes that no refname has, but for the space and the LF that the lines themselves have.
_FORBIDDEN_BYTES = bytes(c for c in range(128) if (c < 32 and c != _LF) or c == 127) + b"~:?*[\\"
_FORBIDDEN_PARTS = (b"..", b"//", b"/.", b"@{", b".lock/", b".lock\n", b".\n", b"/\n")


class PackedEntry(NamedTuple):
    """One ref of packed-refs. `peeled`: the peeled oid, NOT_A_TAG, or None when the file doesn't say."""

    name: bytes
    oid: bytes
    peeled: bytes | None


class PackedRefs:
    """The refs of one packed-refs file, by position in byte order of their names. Immutable, but for the memory of
    where names were looked for.
    """

    __slots__ = ("_algo", "_data", "_hex_size", "_places", "_starts", "fully_peeled", "peeled", "warnings")

    def __init__(self, data: bytes, algo: HashAlgorithm) -> None:
        """Take the whole content of packed-refs (b"" for none). Raises CorruptRefs with git's text."""
        self._algo = algo
        self._hex_size = algo.hex_size
        self._data = data
        self._places: dict[bytes, tuple[int, int]] = {}
        self.warnings: tuple[str, ...] = ()
        traits, body_start = _parse_header(data)
        self.fully_peeled = b"fully-peeled" in traits
        self.peeled = self.fully_peeled or b"peeled" in traits
        starts = _scan_ordinary(data, body_start, algo)
        if starts is None:
            starts, self.warnings = _scan_carefully(data, body_start, algo)
        self._starts = starts if b"sorted" in traits else self._sort(starts)

    def _sort(self, starts: "array[int]") -> "array[int]":
        """Order the lines by name; of lines with one name the last stays."""
        data, skip = self._data, self._hex_size + 1
        by_name = {data[s + skip : data.index(b"\n", s)]: s for s in starts}
        return array(starts.typecode, (by_name[name] for name in sorted(by_name)))

    @property
    def count(self) -> int:
        """How many refs there are."""
        return len(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def name_at(self, position: int) -> bytes:
        """Return the refname at a position."""
        start = self._starts[position] + self._hex_size + 1
        return self._data[start : self._data.index(b"\n", start)]

    def oid_at(self, position: int) -> bytes:
        """Return the raw oid at a position."""
        start = self._starts[position]
        return bytes.fromhex(self._data[start : start + self._hex_size].decode("ascii"))

    def peeled_at(self, position: int) -> bytes | None:
        """Return the peeled oid, NOT_A_TAG when the file says that it is none, None when it doesn't say."""
        start = self._starts[position]
        line_end = self._data.index(b"\n", start)
        return self._peeled_after(line_end, self._data[start + self._hex_size + 1 : line_end])

    def _peeled_after(self, line_end: int, name: bytes) -> bytes | None:
        data = self._data
        if data[line_end + 1 : line_end + 2] == b"^":
            return bytes.fromhex(data[line_end + 2 : line_end + 2 + self._hex_size].decode("ascii"))
        if self.fully_peeled or (self.peeled and name.startswith(b"refs/tags/")):
            return NOT_A_TAG
        return None

    def place_of(self, name: bytes) -> tuple[int, int]:
        """Return the positions [low, high) of a refname: one, or none, and low is where it would stand.

        The same few names are asked for again and again (loose refs, prefixes), by each listing and each push.
        """
        known = self._places.get(name)
        if known is None:
            data, skip = self._data, self._hex_size + 1
            index = data.index
            low = bisect_left(self._starts, name, key=lambda start: data[start + skip : index(b"\n", start)])
            known = low, low + (low < len(self._starts) and self.name_at(low) == name)
            if len(name) <= _PLACE_BYTES_MAX:
                if len(self._places) >= _PLACES_MAX:
                    self._places.clear()
                self._places[name] = known
        return known

    def find(self, name: bytes) -> int:
        """Return the position of a refname, or -1."""
        low, high = self.place_of(name)
        return low if high > low else -1

    def get(self, name: bytes) -> bytes | None:
        """Return the oid of a refname, or None."""
        position = self.find(name)
        return self.oid_at(position) if position >= 0 else None

    def range_of_prefix(self, prefix: bytes) -> tuple[int, int]:
        """Return the positions [low, high) of the names that start with `prefix` (all for b"")."""
        if not prefix:
            return 0, len(self._starts)
        after = prefix.rstrip(b"\xff")
        low = self.place_of(prefix)[0]
        if not after:
            return low, len(self._starts)
        high = self.place_of(after[:-1] + bytes((after[-1] + 1,)))[0]
        return low, max(low, high)

    def iter_entries(self, low: int = 0, high: int | None = None) -> Iterator[PackedEntry]:
        """Yield the entries at positions [low, high) in order. Faster than asking for each."""
        data, hex_size = self._data, self._hex_size
        skip = hex_size + 1
        index, fromhex = data.index, bytes.fromhex
        fully_peeled, caret = self.fully_peeled, ord("^")
        last = len(data) - 1
        for position in range(low, len(self._starts) if high is None else high):
            start = self._starts[position]
            line_end = index(b"\n", start)
            name = data[start + skip : line_end]
            oid = fromhex(data[start : start + hex_size].decode("ascii"))
            peeled: bytes | None
            if fully_peeled and (line_end == last or data[line_end + 1] != caret):
                peeled = NOT_A_TAG
            else:
                peeled = self._peeled_after(line_end, name)
            yield PackedEntry(name, oid, peeled)

    def iter_names(self, low: int = 0, high: int | None = None) -> Iterator[bytes]:
        """Yield the names at positions [low, high) in order."""
        data, skip = self._data, self._hex_size + 1
        for position in range(low, len(self._starts) if high is None else high):
            start = self._starts[position] + skip
            yield data[start : data.index(b"\n", start)]


def _parse_header(data: bytes) -> tuple[frozenset[bytes], int]:
    """Return (traits, where the first ref's line starts)."""
    if not data.startswith(b"#"):
        return frozenset(), 0
    end = data.find(b"\n")
    if end < 0 or not data.startswith(_HEADER_START):
        _raise_bad_line(data, 0)
    return frozenset(data[len(_HEADER_START) : end].split()), end + 1


def _typecode_for(size: int) -> str:
    return "I" if size < 1 << 32 else "Q"


def are_ordinary(names: bytes) -> bool:
    """Say whether names below refs/, each ended by LF, are all well-formed. False may also mean: look closer."""
    unusual = _FORBIDDEN_BYTES + b" ^"
    return names.translate(None, unusual) == names and not any(part in names for part in _FORBIDDEN_PARTS)


def _scan_ordinary(data: bytes, body_start: int, algo: HashAlgorithm) -> "array[int] | None":
    """Return the starts of the refs' lines, or None when anything at all is out of the ordinary."""
    body = data[body_start:]
    if body.translate(None, _FORBIDDEN_BYTES) != body or any(part in body for part in _FORBIDDEN_PARTS):
        return None
    starts = array(_typecode_for(len(data)))
    append = starts.append
    expected = body_start
    carets = 0
    for match in _line_pattern(algo).finditer(data, body_start):
        start, end = match.span()
        if start != expected:
            return None
        append(start)
        carets += match.start(1) >= 0
        expected = end
    # One space in each ref's line and one caret in each peeled line: so none are within names.
    is_whole = expected == len(data) and body.count(b" ") == len(starts) and body.count(b"^") == carets
    return starts if is_whole else None


def _line_pattern(algo: HashAlgorithm) -> re.Pattern[bytes]:
    """Return the pattern of one ref with its peeled line (re keeps compiled patterns)."""
    return re.compile(b"[0-9a-fA-F]{%d} refs/[^\n]+\n(\\^[0-9a-fA-F]{%d}\n)?" % (algo.hex_size, algo.hex_size))


def _scan_carefully(data: bytes, body_start: int, algo: HashAlgorithm) -> "tuple[array[int], tuple[str, ...]]":
    """Line by line: leave out badly named refs with a warning, raise for what git dies on."""
    starts = array(_typecode_for(len(data)))
    warnings: list[str] = []
    position = body_start
    may_peel = False
    while position < len(data):
        end = data.find(b"\n", position)
        if end < 0:
            _raise_bad_line(data, position)
        line = data[position:end]
        if line.startswith(b"^"):
            if not may_peel or algo.parse_hex(line[1:]) is None:
                _raise_bad_line(data, position)
            may_peel = False
        else:
            name = line[algo.hex_size + 1 :]
            is_ref = algo.parse_hex(line[: algo.hex_size]) is not None
            if not is_ref or line[algo.hex_size : algo.hex_size + 1] != b" ":
                _raise_bad_line(data, position)
            if _is_dangerous(name):
                raise CorruptRefs(f"packed refname is dangerous: {_shown(name)}")
            if name.startswith(b"refs/") and check_refname_format(name):
                starts.append(position)
            else:
                warnings.append(f"ignoring ref with broken name {_shown(name)}")
            may_peel = True
        position = end + 1
    return starts, tuple(warnings)


def _is_dangerous(name: bytes) -> bool:
    """Say whether a name could leave refs/, or is outside and no root ref (git's refname_is_safe)."""
    if check_refname_format(name):
        return False
    if not name.startswith(b"refs/"):
        return not name or re.fullmatch(rb"[A-Z_]+", name) is None
    parts = name[len(b"refs/") :].split(b"/")
    return parts[-1] in (b"", b".", b"..") or b".." in parts or b"\0" in name


def _shown(raw: bytes) -> str:
    return raw[:255].decode("utf-8", "backslashreplace")


def _raise_bad_line(data: bytes, position: int) -> NoReturn:
    """Raise what git dies with: the line, cut after 75 bytes when it is long."""
    end = data.find(b"\n", position)
    if end < 0:
        raise CorruptRefs(f"unterminated line in packed-refs: {_shown(data[position : position + 255])}")
    if end - position < 80:
        raise CorruptRefs(f"unexpected line in packed-refs: {_shown(data[position:end])}")
    raise CorruptRefs(f"unexpected line in packed-refs: {_shown(data[position : position + 75])}...")


def encode_packed_refs(entries: Iterable[PackedEntry], *, fully_peeled: bool = True) -> Iterator[bytes]:
    """Yield the chunks of a packed-refs file. `entries` in byte order of names, each name once.

    With `fully_peeled` every entry's `peeled` must be known: an oid, or NOT_A_TAG. Without it the header
    doesn't promise, and None is allowed.
    """
    yield _FULL_HEADER if fully_peeled else _SORTED_HEADER
    pieces: list[bytes] = []
    for name, oid, peeled in entries:
        if peeled is None and fully_peeled:
            raise ValueError(f"peeled value of {name!r} is unknown")
        pieces.append(b"%b %b\n" % (oid.hex().encode("ascii"), name))
        if peeled:
            pieces.append(b"^%b\n" % peeled.hex().encode("ascii"))
        if len(pieces) >= _CHUNK_LINES:
            yield b"".join(pieces)
            pieces.clear()
    if pieces:
        yield b"".join(pieces)


def merge_entries(
    packed: PackedRefs,
    changes: dict[bytes, bytes | None],
    peel: Callable[[bytes], bytes | None] | None,
) -> Iterator[PackedEntry]:
    """Yield the entries of `packed` with `changes` (name -> new oid, None to remove) worked in, in order.

    With `peel` (oid -> peeled oid, None for anything but a tag) every yielded peeled value is known;
    without it, those that the file doesn't tell, and those of changed refs, stay None.
    """
    pending = sorted(changes.items())
    next_change = 0
    for entry in packed.iter_entries():
        while next_change < len(pending) and pending[next_change][0] <= entry.name:
            name, oid = pending[next_change]
            next_change += 1
            if oid is not None:
                yield PackedEntry(name, oid, _peel_with(peel, oid))
        if entry.name in changes:
            continue
        if entry.peeled is None and peel is not None:
            entry = entry._replace(peeled=_peel_with(peel, entry.oid))
        yield entry
    for name, oid in pending[next_change:]:
        if oid is not None:
            yield PackedEntry(name, oid, _peel_with(peel, oid))


def _peel_with(peel: Callable[[bytes], bytes | None] | None, oid: bytes) -> bytes | None:
    """Return the peeled oid, NOT_A_TAG, or None when nobody can tell."""
    if peel is None:
        return None
    try:
        return peel(oid) or NOT_A_TAG
    except ObjectMissing:
        return NOT_A_TAG
