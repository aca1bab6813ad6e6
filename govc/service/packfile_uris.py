"""Packs in two places: the blobs that the configuration places elsewhere are named by URI, the rest is sent.

Only for a client that asks for it (protocol v2, `packfile-uris`, over `sideband-all`). What is to be sent has to be
known before the first line of the answer, so such a fetch is enumerated and written here, in the worker, in turns with
others; it is kept in no cache.

Source: gitprotocol-v2 "packfile-uris", technical/packfile-uri; row V2-42.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from govc.graph.closure import Closure, ClosureRequest, find_closure
from govc.graph.commits import History
from govc.graph.interface import Work
from govc.odb.torn import TornWatch
from govc.protocol.fetch import encode_packfile_header, encode_packfile_uris
from govc.protocol.sideband import Band, frame
from govc.repo.helper import Progress
from govc.repo.packing import INLINE_CHUNK_BYTES, PackPlan, write_objects
from govc.repo.runtime import Breather, Runtime
from govc.repo.snapshot import Snapshot
from govc.service.elsewhere import BlobElsewhere


def choose_elsewhere(blobs: Iterable[BlobElsewhere], protocols: Sequence[bytes]) -> list[BlobElsewhere]:
    """Return the blobs whose URI has one of the protocols that the client speaks."""
    return [blob for blob in blobs if blob.uri.partition(b":")[0] in protocols and b":" in blob.uri]


def send_with_uris(
    snapshot: Snapshot,
    history: History,
    plan: PackPlan,
    blobs: Sequence[BlobElsewhere],
    run: Callable[[Work[Closure]], Closure],
    runtime: Runtime,
) -> Iterator[bytes]:
    """Yield the sections packfile-uris (if any blob is due) and packfile, in side bands; the flush is the caller's.

    `run` drives graph work to its end. May switch. Raises GovcError.
    """
    torn = TornWatch(snapshot.store.directories)
    closure = run(
        find_closure(
            history,
            ClosureRequest(
                wants=plan.wants,
                haves=plan.haves,
                client_shallow=plan.client_shallow,
                boundary=plan.boundary,
                selection=plan.selection,
                include_tags=plan.include_tags,
            ),
        )
    )
    by_number = {snapshot.store.find(blob.oid): blob for blob in blobs}
    due = [by_number[number] for number in closure.numbers if number in by_number]
    if due:
        left = array("Q", (number for number in closure.numbers if number not in by_number))
        closure = replace(closure, numbers=left, blob_count=closure.blob_count - len(due))
        yield encode_packfile_uris([(blob.pack_hash, blob.uri) for blob in due], sideband_all=True)
    yield encode_packfile_header(sideband_all=True)
    breathe = Breather(runtime)
    for item in write_objects(snapshot.store, closure, plan, INLINE_CHUNK_BYTES, torn):
        breathe()
        if isinstance(item, bytes):
            yield frame(Band.DATA, item)
        elif isinstance(item, Progress):
            yield frame(Band.PROGRESS, item.text.encode("utf-8"))
