# cython: language_level=3, boundscheck=False, wraparound=False
"""The handler of SIGBUS and its table of mappings; the story is in `guard`."""

from libc.signal cimport SIGBUS
from libc.stdint cimport uint64_t, uintptr_t

cdef extern from *:
    """
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <unistd.h>

    #define GUARD_SLOTS 65536

    /* Written by threads that hold the GIL, read by the handler at any moment: `end` last when a slot is taken,
       first when it is given back, so that a slot half written covers nothing. */
    static struct { volatile uintptr_t start, end; volatile uint64_t fault; } guard_slots[GUARD_SLOTS];
    static volatile int guard_used;
    static volatile uint64_t guard_faults;
    static uintptr_t guard_page;
    static struct sigaction guard_before;

    static void guard_on_bus_error(int number, siginfo_t *info, void *context) {
        uintptr_t address = (uintptr_t)info->si_addr, page = address & ~(guard_page - 1);
        int slot, used = guard_used;
        (void)context;
        if (info->si_code > 0) {
            for (slot = 0; slot < used; slot++) {
                if (address < guard_slots[slot].start || address >= guard_slots[slot].end) continue;
                if (mmap((void *)page, guard_page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
                    == MAP_FAILED) break;
                guard_slots[slot].fault = __atomic_add_fetch(&guard_faults, 1, __ATOMIC_SEQ_CST);
                return;
            }
        }
        /* Somebody else's: as if we had never been here. The instruction is tried again and meets the old handler. */
        sigaction(SIGBUS, &guard_before, NULL);
        if (info->si_code <= 0) raise(number);
    }

    static int guard_install(void) {
        struct sigaction action;
        if (guard_page) return 0;
        guard_page = (uintptr_t)sysconf(_SC_PAGESIZE);
        memset(&action, 0, sizeof action);
        action.sa_sigaction = guard_on_bus_error;
        action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        return sigaction(SIGBUS, &action, &guard_before);
    }

    static int guard_take(const void *start, size_t size) {
        int slot, used = guard_used;
        for (slot = 0; slot < used && guard_slots[slot].start; slot++) {}
        if (slot == GUARD_SLOTS) return -1;
        guard_slots[slot].fault = 0;
        guard_slots[slot].start = (uintptr_t)start;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        guard_slots[slot].end = (uintptr_t)start + size;
        if (slot == used) guard_used = used + 1;
        return slot;
    }

    static void guard_give_back(int slot) {
        guard_slots[slot].end = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        guard_slots[slot].start = 0;
    }
    static uint64_t guard_fault_of(int slot) { return guard_slots[slot].fault; }
    static uint64_t guard_fault_count(void) { return guard_faults; }
    """
    int guard_install()
    int guard_take(const void *start, size_t size)
    void guard_give_back(int slot)
    uint64_t guard_fault_of(int slot)
    uint64_t guard_fault_count() nogil


cdef uint64_t faults_now() noexcept nogil:
    """Return what `fault_count` returns."""
    return guard_fault_count()


def watch(const unsigned char[::1] mapping):
    """Put a mapping under guard and return its slot; -1 when there are too many, and it is not guarded."""
    if guard_install() != 0 or mapping.shape[0] == 0:
        return -1
    return guard_take(&mapping[0], mapping.shape[0])


def forget(int slot):
    """Give a slot back; the mapping is about to go."""
    if slot >= 0:
        guard_give_back(slot)


def fault_count():
    """Return how many pages could not be read in this process so far."""
    return guard_fault_count()


def fault_of(int slot):
    """Return the number of the last fault in a mapping, counted over the process from 1; 0 for none."""
    return guard_fault_of(slot) if slot >= 0 else 0
