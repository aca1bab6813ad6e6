import pytest

from govc.protocol.bundle_uri import check_bundle_uri_args, encode_bundle_uri
from govc.protocol.errors import RemoteProtocolError


def test_pairs_are_told_and_empty_values_left_out():
    assert encode_bundle_uri([(b"bundle.version", b"1"), (b"bundle.x", b"")]) == b"0014bundle.version=10000"
    assert encode_bundle_uri([]) == b"0000"


def test_arguments_are_refused():
    check_bundle_uri_args([])
    with pytest.raises(RemoteProtocolError, match="bundle-uri: unexpected argument: 'foo'"):
        check_bundle_uri_args([b"foo"])
