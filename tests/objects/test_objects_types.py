import hashlib

import pytest

from govc.objects.types import TYPE_NAMES, TYPE_NUMBERS, encode_object_header, hash_object
from govc.protocol.oid import SHA1, SHA256


def test_the_empty_blob_and_the_empty_tree_have_their_famous_names():
    assert "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" == hash_object(SHA1, TYPE_NUMBERS[b"blob"], b"").hex()
    assert "4b825dc642cb6eb9a060e54bf8d69288fbee4904" == hash_object(SHA1, TYPE_NUMBERS[b"tree"], b"").hex()


def test_sha256_names_hash_the_same_bytes():
    expected = hashlib.sha256(b"blob 3\0abc").digest()
    assert expected == hash_object(SHA256, 3, b"abc")


@pytest.mark.parametrize("number", TYPE_NAMES)
def test_names_and_numbers_are_inverse(number):
    assert number == TYPE_NUMBERS[TYPE_NAMES[number]]


def test_the_header_states_the_size_in_decimal():
    assert b"commit 1234\0" == encode_object_header(1, 1234)
