"""A received pack as loose objects: what receive.unpackLimit asks for, and git does by default with few objects.

The pack lies indexed in its quarantine; afterwards its objects lie there one by one and the pack is gone. Objects that
the repository has already are not written again, only made young, so that no prune takes them while refs move; where
that fails they are written: a prune may have taken them since they were found, and those of an alternate aren't ours.

Source: git's builtin/unpack-objects.c, object-file.c (write_object_file, freshen); git-config "receive.unpackLimit",
"core.looseCompression".
"""

import os
from contextlib import suppress
from itertools import chain

from govc.objects.types import encode_object_header
from govc.odb.loose import write_loose_object, write_loose_stream
from govc.odb.modes import FileModes
from govc.odb.store import ObjectStore
from govc.pack.index import PackIndex

STREAMED_BYTES_MIN = 16 << 20
"""Objects from this size are never in memory whole."""

_SUFFIXES = (".idx", ".rev", ".pack")


def explode_pack(stem: str, quarantine_dir: str, store: ObjectStore, base: ObjectStore, *, level: int) -> int:
    """Write the objects of the pack at `stem` (a path without suffix) loose into `quarantine_dir`; return how many.

    `store` sees the quarantine above the repository, `base` the repository alone. `level` is zlib's. Raises OSError,
    Corrupt.
    """
    with open(f"{stem}.idx", "rb") as file:
        index = PackIndex(file.read(), store.algo)
    written = 0
    modes = FileModes()  # a file gets those of the repository when it leaves the quarantine
    for oid in index.iter_oids():
        known = base.find(oid, rescan=False)
        if known >= 0 and base.freshen(known):
            continue
        number = store.find(oid)
        size = store.size_of(number)
        if size < STREAMED_BYTES_MIN:
            type_number, content = store.read(number)
            write_loose_object(quarantine_dir, store.algo, type_number, content, modes, level=level)
        else:
            header = encode_object_header(store.type_of(number), size)
            chunks = chain((header,), store.iter_content(number))
            write_loose_stream(quarantine_dir, oid, chunks, modes, level=level)
        written += 1
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(f"{stem}{suffix}")
    return written
