# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Applying deltas, compiled; the story is in `delta`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from govc.kernels._delta cimport (
    DELTA_COPY_OUTSIDE,
    DELTA_CUT,
    DELTA_FINE,
    DELTA_HEADER_CUT,
    DELTA_INSERT_OUTSIDE,
    DELTA_OPCODE_ZERO,
    DELTA_SIZE_OVERFLOW,
    DELTA_TOO_SHORT,
    DeltaFault,
    delta_run,
    delta_size,
)

from govc.errors import CorruptDelta, LimitExceeded

cdef Py_ssize_t NOGIL_BYTES_MIN = 1 << 16  # below this, giving the GIL away costs more than it gives others


def apply_delta(const uint8_t[::1] base not None, const uint8_t[::1] delta not None, *, result_bytes_max):
    """As `delta_py.apply_delta`."""
    cdef uint64_t base_size = 0, result_size = 0, made = 0
    cdef Py_ssize_t pos = 0, length = delta.shape[0]
    cdef const uint8_t *delta_at = &delta[0] if length else NULL
    cdef const uint8_t *base_at = &base[0] if base.shape[0] else NULL
    cdef uint8_t *out
    cdef DeltaFault fault = delta_size(delta_at, length, &pos, &base_size)
    if fault == DELTA_FINE:
        fault = delta_size(delta_at, length, &pos, &result_size)
    if fault == DELTA_HEADER_CUT:
        raise CorruptDelta("truncated delta header")
    if fault == DELTA_SIZE_OVERFLOW:
        raise CorruptDelta("delta size overflow")
    if base_size != <uint64_t>base.shape[0]:
        raise CorruptDelta(f"delta is for a base of {base_size} bytes, not {base.shape[0]}")
    if result_size > result_bytes_max:
        raise LimitExceeded("delta result bytes", result_bytes_max, result_size)
    result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>result_size)
    out = <uint8_t *>PyBytes_AS_STRING(result)
    if result_size < <uint64_t>NOGIL_BYTES_MIN:
        fault = delta_run(base_at, base_size, delta_at, length, pos, out, result_size, &made)
    else:
        with nogil:
            fault = delta_run(base_at, base_size, delta_at, length, pos, out, result_size, &made)
    if fault != DELTA_FINE:
        raise CorruptDelta(fault_text(fault, made, result_size))
    return result


cdef str fault_text(DeltaFault fault, uint64_t made, uint64_t result_size):
    if fault == DELTA_COPY_OUTSIDE:
        return "delta copies from outside its base or beyond its result"
    if fault == DELTA_INSERT_OUTSIDE:
        return "delta inserts beyond its end or its result"
    if fault == DELTA_OPCODE_ZERO:
        return "unexpected delta opcode 0"
    if fault == DELTA_TOO_SHORT:
        return f"delta makes {made} bytes instead of {result_size}"
    return "truncated delta"
