import threading

import pytest

from govc.auth.htpasswd import parse_htpasswd
from govc.auth.passwords import PASSWORD_BYTES_MAX, PasswordChecker, PasswordLimits
from govc.auth.principal import LoginBusy, LoginFailed
from govc.auth.watched import WatchedValue
from tests.waiting import SECONDS, wait_until

HASH = "$2y$05$yK8gSuHNgE0DbzT/S9F0W.pZVDL04jg9jEkNkbfIAp6v1xB3kGMY"


class World:
    """A checker over a file, with hashes that are compared by their last letter, and everything counted."""

    def __init__(self, tmp_path, users, **limits):
        self.path = tmp_path / "pw"
        self.write(users)
        self.now = 0.0
        self.hashed = []
        self.in_thread = 0
        self.hold = None
        self.checker = PasswordChecker(
            WatchedValue("htpasswd_file", str(self.path), parse_htpasswd),
            self._verify,
            self._call_blocking,
            PasswordLimits(**limits),
            clock=lambda: self.now,
        )

    def write(self, users):
        self.path.write_text("".join(f"{name}:{HASH}{letter}\n" for name, letter in users.items()))

    def _verify(self, entry, password):
        self.hashed.append((entry.text[-1], password))
        if self.hold is not None:
            assert self.hold.wait(120)
        return entry.text[-1].encode() == password

    def _call_blocking(self, function, *arguments):
        self.in_thread += 1
        return function(*arguments)

    def check(self, user, password, client="192.0.2.1"):
        try:
            return self.checker.check(user, password, client).user
        except LoginFailed as error:
            return error.reason
        except LoginBusy as error:
            return f"busy: {error.reason}"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, {"ann": "a", "bob": "b"})


def test_right_and_wrong(world):
    assert world.check("ann", b"a") == "ann"
    assert world.check("ann", b"b") == "wrong password of 'ann'"
    assert world.check("Ann", b"a") == "an unknown user"


def test_hashing_happens_where_blocking_is_allowed(world):
    world.check("ann", b"a")
    world.check("eve", b"a")
    assert world.in_thread == len(world.hashed) == 2


@pytest.mark.parametrize(
    ("user", "password"),
    [("ann", b"a"), ("ann", b"x"), ("eve", b"a"), ("eve", b"x"), ("", b""), ("ann", b""), ("\udcff", b"\xff\0")],
)
def test_every_login_costs_exactly_one_hashing(world, user, password):
    world.check(user, password)
    assert len(world.hashed) == 1


def test_an_unknown_user_never_gets_in_by_somebody_elses_password(world):
    # The stand-in's hash is a real one, and may well match.
    for number in range(20):
        for password in (b"a", b"b"):
            assert world.check(f"stranger{number}", password) == "an unknown user"
    assert {letter for letter, _ in world.hashed} == {"a", "b"}
    assert any(letter.encode() == password for letter, password in world.hashed)
    # Nor does it make a later check of an unknown user cheaper.
    count = len(world.hashed)
    world.check("stranger0", b"a")
    assert len(world.hashed) == count + 1


def test_what_proved_right_is_remembered_for_a_while(world):
    for _ in range(3):
        assert world.check("ann", b"a") == "ann"
    assert len(world.hashed) == 1
    assert world.check("ann", b"x") == "wrong password of 'ann'"
    assert world.check("bob", b"a") == "wrong password of 'bob'"
    assert len(world.hashed) == 3
    world.now = 60.0
    assert world.check("ann", b"a") == "ann"
    assert len(world.hashed) == 4


def test_wrong_passwords_are_not_remembered(world):
    for _ in range(3):
        world.check("ann", b"x")
    assert len(world.hashed) == 3


def test_a_changed_or_deleted_user_is_out_at_once(world):
    assert world.check("ann", b"a") == "ann"
    world.write({"ann": "c", "bob": "b"})
    assert world.check("ann", b"a") == "wrong password of 'ann'"
    assert world.check("ann", b"c") == "ann"
    world.write({"bob": "b"})
    assert world.check("ann", b"c") == "an unknown user"
    world.write({"ann": "a"})
    assert world.check("ann", b"a") == "ann"


def test_remembering_can_be_switched_off(tmp_path):
    world = World(tmp_path, {"ann": "a"}, remember_seconds=0)
    world.check("ann", b"a")
    world.check("ann", b"a")
    assert len(world.hashed) == 2


def test_too_long_a_password_is_refused_alike_for_everybody(world):
    password = b"x" * (PASSWORD_BYTES_MAX + 1)
    assert {world.check("ann", password), world.check("eve", password)} == {"password too long"}
    assert world.hashed == []


def test_an_empty_file_lets_nobody_in(tmp_path):
    assert World(tmp_path, {}).check("ann", b"a") == "the file holds no users"


def test_equal_logins_at_once_hash_once_and_others_queue(tmp_path, monkeypatch):
    world = World(tmp_path, {"ann": "a", "bob": "b"}, running_max=1, waiting_max=1, wait_seconds=120)
    world.hold = threading.Event()
    outcomes = []
    lock = threading.Lock()

    def log_in(user, password):
        outcome = world.check(user, password)
        with lock:
            outcomes.append(outcome)

    def begin(count, *credentials):
        threads = [threading.Thread(target=log_in, args=credentials, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    joined = threading.Semaphore(0)
    join = world.checker._flights._join
    monkeypatch.setattr(world.checker._flights, "_join", lambda flight: joined.release() or join(flight))
    threads = begin(10, "ann", b"a")
    wait_until(lambda: world.hashed)
    for _ in range(9):  # who is still on his way when the first one has his answer hashes again
        assert joined.acquire(timeout=SECONDS)
    threads += begin(1, "bob", b"b")
    wait_until(lambda: world.checker._gate._waiting)
    assert world.check("bob", b"x") == "busy: too many wait"
    world.hold.set()
    for thread in threads:
        thread.join(120)
    assert sorted(outcomes) == ["ann"] * 10 + ["bob"]
    assert sorted(world.hashed) == [("a", b"a"), ("b", b"b")]
