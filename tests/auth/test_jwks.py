import threading

import pytest

from govc.auth.jwks import RESPONSE_BYTES_MAX, UrlKeys, fetch_document
from tests.waiting import SECONDS, wait_until

from .issuer import key_set, make_key

OLD, NEW = make_key("ES256", "old"), make_key("ES256", "new")


class Issuer:
    """Stands for the URL; counts, fails and waits as told."""

    def __init__(self, *keys):
        self.keys = keys
        self.failure = None
        self.count = 0
        self.threads = set()
        self.go = threading.Event()
        self.go.set()

    def fetch(self, url):
        assert self.go.wait(SECONDS)
        self.threads.add(threading.current_thread())
        self.count += 1
        if self.failure is not None:
            raise self.failure
        return key_set(*self.keys)


@pytest.fixture
def source():
    made = []

    def make(issuer, seen=None, refresh_seconds=3600.0, **more):
        values = {"retry_seconds": 0.0, "wait_seconds": float(SECONDS), **more}
        on_read = (lambda *what: seen.append(what)) if seen is not None else (lambda *_: None)
        keys = UrlKeys("https://issuer.example/keys", refresh_seconds, fetch=issuer.fetch, on_read=on_read, **values)
        made.append(keys)
        return keys

    yield make
    for keys in made:
        keys.close()


def let_end(keys):
    """Wait for the end of the reading that has brought the keys: who asks before waits for that one and no other."""
    wait_until(lambda: keys._reading is None, "the reading ends")


def names(keys, kid):
    return [key.kid for key in keys.candidates(kid)]


def test_the_first_request_waits_for_the_first_reading_and_does_none_itself(source):
    issuer = Issuer(OLD)
    keys = source(issuer)
    assert names(keys, "old") == ["old"]
    assert names(keys, "") == ["old"]
    assert issuer.count == 1
    assert threading.current_thread() not in issuer.threads


def test_a_rotated_key_is_found_and_the_old_one_is_gone(source):
    issuer = Issuer(OLD)
    keys = source(issuer)
    assert names(keys, "old") == ["old"]
    let_end(keys)
    issuer.keys = (NEW,)
    assert names(keys, "new") == ["new"]
    assert names(keys, "old") == []


def test_unknown_keys_do_not_make_us_ask_more_often_than_the_limit(source):
    issuer = Issuer(OLD)
    keys = source(issuer, retry_seconds=3600.0)
    names(keys, "old")
    for number in range(200):
        assert names(keys, f"made-up-{number}") == []
    assert issuer.count == 1


def test_an_issuer_that_fails_leaves_the_keys_that_we_have(source):
    issuer, seen = Issuer(OLD), []
    keys = source(issuer, seen)
    assert names(keys, "old") == ["old"]
    let_end(keys)
    issuer.failure = OSError("no route")
    assert names(keys, "new") == []
    assert names(keys, "old") == ["old"]
    assert seen[0] == ("jwt_keys", True) and seen[1] == ("jwt_keys", False)
    issuer.failure, issuer.keys = None, ()
    assert names(keys, "new") == []  # an empty key set is a mistake, not a revocation of everybody
    assert names(keys, "old") == ["old"]


def test_equal_keys_stay_the_same_object_and_new_ones_do_not(source):
    issuer = Issuer(OLD)
    keys = source(issuer)
    names(keys, "old")
    let_end(keys)
    before = keys.current()
    assert names(keys, "new") == []  # read again
    assert issuer.count == 2 and keys.current() is before
    issuer.keys = (OLD, NEW)
    assert names(keys, "new") == ["new"]
    assert keys.current() is not before


def test_a_slow_issuer_holds_a_request_for_a_bounded_time(source):
    issuer = Issuer(OLD)
    issuer.go.clear()
    keys = source(issuer, wait_seconds=0.05)
    assert names(keys, "old") == []
    issuer.go.set()
    wait_until(lambda: names(keys, "old") == ["old"])


def test_keys_are_read_again_by_themselves(source):
    issuer = Issuer(OLD)
    keys = source(issuer, refresh_seconds=0.01)
    assert names(keys, "old") == ["old"]
    issuer.keys = (NEW,)
    wait_until(lambda: [key.kid for key in keys._keys] == ["new"])


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_only_a_200_is_an_answer(status, http_server):
    url = http_server(lambda _: (status, b"{}", {"Location": "/elsewhere"}))
    if status == 200:
        assert fetch_document(url) == b"{}"
    else:
        with pytest.raises(OSError, match=f"status {status}"):
            fetch_document(url)


def test_an_endless_answer_is_cut(http_server):
    url = http_server(lambda _: (200, b"x" * (RESPONSE_BYTES_MAX + 1), {}))
    with pytest.raises(OSError, match="too large"):
        fetch_document(url)


def test_nobody_there_is_an_error_of_reading():
    with pytest.raises(OSError):
        fetch_document("http://127.0.0.1:9/keys")
