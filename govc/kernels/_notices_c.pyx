# cython: language_level=3, boundscheck=False, wraparound=False
"""Has the kernel announced a change? Compiled; the story is in `notices`."""

from cpython.bytes cimport PyBytes_FromString
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

import os

cdef extern from "unistd.h" nogil:
    int close(int descriptor)
    Py_ssize_t read(int descriptor, void *data, size_t size)


cdef extern from "fcntl.h" nogil:
    int open(const char *path, int flags)
    int O_RDONLY, O_CLOEXEC


cdef extern from "sys/inotify.h" nogil:
    cdef struct inotify_event:
        int wd
        uint32_t mask
        uint32_t len
    int inotify_init1(int flags)
    int inotify_add_watch(int descriptor, const char *path, uint32_t mask)
    int inotify_rm_watch(int descriptor, int wd)
    int IN_NONBLOCK, IN_CLOEXEC
    uint32_t IN_MODIFY, IN_ATTRIB, IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE_SELF, IN_MOVE_SELF
    uint32_t IN_IGNORED, IN_UNMOUNT, IN_Q_OVERFLOW, IN_DONT_FOLLOW, IN_MASK_ADD, IN_ONLYDIR


cdef extern from "sys/epoll.h" nogil:
    cdef union epoll_data:
        uint32_t u32
    cdef struct epoll_event:
        uint32_t events
        epoll_data data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int descriptor, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int most, int timeout)
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD
    uint32_t EPOLLIN, EPOLLPRI, EPOLLERR


cdef int WATCHES_MAX = 8192
"""A user may have so many in all on a small machine; then the kernel says no before us."""

cdef uint32_t ITS_OWN = IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
cdef uint32_t CHANGES = IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO

cdef int FOLDER = 0, FILE = 1, ITSELF = 2

cdef int epoll_at = -1, inotify_at = -1, mounts_at = -1
cdef uint64_t epoch = 0  # counts the instances: watches of an older one are nobody's
cdef dict concerned = {}  # by watch descriptor: list of _Concern
cdef int watched = 0


cdef class _Flag:
    cdef bint is_quiet


cdef class _Concern:
    """Whom the events of one watch concern: the flag to lower, and by which names (None: by all)."""

    cdef _Flag flag
    cdef int kind
    cdef object names


cdef bint start():
    """Have the descriptors; False where the machine has none to give."""
    global epoll_at, inotify_at, mounts_at, epoch
    cdef epoll_event event
    if epoll_at >= 0:
        return True
    epoch += 1
    inotify_at = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
    mounts_at = open(b"/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)
    epoll_at = epoll_create1(EPOLL_CLOEXEC)
    if inotify_at >= 0 and mounts_at >= 0 and epoll_at >= 0:
        event.events = EPOLLIN
        event.data.u32 = 0
        if epoll_ctl(epoll_at, EPOLL_CTL_ADD, inotify_at, &event) == 0:
            event.events = EPOLLPRI | EPOLLERR
            event.data.u32 = 1
            if epoll_ctl(epoll_at, EPOLL_CTL_ADD, mounts_at, &event) == 0:
                return True
    stop()
    return False


cdef void stop(bint descriptors_are_ours=True):
    """End the instance; what it watched is known no more."""
    global epoll_at, inotify_at, mounts_at, epoch, watched, concerned
    epoch += 1
    for descriptor in (epoll_at, inotify_at, mounts_at):
        if descriptor >= 0 and descriptors_are_ours:
            close(descriptor)
    epoll_at = inotify_at = mounts_at = -1
    concerned = {}
    watched = 0


cdef void lower_all():
    cdef _Concern concern
    for concerns in tuple(concerned.values()):
        for concern in tuple(concerns):
            concern.flag.is_quiet = False


cdef void take_events(epoll_event *events, int count):
    """Read what was announced, and lower the flags of all whom it concerns."""
    cdef int k
    cdef char data[16384]
    cdef Py_ssize_t size, at
    cdef inotify_event event
    for k in range(count):
        if events[k].data.u32 == 1:
            lower_all()
    while True:
        size = read(inotify_at, data, sizeof(data))
        if size <= 0:
            return
        at = 0
        while at + <Py_ssize_t>sizeof(inotify_event) <= size:
            memcpy(&event, data + at, sizeof(inotify_event))
            at += sizeof(inotify_event)
            dispatch(&event, data + at)
            at += event.len


cdef void dispatch(inotify_event *event, const char *name):
    cdef _Concern concern
    if event.mask & IN_Q_OVERFLOW:
        lower_all()
        return
    concerns = concerned.get(event.wd)
    if concerns is None:
        return
    own = event.len == 0
    named = None if own else PyBytes_FromString(name)
    for concern in tuple(concerns):
        if own:
            concern.flag.is_quiet = False
        elif concern.kind != ITSELF and (concern.names is None or named in concern.names):
            concern.flag.is_quiet = False
    if event.mask & IN_IGNORED:
        forget_watch(event.wd)


cdef void forget_watch(int wd):
    global watched
    if concerned.pop(wd, None) is not None:
        watched -= 1


def forget_in_child():
    """After a fork, in the child: events that it took would be missed by the parent."""
    stop()


def watch_count():
    """See notices.watch_count."""
    return watched


cdef class Notice:
    """See notices.Notice."""

    cdef _Flag flag
    cdef list wds
    cdef uint64_t epoch

    def __cinit__(self):
        self.flag = _Flag()
        self.flag.is_quiet = True
        self.wds = []
        self.epoch = 0

    def watch(self, path, int kind, names=None):
        """See notices.Notice."""
        global watched
        cdef bytes place = os.fsencode(path)
        cdef uint32_t mask = ITS_OWN | IN_DONT_FOLLOW | IN_MASK_ADD
        cdef int wd
        cdef list concerns, fresh
        cdef _Concern concern = _Concern()
        concern.flag, concern.kind = self.flag, kind
        concern.names = None if names is None else frozenset(names)
        fresh = [concern]
        if kind == FILE:
            mask |= IN_MODIFY
        else:
            mask |= IN_ONLYDIR | (CHANGES if kind == FOLDER else 0)
        if b"\0" in place or not self.flag.is_quiet or watched >= WATCHES_MAX or not start():
            self.flag.is_quiet = False
            return False
        if self.epoch == 0:
            self.epoch = epoch
        elif self.epoch != epoch:
            self.flag.is_quiet = False
            return False
        # From here to the end nothing is allocated that could set off garbage collection, whose closing of another
        # Notice might take the watch away before it is known to be this one's, too.
        wd = inotify_add_watch(inotify_at, place, mask)
        if wd < 0:
            self.flag.is_quiet = False
            return False
        concerns = <list>concerned.get(wd)
        if concerns is None:
            concerned[wd] = fresh
            watched += 1
        else:
            concerns.append(concern)
        self.wds.append(wd)
        return True

    def is_quiet(self):
        """See notices.Notice."""
        cdef epoll_event events[2]
        cdef int count
        if not self.flag.is_quiet or self.epoch != epoch:
            return False
        count = epoll_wait(epoll_at, events, 2, 0)
        if count == 0:
            return True
        if count < 0:  # somebody closed them, and the numbers may be another file's by now
            stop(False)
            return False
        try:
            take_events(events, count)
        except BaseException:
            stop()  # what was read and not handed on is lost
            raise
        return self.flag.is_quiet

    def close(self):
        """See notices.Notice."""
        cdef int wd
        cdef _Concern concern
        self.flag.is_quiet = False
        wds, self.wds = self.wds, []
        if self.epoch != epoch:
            return
        for wd in wds:
            concerns = concerned.get(wd)
            if concerns is None:
                continue
            left = [concern for concern in concerns if concern.flag is not self.flag]
            if left:
                concerned[wd] = left
            else:
                inotify_rm_watch(inotify_at, wd)
                forget_watch(wd)

    def __del__(self):
        self.close()
