import hashlib
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.attacks import SHA_MBLES, SHATTERED
from tests.kernels.both import compiled, needs_compiled, twin

ATTACKS = [*SHATTERED, *SHA_MBLES]
KERNEL = compiled("sha1")
WAYS = [(True, 512), (True, 256), (True, 128), (False, 512), (False, 128)]
"""SHA instructions or not, bits of the vectors: what the machine lacks falls to the next one."""


@pytest.fixture(params=[*WAYS, None], ids=lambda way: "python" if way is None else f"sha={way[0]}-{way[1]}")
def sha1(request):
    if request.param is None:
        yield twin("sha1")
        return
    if KERNEL is None:
        pytest.skip("no C compiler on this machine: only the twins exist")
    sha, bits = request.param
    KERNEL.use_instructions(sha=sha, vector_bits=bits)
    yield KERNEL
    KERNEL.use_instructions()


def test_the_published_pairs_collide():
    assert [1, 1] == [len({hashlib.sha1(data).digest() for data in pair}) for pair in (SHATTERED, SHA_MBLES)]
    assert 4 == len(set(ATTACKS))


def test_every_length_up_to_some_blocks_has_its_digest(sha1):
    rng = random.Random(1)
    for size in [*range(300), 1023, 1024, 1025, 5000]:
        data = rng.randbytes(size)
        assert hashlib.sha1(data).digest() == sha1.Sha1(data).digest()


def test_messages_of_all_lengths_are_hashed_together(sha1):
    rng = random.Random(2)
    messages = [rng.randbytes(rng.choice((0, 1, 55, 56, 63, 64, 65, 119, 120, 700, 5000))) for _ in range(300)]
    digests, attacked = sha1.hash_many(messages)
    assert b"".join(hashlib.sha1(message).digest() for message in messages) == digests
    assert -1 == attacked


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 64, 65])
def test_any_number_of_messages_is_hashed_together(sha1, count):
    messages = [b"%d" % number * number for number in range(count)]
    digests, _ = sha1.hash_many(messages)
    assert b"".join(hashlib.sha1(message).digest() for message in messages) == digests


@needs_compiled
@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=4))
def test_any_split_of_a_message_gives_its_digest(data, cuts):
    hasher = KERNEL.Sha1()
    start = 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        hasher.update(data[start:cut])
        start = cut
        assert hashlib.sha1(data[:cut]).digest() == hasher.digest()
        assert not hasher.is_attack


@needs_compiled
@pytest.mark.rows("SEC-14")
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_published_attacks_are_seen_however_they_come(attack):
    for sha, bits in WAYS:
        KERNEL.use_instructions(sha=sha, vector_bits=bits)
        assert KERNEL.Sha1(attack).is_attack
        assert KERNEL.Sha1(attack + bytes(5000)).is_attack
        slowly = KERNEL.Sha1()
        for byte in attack:
            slowly.update(bytes([byte]))
        assert slowly.is_attack
        assert hashlib.sha1(attack).digest() == slowly.digest()
    KERNEL.use_instructions()


@needs_compiled
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("at", [0, 1, 15, 16, 39])
def test_an_attack_is_seen_in_any_lane(attack, at):
    rng = random.Random(at)
    for sha, bits in WAYS:
        KERNEL.use_instructions(sha=sha, vector_bits=bits)
        messages = [rng.randbytes(rng.randrange(2000)) for _ in range(40)]
        assert -1 == KERNEL.hash_many(messages)[1]
        messages[at] = attack + rng.randbytes(77)
        assert at == KERNEL.hash_many(messages)[1]
    KERNEL.use_instructions()


@needs_compiled
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_block_that_differs_in_one_bit_is_no_attack(attack):
    # The last block is the one that is noticed; another bit in it makes another chaining value.
    changed = bytearray(attack)
    changed[-1] ^= 1
    assert not KERNEL.Sha1(bytes(changed)).is_attack
    # Nor is the same block after another beginning: the chaining value before it counts.
    assert not KERNEL.Sha1(b"\1" + bytes(63) + attack).is_attack


def test_a_vectors_further_conditions_have_room():
    folder = Path(__file__).parents[2] / "govc/kernels"
    room = re.search(r"#define FURTHER_MAX (\d+)", (folder / "sha1_vectors.h").read_text())
    everywhere, further = (folder / "sha1_conditions.h").read_text().split("#define FURTHER_CONDITIONS")
    words = r"CONDITION\(\d+, \d+, \d+, \d+, [01], (0x[0-9a-f]+)u\)"
    sets = [int(word, 16) for word in re.findall(words, further)]
    assert 156 == len(sets) + len(re.findall(words, everywhere))
    assert max(sum(each >> k & 1 for each in sets) for k in range(32)) <= int(room[1])


def test_openssl_sees_nothing():
    assert not twin("sha1").Sha1(SHATTERED[0]).is_attack
