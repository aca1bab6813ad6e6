import sys
import threading

import argon2
import bcrypt
import pytest

from govc.auth.hashes import hash_password, verify_password
from govc.auth.htpasswd import Entry, HashKind, parse_htpasswd
from tests.waiting import wait_until


def bcrypt_entry(password):
    text = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    return Entry(HashKind.BCRYPT, text.replace("$2b$", "$2y$"))


def argon2_entry(password):
    return parse_htpasswd(f"ann:{hash_password(password)}\n".encode(), "pw").entries["ann"]


@pytest.mark.parametrize("make", [bcrypt_entry, argon2_entry])
@pytest.mark.parametrize("password", [b"secret", "pässwörd:x".encode(), b" ", b"\xff\xfe", b"x" * 72])
def test_the_right_password_and_no_other(make, password):
    entry = make(password)
    assert verify_password(entry, password)
    assert not verify_password(entry, password[:-1] + b"?")
    assert not verify_password(entry, b"")


def test_bcrypt_looks_at_72_bytes_as_htpasswd_does():
    entry = bcrypt_entry(b"x" * 72)
    assert verify_password(entry, b"x" * 100)
    assert not verify_password(entry, b"x" * 71)


def test_a_password_with_a_nul_is_none():
    entry = bcrypt_entry(b"a?b")
    assert not verify_password(entry, b"a\0b")
    assert verify_password(entry, b"a?b")


def test_argon2_looks_at_everything():
    assert not verify_password(argon2_entry(b"x" * 100), b"x" * 101)


def test_a_hash_that_the_library_refuses_proves_nothing():
    assert not verify_password(Entry(HashKind.ARGON2, "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAA"), b"x")


@pytest.mark.parametrize(
    "entry",
    [
        Entry(HashKind.BCRYPT, bcrypt.hashpw(b"x", bcrypt.gensalt(12)).decode()),
        Entry(HashKind.ARGON2, argon2.PasswordHasher(time_cost=6, memory_cost=65536, parallelism=1).hash(b"x")),
    ],
    ids=["bcrypt", "argon2"],
)
def test_hashing_in_a_thread_lets_others_run(entry):
    """Nobody is made to give the GIL away here: who runs while it is computed was given it by who computes."""

    def is_seen_at_work():
        begun, verified = threading.Event(), []

        def verify():
            begun.set()
            verified.append(verify_password(entry, b"x"))

        thread = threading.Thread(target=verify)
        thread.start()
        begun.wait()
        is_at_work = not verified
        thread.join()
        assert verified == [True]
        return is_at_work

    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        # The machine may be too busy for who waits, but not always.
        wait_until(is_seen_at_work, "somebody else runs meanwhile")
    finally:
        sys.setswitchinterval(interval)


def test_what_apaches_htpasswd_makes_is_understood():
    # The output of `htpasswd -nbB -C 5 ann secret`.
    line = b"ann:$2y$05$yZIB07pIL20rDbDkpu.F9.zNMvml6ZefkxIMRRTLKNC0HIZZnUU02\n"
    entry = parse_htpasswd(line, "pw").entries["ann"]
    assert verify_password(entry, b"secret") and not verify_password(entry, b"Secret")
