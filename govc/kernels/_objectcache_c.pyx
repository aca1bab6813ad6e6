# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A cache of values by name with a budget in bytes, compiled; the story is in `objectcache`."""

from cython cimport final
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

import os
from itertools import islice

DEF NONE = 0xFFFFFFFF
DEF FREQUENCY_MAX = 3
DEF SMALL_TENTHS = 1
DEF KEYS_AT_ONCE = 1024

DEF EMPTY = 0xFFFFFFFFFFFFFFFF

ENTRY_BYTES = 240


cdef struct Slot:
    PyObject *key
    PyObject *value
    uint64_t cost
    uint32_t newer  # in the queue it is in
    uint32_t older
    uint8_t frequency
    uint8_t is_main


cdef struct Near:
    # A value by the object that is its key: for who asks with the very object that it was put with. The lowest two bits of
    # the value's address count how often that was, beyond the slot's frequency.
    PyObject *key
    uint64_t value


cdef struct Queue:
    uint32_t newest
    uint32_t oldest
    uint64_t used


cdef class ObjectCache:
    """See objectcache.ObjectCache."""

    cdef readonly uint64_t budget_bytes
    cdef readonly uint64_t entry_bytes_max
    cdef readonly uint64_t hits
    cdef readonly uint64_t misses
    cdef Slot *slots
    cdef uint32_t slot_count
    cdef uint32_t slot_room
    cdef uint32_t free_slot
    cdef uint32_t entries
    cdef uint64_t *table  # a place: the upper half of its name's mark, and its slot; or EMPTY
    cdef Near *near  # as many places as the table has, in pairs; a key has one in its pair, or none
    cdef uint64_t mask
    cdef uint64_t factor
    cdef Queue small
    cdef Queue main
    cdef uint64_t ghost_mask
    cdef uint64_t *ghost_table  # marks of names that were dropped from the small queue, each at its home

    def __cinit__(self, *_arguments, **_options):
        self.mask = 255
        self.slot_room = 128
        self.free_slot = NONE
        self.factor = int.from_bytes(os.urandom(8), "little") | 1
        self.small.newest = self.small.oldest = self.main.newest = self.main.oldest = NONE
        self.table = <uint64_t *>malloc(8 * (self.mask + 1))
        self.near = <Near *>calloc(self.mask + 1, sizeof(Near))
        self.slots = <Slot *>malloc(sizeof(Slot) * self.slot_room)
        self.ghost_table = <uint64_t *>calloc(256, 8)
        self.ghost_mask = 255
        if self.table == NULL or self.near == NULL or self.slots == NULL or self.ghost_table == NULL:
            raise MemoryError
        memset(self.table, 0xFF, 8 * (self.mask + 1))

    def __init__(self, uint64_t budget_bytes, uint64_t entry_bytes_max=0):
        cdef uint64_t ghost_count = 256
        cdef uint64_t *ghosts
        self.budget_bytes = budget_bytes
        self.entry_bytes_max = entry_bytes_max if entry_bytes_max else budget_bytes // 8
        while ghost_count * 4096 < budget_bytes and ghost_count < (1 << 20):
            ghost_count *= 2
        ghosts = <uint64_t *>calloc(ghost_count, 8)
        if ghosts == NULL:
            raise MemoryError
        free(self.ghost_table)
        self.ghost_table = ghosts
        self.ghost_mask = ghost_count - 1

    def __dealloc__(self):
        if self.slots != NULL and self.table != NULL and self.near != NULL:
            self.drop_all()
        free(self.table)
        free(self.near)
        free(self.slots)
        free(self.ghost_table)

    @final
    cdef inline uint64_t mark_of(self, const uint8_t *key) noexcept:
        cdef uint64_t word
        memcpy(&word, key, 8)
        word *= self.factor
        return word ^ (word >> 29)

    @final
    cdef inline uint64_t home(self, uint64_t mark) noexcept:
        return (mark >> 16) & self.mask

    @final
    cdef inline Near *near_of(self, const PyObject *key) noexcept:
        """Return the place of an object that is a key; NULL where it has none.

        Without a branch about which of the pair it is: nobody could guess that.
        """
        cdef Near *near = self.pair_of(key)
        near += near.key != key
        return near if near.key == key else NULL

    @final
    cdef inline Near *pair_of(self, const PyObject *key) noexcept:
        return &self.near[(<uint64_t>key * self.factor >> 32) & self.mask & ~<uint64_t>1]

    @final
    cdef inline void bring_near(self, uint32_t slot) noexcept:
        """Give a key that has no place one, where there is one: who has one stays until it is dropped."""
        cdef Slot *entry = &self.slots[slot]
        cdef Near *near = self.pair_of(entry.key)
        if near.key != NULL:
            near += 1
        if near.key == NULL:
            near.key = entry.key
            near.value = <uint64_t>entry.value

    @final
    cdef inline object found_near(self, Near *near):
        self.hits += 1
        if near.value & 3 < FREQUENCY_MAX:
            near.value += 1
        return <object><PyObject *>(near.value & ~<uint64_t>3)

    @final
    cdef inline object found_at(self, uint32_t slot, const PyObject *key):
        """Return the value of a key that is not near."""
        self.hits += 1
        if self.slots[slot].frequency < FREQUENCY_MAX:
            self.slots[slot].frequency += 1
        if self.slots[slot].key == key:
            self.bring_near(slot)
        return <object>self.slots[slot].value

    cdef uint8_t take_frequency(self, uint32_t slot) noexcept:
        """Return how often an entry was asked for, and begin anew."""
        cdef Near *near = self.near_of(self.slots[slot].key)
        cdef uint64_t found = self.slots[slot].frequency
        self.slots[slot].frequency = 0
        if near != NULL:
            found += near.value & 3
            near.value &= ~<uint64_t>3
        return <uint8_t>(found if found < FREQUENCY_MAX else FREQUENCY_MAX)

    @final
    cdef inline uint32_t lookup(self, object key) noexcept:
        """Return the slot of a key, which is bytes of 8 or more."""
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        cdef uint64_t mark = self.mark_of(text), at = self.home(mark), place = self.table[at]
        cdef uint32_t slot
        cdef PyObject *other
        while place != <uint64_t>EMPTY:
            # Another name that stands in the way is mostly told by its mark, without looking at its slot.
            if place >> 32 == mark >> 32:
                slot = <uint32_t>place
                other = self.slots[slot].key
                if other == <PyObject *>key or (PyBytes_GET_SIZE(<object>other) == size
                                               and memcmp(PyBytes_AS_STRING(<object>other), text, size) == 0):
                    return slot
            at = (at + 1) & self.mask
            place = self.table[at]
        return NONE

    def __getitem__(self, key):
        cdef Near *near = self.near_of(<PyObject *>key)
        return self.found_near(near) if near != NULL else self.find(key)

    cdef object find(self, key):
        """Return the value of a key that is not near, or what `missing` makes of it."""
        cdef uint32_t slot
        if PyBytes_CheckExact(key) and PyBytes_GET_SIZE(key) >= 8:
            slot = self.lookup(key)
            if slot != <uint32_t>NONE:
                return self.found_at(slot, <PyObject *>key)
            self.misses += 1
        return self.missing(key)

    def missing(self, key):
        """See objectcache.ObjectCache."""
        raise KeyError(key)

    def peek(self, key):
        """See objectcache.ObjectCache."""
        cdef uint32_t slot
        cdef Near *near = self.near_of(<PyObject *>key)
        if near != NULL:
            return self.found_near(near)
        if not PyBytes_CheckExact(key) or PyBytes_GET_SIZE(key) < 8:
            return None
        slot = self.lookup(key)
        if slot == <uint32_t>NONE:
            self.misses += 1
            return None
        return self.found_at(slot, <PyObject *>key)

    def iter_many(self, keys):
        """See objectcache.ObjectCache."""
        cdef ManyValues values = ManyValues.__new__(ManyValues)
        values.cache = self
        if type(keys) is list:
            values.keys = keys
        else:
            values.keys = []
            values.source = iter(keys)
        return values

    def read_ahead(self, list keys not None):
        """See objectcache.ObjectCache."""
        return {}

    cdef list absent_of(self, list keys, Py_ssize_t start):
        """Return the next keys that aren't here, each once. What is no key is left out."""
        cdef dict absent = {}
        cdef object key
        cdef Py_ssize_t at
        for at in range(start, min(start + KEYS_AT_ONCE, PyList_GET_SIZE(keys))):
            key = <object>PyList_GET_ITEM(keys, at)
            if PyBytes_CheckExact(key) and PyBytes_GET_SIZE(key) >= 8 and self.lookup(key) == <uint32_t>NONE:
                absent[key] = None
        return list(absent)

    def put(self, bytes key not None, value, uint64_t cost):
        """See objectcache.ObjectCache."""
        cdef uint32_t slot
        cdef uint64_t mark
        cdef Slot *entry
        cdef Slot *more
        cost += ENTRY_BYTES
        if PyBytes_GET_SIZE(key) < 8:
            raise ValueError("a key is a name of 8 bytes or more")
        if cost > self.entry_bytes_max or self.lookup(key) != <uint32_t>NONE:
            return
        if 2 * <uint64_t>(self.entries + 1) > self.mask:
            self.grow()
        if self.free_slot != <uint32_t>NONE:
            slot = self.free_slot
            self.free_slot = self.slots[slot].older
        else:
            if self.slot_count == self.slot_room:
                more = <Slot *>realloc(self.slots, sizeof(Slot) * 2 * <size_t>self.slot_room)
                if more == NULL:
                    raise MemoryError
                self.slots = more
                self.slot_room *= 2
            slot = self.slot_count
            self.slot_count += 1
        mark = self.mark_of(<const uint8_t *>PyBytes_AS_STRING(key)) | 1
        entry = &self.slots[slot]
        Py_INCREF(key)
        Py_INCREF(value)
        entry.key = <PyObject *>key
        entry.value = <PyObject *>value
        entry.cost = cost
        entry.frequency = 0
        self.enter(slot)
        self.bring_near(slot)
        self.entries += 1
        if self.ghost_table[(mark >> 16) & self.ghost_mask] == mark:
            self.ghost_table[(mark >> 16) & self.ghost_mask] = 0
            self.link(&self.main, slot, 1)
        else:
            self.link(&self.small, slot, 0)
        while self.small.used + self.main.used > self.budget_bytes:
            self.evict()

    cdef void enter(self, uint32_t slot) noexcept:
        cdef uint64_t mark = self.mark_of(<const uint8_t *>PyBytes_AS_STRING(<object>self.slots[slot].key))
        cdef uint64_t at = self.home(mark)
        while self.table[at] != <uint64_t>EMPTY:
            at = (at + 1) & self.mask
        self.table[at] = (mark >> 32 << 32) | slot

    cdef int grow(self) except -1:
        cdef uint64_t *larger = <uint64_t *>malloc(16 * (self.mask + 1))
        cdef uint64_t at, count = self.mask + 1
        cdef uint64_t *old = self.table
        cdef Near *near = <Near *>calloc(2 * (self.mask + 1), sizeof(Near))
        if larger == NULL or near == NULL:
            free(larger)
            free(near)
            raise MemoryError
        for at in range(count):
            # Which pairs there are is about to change: what was counted goes to the slots, and places are given anew.
            if old[at] != <uint64_t>EMPTY:
                self.slots[<uint32_t>old[at]].frequency = self.take_frequency(<uint32_t>old[at])
        memset(larger, 0xFF, 16 * (self.mask + 1))
        free(self.near)
        self.near = near
        self.table = larger
        self.mask = 2 * self.mask + 1
        for at in range(count):
            if old[at] != <uint64_t>EMPTY:
                self.enter(<uint32_t>old[at])
                self.bring_near(<uint32_t>old[at])
        free(old)
        return 0

    cdef void link(self, Queue *queue, uint32_t slot, uint8_t is_main) noexcept:
        cdef Slot *entry = &self.slots[slot]
        entry.is_main = is_main
        entry.newer = NONE
        entry.older = queue.newest
        if queue.newest != <uint32_t>NONE:
            self.slots[queue.newest].newer = slot
        else:
            queue.oldest = slot
        queue.newest = slot
        queue.used += entry.cost

    cdef uint32_t unlink_oldest(self, Queue *queue) noexcept:
        cdef uint32_t slot = queue.oldest
        cdef Slot *entry = &self.slots[slot]
        queue.oldest = entry.newer
        if entry.newer != <uint32_t>NONE:
            self.slots[entry.newer].older = NONE
        else:
            queue.newest = NONE
        queue.used -= entry.cost
        return slot

    cdef void evict(self) noexcept:
        """Drop one entry: from the small queue when that is beyond its share, else from the main one."""
        cdef uint32_t slot
        cdef uint64_t mark
        cdef uint8_t frequency
        if self.small.oldest != <uint32_t>NONE and (
            self.small.used * 10 > self.budget_bytes * SMALL_TENTHS or self.main.oldest == <uint32_t>NONE
        ):
            slot = self.unlink_oldest(&self.small)
            if self.take_frequency(slot):
                self.link(&self.main, slot, 1)
            else:
                mark = self.mark_of(<const uint8_t *>PyBytes_AS_STRING(<object>self.slots[slot].key)) | 1
                self.ghost_table[(mark >> 16) & self.ghost_mask] = mark
                self.drop(slot)
            return
        while True:
            slot = self.unlink_oldest(&self.main)
            frequency = self.take_frequency(slot)
            if frequency == 0:
                self.drop(slot)
                return
            self.slots[slot].frequency = frequency - 1
            self.link(&self.main, slot, 1)

    cdef void drop(self, uint32_t slot) noexcept:
        """Forget an entry that is in no queue."""
        cdef Slot *entry = &self.slots[slot]
        cdef object key = <object>entry.key
        cdef object value = <object>entry.value
        cdef Near *near = self.near_of(entry.key)
        cdef uint64_t at = self.home(self.mark_of(<const uint8_t *>PyBytes_AS_STRING(key))), gap, home
        cdef const uint8_t *other
        while <uint32_t>self.table[at] != slot:
            at = (at + 1) & self.mask
        # What stands behind it in the run moves up where that keeps it at or behind its home.
        gap = at
        while True:
            at = (at + 1) & self.mask
            if self.table[at] == <uint64_t>EMPTY:
                break
            other = <const uint8_t *>PyBytes_AS_STRING(<object>self.slots[<uint32_t>self.table[at]].key)
            home = self.home(self.mark_of(other))
            if ((at - home) & self.mask) >= ((at - gap) & self.mask):
                self.table[gap] = self.table[at]
                gap = at
        self.table[gap] = EMPTY
        if near != NULL:
            near.key = NULL
        entry.key = NULL
        entry.value = NULL
        entry.older = self.free_slot
        self.free_slot = slot
        self.entries -= 1
        Py_DECREF(key)
        Py_DECREF(value)

    cdef void drop_all(self) noexcept:
        while self.small.oldest != <uint32_t>NONE:
            self.drop(self.unlink_oldest(&self.small))
        while self.main.oldest != <uint32_t>NONE:
            self.drop(self.unlink_oldest(&self.main))

    def resize(self, uint64_t budget_bytes):
        """See objectcache.ObjectCache."""
        self.budget_bytes = budget_bytes
        while self.small.used + self.main.used > budget_bytes:
            self.evict()

    def clear(self):
        """See objectcache.ObjectCache."""
        self.drop_all()

    @property
    def entry_count(self):
        return self.entries

    @property
    def used_bytes(self):
        return self.small.used + self.main.used


cdef class ManyValues:
    """The iterator of `iter_many`: the caller's list, or some of the keys; what was read ahead, by key."""

    cdef ObjectCache cache
    cdef object source
    cdef list keys
    cdef Py_ssize_t at
    cdef Py_ssize_t looked_until
    cdef dict ahead

    def __iter__(self):
        return self

    def __next__(self):
        cdef object key, value
        cdef uint32_t slot
        cdef Near *near
        # Whatever calls Python may let another thread come here, or the list change: all is looked at again afterwards.
        while True:
            if self.at >= PyList_GET_SIZE(self.keys):
                keys = list(islice(self.source, KEYS_AT_ONCE)) if self.source is not None else None
                if not keys:
                    raise StopIteration
                self.keys, self.at, self.looked_until = keys, 0, 0
            key = <object>PyList_GET_ITEM(self.keys, self.at)
            near = self.cache.near_of(<PyObject *>key)
            if near != NULL:
                self.at += 1
                return self.cache.found_near(near)
            if PyBytes_CheckExact(key) and PyBytes_GET_SIZE(key) >= 8:
                slot = self.cache.lookup(key)
                if slot != <uint32_t>NONE:
                    self.at += 1
                    return self.cache.found_at(slot, <PyObject *>key)
                if self.ahead is not None and key in self.ahead:
                    value, cost = self.ahead.pop(key)
                    self.at += 1
                    self.cache.misses += 1
                    self.cache.put(key, value, cost)
                    return value
            if self.at >= self.looked_until:
                self.look_ahead()
                continue
            self.at += 1
            return self.cache[key]

    cdef look_ahead(self):
        """Have those of the next keys that aren't here read together."""
        absent = self.cache.absent_of(self.keys, self.at)
        self.looked_until = self.at + KEYS_AT_ONCE
        self.ahead = None
        if len(absent) > 1:
            self.ahead = self.cache.read_ahead(absent)
