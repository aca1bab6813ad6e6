"""Copying stored entries into a pack to send, without the GIL: the compiled answer of `govc.pack.writer`, its twin.

A `PackCopier` is given object numbers of a `PackTable`, ascending, each once. Objects leave pack by pack in the order
of their offsets, so that a base is out before its ofs-deltas:

    a pack that is sent whole     its bytes as they lie: nothing is parsed
    a whole entry                 copied
    a delta on what is sent       copied; an ofs-delta's distance is made anew
    a delta on what the peer has  copied as a ref-delta, when the pack may be thin
    any other                     a delta that `make_delta` makes, else an entry that is ready (`ready`, a file of
                                  `odb.ready`), else expanded and compressed

Before all of these a forward delta, one that somebody made before: for an entry that is stored whole, as history that
came in as one pack has its newest versions, or as a large delta. Which ones are taken `kernels/chains` decides.

`next_chunk` returns the next bytes, without header and trailer; b"" at the end. Reading is by pread; what the files
say is checked as in `packread`, and what is copied is compared with the CRC-32 that the pack's index has of the entry
(`packcheck` where all of a pack goes out). Where which object lies is `packrows`; the bytes themselves are put by
`_packout_c`, from which the copier derives.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from govc.kernels.chains import ForwardColumns
from govc.kernels.choice import find
from govc.kernels.packread import PackReader
from govc.kernels.thin import ThinChoice

__all__ = ["AVAILABLE", "ForwardDelta", "PackCopier", "ReadySource"]

_module = find("packcopy")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""


class ForwardDelta(NamedTuple):
    """A delta ready to be sent: the name of its base, its inflated size in bytes, its zlib stream."""

    base_oid: bytes
    size: int
    stream: bytes


class ReadySource(NamedTuple):
    """A file of ready entries: descriptor, number of entries, the columns as they lie from byte `columns_at` on, and
    what keeps the descriptor open.
    """

    descriptor: int
    entry_count: int
    columns: bytes
    columns_at: int
    owner: Any


if TYPE_CHECKING:

    class PackCopier:
        """Makes the body of one pack; for one thread at a time."""

        reused: int
        """Entries copied so far."""

        expanded: int
        """Objects compressed anew so far."""

        taken_ready: int
        """Entries that were ready, so far."""

        def __init__(
            self,
            reader: PackReader,
            numbers: bytes,
            at_peer: Callable[[int], bool] | None,
            forward: Sequence[ForwardColumns],
            level: int,
            make_delta: Callable[[int], ForwardDelta | None] | None = None,
            ready: ReadySource | None = None,
            thin: ThinChoice | None = None,
        ) -> None:
            """`numbers`: int64 each, without those that `thin` has taken, which go out first.

            `at_peer` tells which bases need not be sent; None makes a pack that needs none and takes no forward deltas.

            `make_delta` is asked for an object that would have to be expanded, and for some whose delta on what the
            peer has is large; its base must be at the peer, or an object that it was asked for before.
            """

        def next_chunk(self, chunk_bytes: int) -> bytes:
            """Return about `chunk_bytes` bytes, b"" at the end. CorruptPack, LimitExceeded, OSError."""

elif AVAILABLE:
    PackCopier = _module.PackCopier
else:
    PackCopier = None
