"""The context of one more request in the same words."""

from dataclasses import fields, replace

from govc.auth.principal import Principal
from govc.service.context import RequestContext


def is_gone():
    return True


def test_that_of_another_request_is_the_same_but_for_the_request():
    given = {
        "service": "upload-pack",
        "protocol_version": 2,
        "remote_user": "ann",
        "principal": Principal(user="ann", method="basic"),
        "remote_addr": "192.0.2.1",
        "request_id": "one",
        "namespace": b"n",
        "visibility": "v",
        "is_discovery": True,
        "environ": {"A": "b"},
        "is_gone": lambda: False,
        "takes_whole": True,
    }
    first = RequestContext(**given)
    defaults = RequestContext(service="")
    assert all(getattr(first, field.name) != getattr(defaults, field.name) for field in fields(RequestContext))
    assert first.for_another("two", is_gone) == replace(first, request_id="two", is_gone=is_gone)
