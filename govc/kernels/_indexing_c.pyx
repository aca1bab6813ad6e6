# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The two passes over a received pack, compiled; the story is in `indexing`."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from govc.kernels._delta cimport DELTA_COPY_OUTSIDE, DELTA_HEADER_CUT, DELTA_INSERT_OUTSIDE, DELTA_OPCODE_ZERO
from govc.kernels._delta cimport DELTA_SIZE_OVERFLOW
from govc.kernels._evp cimport Evp, find_evp
from govc.kernels._inflate cimport Deflate, find_deflate
from govc.kernels._pack cimport (
    FAULT_ATTACK,
    FAULT_BASE_SIZE,
    FAULT_DELTA,
    FAULT_ENTRY,
    FAULT_EXPANSION,
    FAULT_MEMORY,
    FAULT_OBJECT_SIZE,
    FAULT_RESULT_SIZE,
    FAULT_TOO_SHORT,
    FINE,
    NONE,
    Content,
    Shared,
    content_drop,
    content_new,
    has_failed,
    kept_free,
    kept_init,
    tools_free,
    tools_init,
)
from govc.kernels._resolve cimport (
    ASKED_FOR,
    ON_THE_WAY,
    keep_made,
    push_claimed,
    Waiting,
    Walk,
    make_whole,
    walk_free,
    walk_init,
    walk_some,
)
from govc.kernels._scan cimport Scanner, scan_some, scanner_free, scanner_init
from govc.kernels._sha1 cimport sha1_many_by, sha1_one_by, sha1_prepare, sha1_use

import _hashlib

from govc.errors import CorruptPack, LimitExceeded

cdef Deflate deflate
cdef Evp evp
cdef bint has_evp = False
cdef bint hashes_headers = True

sha1_prepare()
find_deflate(&deflate)
if getattr(_hashlib, "__file__", None):
    has_evp = find_evp(&evp, _hashlib.__file__.encode())
else:
    has_evp = find_evp(&evp, NULL)

HASHES = ("sha1", "sha256") if has_evp else ("sha1",)
"""The object formats that are done here."""

UINT64_MAX = (1 << 64) - 1


def describe():
    """Return what this machine inflates and hashes with."""
    inflater = "libdeflate" if deflate.allocate != NULL else "zlib"
    return f"{inflater}; SHA-1 by {sha1_one_by.decode()}, many by {sha1_many_by.decode()}"


def use_instructions(*, sha=True, vector_bits=512):
    """Forbid instruction sets, for tests."""
    sha1_use(sha, vector_bits)


def use_deflate(allowed):
    """Forbid libdeflate, for tests."""
    find_deflate(&deflate)
    if not allowed:
        deflate.allocate = NULL


cdef str delta_text(uint64_t fault):
    if fault == DELTA_HEADER_CUT:
        return "truncated delta header"
    if fault == DELTA_SIZE_OVERFLOW:
        return "delta size overflow"
    if fault == DELTA_COPY_OUTSIDE:
        return "delta copies from outside its base or beyond its result"
    if fault == DELTA_INSERT_OUTSIDE:
        return "delta inserts beyond its end or its result"
    if fault == DELTA_OPCODE_ZERO:
        return "unexpected delta opcode 0"
    return "truncated delta"


def use_headers(allowed):
    """Hash contents without their objects' headers, for tests of attacks: the published ones are on files."""
    global hashes_headers
    hashes_headers = allowed


class EntryAtFault(Exception):
    """Something is wrong with this entry of the pack; the twin knows what."""

    def __init__(self, entry):
        super().__init__(entry)
        self.entry = entry


cdef class Indexing:
    """Both passes over one pack. See `indexing.Indexing` for what the methods promise."""

    cdef Shared shared
    cdef Scanner scanner
    cdef Waiting waiting
    cdef Walk *walks
    cdef int walk_count
    cdef int32_t next_root
    cdef object table
    cdef object ref_children
    cdef bytes roots
    cdef bytearray wanted
    cdef int32_t next_wanted
    cdef uint8_t is_scanning

    def __cinit__(self):
        memset(&self.shared, 0, sizeof(Shared))
        memset(&self.scanner, 0, sizeof(Scanner))
        self.walks = NULL
        self.walk_count = 0

    def __init__(self, int fd, table, limits, *, uint64_t pack_size, detects, int threads):
        cdef Shared *shared = &self.shared
        self.table = table
        shared.fd = fd
        shared.oid_size = table.algo.oid_size
        shared.is_sha1 = table.algo.name == "sha1"
        shared.detects = bool(detects) and shared.is_sha1
        shared.count = table.count
        shared.object_bytes_max = min(limits.object_bytes_max, UINT64_MAX)
        shared.delta_result_bytes_max = min(limits.delta_result_bytes_max, UINT64_MAX)
        shared.expansion_limit = min(limits.expansion_bytes_base + limits.expansion_ratio_max * pack_size, UINT64_MAX)
        shared.stream_bytes_min = min(limits.stream_bytes_min, UINT64_MAX)
        shared.hashes_headers = hashes_headers
        if not kept_init(&shared.kept, shared.count, min(limits.delta_cache_bytes, UINT64_MAX)):
            raise MemoryError
        shared.deflate = deflate
        shared.evp = evp
        self.walk_count = threads
        if not tools_init(&self.scanner.tools, shared):
            raise MemoryError
        if not scanner_init(&self.scanner, shared, pack_size - shared.oid_size):
            raise MemoryError
        self.is_scanning = True

    def __dealloc__(self):
        self._free_walks()
        if self.scanner.tools.shared != NULL:
            scanner_free(&self.scanner)
            tools_free(&self.scanner.tools)
        kept_free(&self.shared.kept)

    cdef void _free_walks(self):
        cdef int at
        if self.walks != NULL:
            for at in range(self.walk_count):
                walk_free(&self.walks[at])
            free(self.walks)
            self.walks = NULL

    # The columns: their addresses are looked up for each call, since they grow when bases are appended.

    cdef list _attach(self):
        cdef uint64_t[::1] offsets = self.table.offsets
        cdef uint32_t[::1] crcs
        cdef uint8_t[::1] oids, types
        cdef int32_t[::1] bases, first_child, next_sibling
        self.shared.count = self.table.count
        self.shared.offsets = &offsets[0]
        held = [offsets]
        if self.table.count:
            crcs = self.table.crcs
            oids = self.table.oids
            types = self.table.types
            bases = self.table.bases
            first_child = self.table.first_child
            next_sibling = self.table.next_sibling
            self.shared.crcs = &crcs[0]
            self.shared.oids = &oids[0]
            self.shared.types = &types[0]
            self.shared.bases = &bases[0]
            self.shared.first_child = &first_child[0]
            self.shared.next_sibling = &next_sibling[0]
            held += [crcs, oids, types, bases, first_child, next_sibling]
        return held

    cdef _raise(self):
        """Raise for what was noted."""
        cdef Shared *shared = &self.shared
        cdef int64_t entry = shared.failure.entry
        fault = shared.failure.fault
        if fault == FINE:
            return  # another thread gave up
        detail, second = shared.failure.detail, shared.failure.second
        if fault == FAULT_ENTRY:
            raise EntryAtFault(entry)
        if fault == FAULT_EXPANSION:
            raise LimitExceeded("pack expansion bytes", shared.expansion_limit, detail)
        if fault == FAULT_OBJECT_SIZE:
            raise LimitExceeded("object bytes in memory", shared.delta_result_bytes_max, detail)
        if fault == FAULT_RESULT_SIZE:
            raise LimitExceeded("delta result bytes", shared.delta_result_bytes_max, detail)
        if fault == FAULT_ATTACK:
            size = shared.oid_size
            name = bytes(self.table.oids[entry * size : entry * size + size]).hex()
            raise CorruptPack(f"SHA-1 appears to be part of a collision attack: {name}")
        if fault == FAULT_MEMORY:
            raise MemoryError
        reason = delta_text(detail)
        if fault == FAULT_BASE_SIZE:
            reason = f"delta is for a base of {detail} bytes, not {second}"
        if fault == FAULT_TOO_SHORT:
            reason = f"delta makes {detail} bytes instead of {second}"
        raise CorruptPack(f"failed to apply delta: {reason}", self.table.offsets[entry])

    # The first pass

    def scan(self, uint64_t budget):
        """Take entries for about `budget` bytes of work; return how many are done in all. Raises EntryAtFault."""
        held = self._attach()
        with nogil:
            scan_some(&self.scanner, budget)
        if has_failed(&self.shared):
            self._raise()
        return self.scanner.entry

    def waiting_refs(self):
        """Return the ref-deltas and the names of their bases, once everything is scanned."""
        cdef int32_t count = self.scanner.ref_count
        entries = PyBytes_FromStringAndSize(<char *>self.scanner.ref_entries, count * sizeof(int32_t))
        oids = PyBytes_FromStringAndSize(<char *>self.scanner.ref_base_oids, count * self.shared.oid_size)
        return entries, oids

    # The second pass

    def prepare(self, ref_children, uint64_t cache_bytes):
        """Begin the second pass: `ref_children` is a RefChildren or None, `cache_bytes` for all threads together."""
        cdef const uint32_t[::1] entries, fanout
        cdef const uint8_t[::1] oids
        cdef int at
        scanner_free(&self.scanner)
        tools_free(&self.scanner.tools)
        self.roots = bytes(self.table.types)
        self.ref_children = ref_children
        if ref_children is not None:
            entries, oids, fanout = ref_children.columns
            self.waiting.count = <int32_t>entries.shape[0]
            self.waiting.entries = &entries[0]
            self.waiting.oids = &oids[0]
            self.waiting.fanout = &fanout[0]
        self._begin_walks(cache_bytes)

    cdef _begin_walks(self, uint64_t cache_bytes):
        cdef const uint8_t[::1] roots = self.roots
        cdef int at
        self._free_walks()
        self.next_root = 0
        self.walks = <Walk *>calloc(self.walk_count, sizeof(Walk))
        if self.walks == NULL:
            raise MemoryError
        for at in range(self.walk_count):
            if not walk_init(&self.walks[at], &self.shared):
                raise MemoryError
            self.walks[at].waiting = &self.waiting if self.ref_children is not None else NULL
            self.walks[at].is_root = &roots[0] if len(self.roots) else NULL
            self.walks[at].root_count = <int32_t>len(self.roots)
            self.walks[at].next_root = &self.next_root
            self.walks[at].kept_bytes_max = cache_bytes // self.walk_count

    @property
    def resolved_count(self):
        """How many deltas have become objects."""
        return self.shared.resolved

    def resolve(self, int thread, uint64_t budget):
        """Work for about `budget` bytes in walk `thread`; return whether there is more for it to do."""
        cdef bint more
        held = self._attach()
        with nogil:
            more = walk_some(&self.walks[thread], budget)
        if has_failed(&self.shared):
            self._raise()
            return False
        return more

    def stop(self):
        """Let all threads end soon; nothing else can be done afterwards."""
        self.shared.failure.is_set = 1

    def push_root(self, int32_t entry, const uint8_t[::1] content not None):
        """Make the next walk begin at this whole object, which was appended."""
        cdef Content *copy
        cdef uint64_t size = <uint64_t>content.shape[0]
        cdef bint is_fine
        held = self._attach()
        copy = content_new(size, entry, self.shared.types[entry])
        if copy == NULL:
            raise MemoryError
        if size:
            memcpy(copy.data, &content[0], size)
        is_fine = push_claimed(&self.walks[0], entry, copy)
        content_drop(copy)
        if not is_fine:
            raise MemoryError

    # Contents again

    def want(self, flags, uint64_t cache_bytes):
        """Ask for the contents of the entries whose byte in `flags` isn't zero; `contents` yields them."""
        cdef uint8_t[::1] wanted, roots
        cdef int32_t[::1] bases
        cdef int32_t entry, base
        all_roots = bytearray(self.table.count)
        self.wanted = bytearray(flags)
        self.next_wanted = 0
        if self.table.count:
            wanted = self.wanted
            roots = all_roots
            bases = self.table.bases
            for entry in range(self.table.count):
                wanted[entry] = ASKED_FOR if wanted[entry] else 0
                roots[entry] = bases[entry] == NONE  # the bases that were appended, too
        self._free_walks()
        self.roots = bytes(all_roots)
        self.walk_count = 1
        self._begin_walks(cache_bytes)
        if not self.table.count:
            return
        for entry in range(self.table.count):
            if wanted[entry] == ASKED_FOR:
                base = bases[entry]
                while base != NONE and not wanted[base]:
                    wanted[base] = ON_THE_WAY
                    base = bases[base]
        self.walks[0].wanted = &wanted[0]

    def contents(self, uint64_t budget):
        """Return the next of the wanted contents, as pairs of entry and bytes; None when there are no more."""
        cdef Walk *walk = &self.walks[0]
        cdef uint64_t size = 0
        cdef Content *content
        cdef bint more = True
        cdef uint8_t[::1] wanted = self.wanted
        cdef int32_t at
        held = self._attach()
        if self.next_wanted < self.shared.count:
            with nogil:
                while self.next_wanted < self.shared.count and walk.made_bytes < budget and walk.work < budget:
                    at = self.next_wanted
                    self.next_wanted += 1
                    if wanted[at] == ASKED_FOR and self.shared.bases[at] == NONE:
                        content = make_whole(walk, at)
                        if content == NULL:
                            break
                        more = keep_made(walk, content)
                        content_drop(content)
                        if not more:
                            break
            walk.work = 0
        else:
            with nogil:
                more = walk_some(walk, budget)
        if has_failed(&self.shared):
            self._raise()
        made = []
        for at in range(walk.made_count):
            content = walk.made[at]
            made.append((content.entry, PyBytes_FromStringAndSize(<char *>content.data, content.size)))
            content_drop(content)
        walk.made_count = 0
        walk.made_bytes = 0
        return made if more or made else None
