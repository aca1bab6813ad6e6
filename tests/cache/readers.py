"""Who reads a body in a thread of his own."""

import threading
import time

from govc.cache import bodies
from govc.cache.span import FileSpan
from tests.waiting import SECONDS


def as_bytes(chunk):
    return b"".join(chunk.iter_bytes()) if isinstance(chunk, FileSpan) else chunk


def note_remote_joins(monkeypatch):
    """Return an event that is set once somebody follows a flight that he takes for another process's."""
    has_joined, join_remote = threading.Event(), bodies.join_remote

    def noted_join(*arguments):
        remote = join_remote(*arguments)
        if remote is not None:
            has_joined.set()
        return remote

    monkeypatch.setattr(bodies, "join_remote", noted_join)
    return has_joined


class ChunkReader(threading.Thread):
    """Drives a generator of chunks. `seen` grows; `names` are those of the files that chunks are; `error` is what it
    met, `returned` what the generator returned.
    """

    def __init__(self, chunks, pause=0.0):
        super().__init__(daemon=True)
        self.chunks = chunks
        self.pause = pause
        self.seen = bytearray()
        self.names = []
        self.error = self.returned = None
        self.start()

    def run(self):
        try:
            while True:
                chunk = next(self.chunks)
                self.names.append(chunk.whole_name if isinstance(chunk, FileSpan) else None)
                self.seen += as_bytes(chunk)
                time.sleep(self.pause)
        except StopIteration as stop:
            self.returned = stop.value
        except Exception as error:
            self.error = error

    def result(self):
        self.join(SECONDS)
        assert not self.is_alive(), "a reader hangs"
        if self.error is not None:
            raise self.error
        return bytes(self.seen)
