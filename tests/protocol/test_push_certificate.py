import hashlib
import hmac

import pytest

from govc.protocol.oid import SHA1, SHA256
from govc.protocol.push_certificate import NonceStatus, check_nonce, make_nonce, parse_certificate

SEED = b"sekrit"
NOW = 1_700_000_000


@pytest.mark.rows("RP-71")
@pytest.mark.parametrize(("algo", "name", "size"), [(SHA1, "sha1", 40), (SHA256, "sha256", 64)])
@pytest.mark.parametrize("seed", [SEED, b"k" * 64, b"k" * 65])
def test_a_nonce_is_an_hmac_of_the_seed_under_path_and_time(algo, name, size, seed):
    nonce = make_nonce(seed, algo, NOW)
    assert f"{NOW}-{hmac.new(f'.:{NOW}'.encode(), seed, getattr(hashlib, name)).hexdigest()}".encode() == nonce
    assert 11 + size == len(nonce)


def judge(received, *, seed=SEED, slop=0, now=NOW):
    check = check_nonce(received, seed=seed, algo=SHA1, now_seconds=now, slop_seconds_max=slop)
    return check.status, check.nonce, check.slop_seconds


@pytest.mark.rows("RP-72")
def test_nonces_are_judged_without_memory():
    own = make_nonce(SEED, SHA1, NOW)
    old = make_nonce(SEED, SHA1, NOW - 10)
    ahead = make_nonce(SEED, SHA1, NOW + 10)
    assert (NonceStatus.OK, own, 0) == judge(own)
    assert (NonceStatus.SLOP, own, 10) == judge(old)
    assert (NonceStatus.SLOP, own, 10) == judge(old, slop=9)
    assert (NonceStatus.OK, old, 10) == judge(old, slop=10)
    assert (NonceStatus.SLOP, own, -10) == judge(ahead)
    assert (NonceStatus.OK, ahead, -10) == judge(ahead, slop=10)
    assert (NonceStatus.MISSING, own, 0) == judge(None)
    assert (NonceStatus.UNSOLICITED, b"", 0) == judge(own, seed=b"")


@pytest.mark.rows("RP-72")
@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"-",
        b"0-" + b"a" * 40,
        make_nonce(b"other", SHA1, NOW),
        make_nonce(SEED, SHA1, NOW, b"/srv/r.git"),
        make_nonce(SEED, SHA256, NOW),
        make_nonce(SEED, SHA1, NOW) + b"0",
        make_nonce(SEED, SHA1, NOW)[:-1],
        make_nonce(SEED, SHA1, NOW).upper(),
        b"0" + make_nonce(SEED, SHA1, NOW),
        b"9" * 40 + b"-" + b"a" * 40,
    ],
)
def test_forged_nonces_are_bad(received):
    assert (NonceStatus.BAD, make_nonce(SEED, SHA1, NOW), 0) == judge(received, slop=1000)


@pytest.mark.rows("SEC-35")
def test_nonces_are_compared_in_constant_time(monkeypatch):
    """Whatever looks like a nonce is compared whole, by the one function that takes as long for any difference."""
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or False)
    own, forged = make_nonce(SEED, SHA1, NOW), b"%d-%b" % (NOW, b"0" * 40)
    assert NonceStatus.BAD is judge(own)[0] is judge(forged)[0]
    assert [(own, own), (own, forged)] == compared


@pytest.mark.rows("RP-70")
@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("-----BEGIN PGP SIGNATURE-----", "openpgp"),
        ("-----BEGIN PGP MESSAGE-----", "openpgp"),
        ("-----BEGIN SIGNED MESSAGE-----", "x509"),
        ("-----BEGIN SSH SIGNATURE-----", "ssh"),
        ("-----BEGIN OTHER-----", None),
    ],
)
def test_the_format_of_a_signature_is_its_first_line(start, expected):
    command = f"{'0' * 40} {'a' * 40} refs/heads/x"
    text = f"certificate version 0.1\nnonce 1-x\npush-option a=b\npush-option c\n\n{command}\n{start}\nabc\n"
    certificate = parse_certificate(text.encode())
    assert expected == certificate.signature_format
    assert (b"1-x", (b"a=b", b"c")) == (certificate.nonce, certificate.push_options)
    assert command.encode() == next(certificate.iter_command_lines())


COMMAND = f"{'0' * 40} {'a' * 40} refs/heads/x\n".encode()
FEW = b"nonce 1-x\n\n" + COMMAND


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"nonce 1-x\n\n" + COMMAND * 5000, 5000),
        (b"a\n" * 100_000 + FEW, 1),
        (FEW + b"-----BEGIN PGP SIGNATURE-----\n" + b"\n" * (3 << 20), 1),
        (b"a" * (3 << 20) + b"\n" + FEW, 1),
    ],
    ids=["commands", "headers", "signature", "one line"],
)
def test_others_run_while_a_large_one_is_taken_apart(text, count):
    ticks = []
    certificate = parse_certificate(text, lambda: ticks.append(1))
    assert count == len(list(certificate.iter_command_lines(lambda: ticks.append(1))))
    assert text == certificate.payload + certificate.signature
    assert len(ticks) >= 3
    assert certificate.headers == {b"nonce": [b"1-x"]}


@pytest.mark.parametrize("distance", range(0, 40, 3))
def test_the_last_signature_is_found_wherever_it_lies(distance):
    """It is searched in pieces of 1 MiB from the end."""
    tail = b"-----BEGIN SSH SIGNATURE-----\nabc\n"
    tail += b"x" * ((1 << 20) - len(tail) + distance - 20)
    text = FEW + b"-----BEGIN PGP SIGNATURE-----\nxyz\n" + tail
    assert parse_certificate(text).signature == tail
