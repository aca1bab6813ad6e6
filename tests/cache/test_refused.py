"""A production that waits for its turn, or is refused: nothing is sent meanwhile, and who follows is told, too."""

import threading
from contextlib import closing

import pytest

from govc.cache.bodies import BodyCache, BodyRequest
from govc.cache.flight import Notice
from govc.cache.folder import CacheFolder
from govc.errors import ClientGone, Refused
from tests.waiting import wait_until

KEY = b"k" * 20
SECONDS = 60


class Turn:
    """A production that yields None until it may begin, or is refused."""

    def __init__(self, limit="operations_max"):
        self.limit = limit
        self.may_begin = threading.Event()
        self.is_refused = threading.Event()
        self.begun = 0
        self.polls = threading.Semaphore(0)

    def __call__(self):
        self.begun += 1
        while not self.may_begin.wait(0.005):
            if self.is_refused.is_set():
                raise Refused(self.limit, "full", http_status=503, retry_after_seconds=9)
            self.polls.release()
            yield None
        yield Notice(b"head|")
        yield b"data"


def wish(produce, is_gone=lambda: False, *, key=KEY):
    return BodyRequest(
        key=key, produce=produce, head=b"head|", expected_bytes=10, keepalive=b"K", quiet_seconds=0.0, is_gone=is_gone
    )


@pytest.fixture
def cache(tmp_path):
    return BodyCache(CacheFolder(str(tmp_path / "cache"), 1 << 30))


class Reader(threading.Thread):
    """Reads a body to its end."""

    def __init__(self, cache, request):
        super().__init__(daemon=True)
        self.body = cache.serve(request)
        self.read = b""
        self.error = None
        self.start()

    def run(self):
        try:
            with closing(self.body) as chunks:
                for chunk in chunks:
                    self.read += chunk if isinstance(chunk, bytes) else b"".join(chunk.iter_bytes())
        except Exception as error:
            self.error = error

    def end(self):
        self.join(SECONDS)
        assert not self.is_alive()
        return self


@pytest.mark.parametrize("key", [KEY, None])
def test_nothing_is_said_before_it_is_our_turn(cache, key):
    turn = Turn()
    reader = Reader(cache, wish(turn, key=key))
    for _ in range(20):
        assert turn.polls.acquire(timeout=SECONDS)
    assert reader.read == b""
    turn.may_begin.set()
    assert reader.end().read.replace(b"K", b"") == b"head|data"


@pytest.mark.parametrize("key", [KEY, None])
def test_a_refusal_is_an_answer_of_its_own(cache, key):
    turn = Turn()
    turn.is_refused.set()
    reader = Reader(cache, wish(turn, key=key)).end()
    assert reader.read == b""
    assert isinstance(reader.error, Refused)
    assert reader.error.retry_after_seconds == 9


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_who_follows_is_refused_too(cache, tmp_path, is_elsewhere):
    turn = Turn()
    first = Reader(cache, wish(turn))
    assert turn.polls.acquire(timeout=SECONDS)
    other = BodyCache(CacheFolder(str(tmp_path / "cache"), 1 << 30)) if is_elsewhere else cache
    follows = threading.Event()
    own_turn = Turn()
    own_turn.is_refused.set()
    second = Reader(other, wish(own_turn, is_gone=lambda: bool(follows.set())))
    assert follows.wait(SECONDS)
    assert own_turn.begun == 0
    turn.is_refused.set()
    for reader in (first, second):
        assert isinstance(reader.end().error, Refused)
    # Why it was refused is not told to other processes: there, one may try for oneself.
    assert own_turn.begun == (1 if is_elsewhere else 0)


def test_who_follows_somebody_that_has_had_his_share_tries_for_himself(cache):
    turn, own_turn = Turn("operations_per_client_max"), Turn()
    own_turn.may_begin.set()
    first = Reader(cache, wish(turn))
    assert turn.polls.acquire(timeout=SECONDS)
    follows = threading.Event()
    second = Reader(cache, wish(own_turn, is_gone=lambda: bool(follows.set())))
    assert follows.wait(SECONDS)
    turn.is_refused.set()
    assert isinstance(first.end().error, Refused)
    assert second.end().error is None
    assert second.read.replace(b"K", b"") == b"head|data"


@pytest.mark.parametrize("key", [KEY, None])
def test_who_hangs_up_while_he_waits_ends_what_nobody_waits_for(cache, key):
    turn = Turn()
    gone = threading.Event()
    reader = Reader(cache, wish(turn, gone.is_set, key=key))
    assert turn.polls.acquire(timeout=SECONDS)
    gone.set()
    assert isinstance(reader.end().error, ClientGone)
    wait_until(lambda: not cache._flights)
    # The next one begins anew.
    other = Turn()
    other.may_begin.set()
    assert Reader(cache, wish(other, key=key)).end().error is None
