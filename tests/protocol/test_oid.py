import copy
import hashlib
import pickle

import pytest

from govc.protocol.oid import SHA1, SHA256, _for_names, find_algorithm


@pytest.mark.parametrize("algo", [SHA1, SHA256])
def test_an_object_format_stays_itself_in_another_process(algo):
    assert pickle.loads(pickle.dumps(algo)) is algo is copy.deepcopy(algo) is find_algorithm(algo.name)
    assert hashlib.new(algo.name, b"abc").digest() == algo.new(b"abc").digest()
    assert (len(algo.zero), len(algo.zero_hex)) == (algo.oid_size, algo.hex_size)


def test_where_a_hash_is_forbidden_for_security_it_is_asked_for_names():
    def forbidden(data=b"", *, usedforsecurity=True):
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return hashlib.sha256(data)

    new = _for_names(forbidden)
    assert hashlib.sha256(b"abc").digest() == new(b"abc").digest()
    assert hashlib.sha256().digest() == new().digest()
