"""What is read at once says the same as what is read line by line, and nothing else is read at once."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch import DEFAULT_COMMANDS, DEFAULT_KEYS, parse_command_request, parse_fetch_args
from govc.protocol.fetch_request import FetchRequest, LineChecks
from govc.protocol.oid import SHA1, SHA256
from govc.protocol.plain_fetch import HAVES_MAX, WANTS_MAX, check_wants, parse_plain_fetch
from tests.protocol.lines import body

HEAD = ("command=fetch", "agent=git/2.39.5", "object-format=sha1", "0001")
OPTIONS = ("thin-pack", "no-progress", "include-tag", "ofs-delta")


def hexed(number):
    return f"{number:040x}"


def oid(number):
    return number.to_bytes(20, "big")


class Checks(LineChecks):
    """Remembers what it was shown; lets `missing` not be there."""

    def __init__(self, missing=(), *, knows_many=True):
        self.missing = missing
        self.knows_many = knows_many
        self.shown = []

    def wants(self, oids):
        self.shown.append(list(oids))
        return self.knows_many and not set(oids) & set(self.missing)

    def want(self, oid):
        self.shown.append(oid)
        if oid in self.missing:
            raise RemoteProtocolError(f"not our ref {oid.hex()}")


def plain(data, algo=SHA1, commands=DEFAULT_COMMANDS, keys=DEFAULT_KEYS):
    return parse_plain_fetch(data, algo, commands=commands, keys=keys)


def line_by_line(data, checks):
    """What the long way says, and what it showed."""
    command = parse_command_request(data, "sha1")
    request = parse_fetch_args(command.args, SHA1, checks=checks)
    if command.fault is not None:
        raise command.fault
    return command.name, request


def want(number):
    return f"want {hexed(number)}"


def have(number):
    return f"have {hexed(number)}"


def test_the_fetch_of_every_day_is_plain():
    data = body(*HEAD, *OPTIONS, want(1), want(2), want(1), have(3), have(3), "done", "0000")
    assert plain(data) == FetchRequest(
        wants=(oid(1), oid(2)),
        haves=(oid(3), oid(3)),
        done=True,
        thin_pack=True,
        no_progress=True,
        include_tag=True,
        ofs_delta=True,
        side_band=65520,
    )
    assert plain(data) == line_by_line(data, Checks())[1]


PLAIN = body(*HEAD, *OPTIONS, want(1), have(2), "done", "0000")


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"0000",
        PLAIN[:-4],
        PLAIN.replace(b"0032want", b"0032wanT"),
        PLAIN.replace(b"0009done\n0000", b"0009done\n0001"),
        body(*HEAD, want(1), "0000"),
        body(*HEAD, *OPTIONS, "0000", want(1), "done", "0000"),
        body("command=fetch", "0000", "0001", *OPTIONS, want(1), "done", "0000"),
        body(*HEAD, *OPTIONS, f"want {'A' * 40}", "done", "0000"),
        body(*HEAD, *OPTIONS, "deepen 1", want(1), "done", "0000"),
        body(*HEAD, *OPTIONS, "filter blob:none", want(1), "done", "0000"),
        body(*HEAD, *OPTIONS, f"shallow {hexed(3)}", want(1), "done", "0000"),
        body(*HEAD, *OPTIONS, want(1), f"shallow {hexed(3)}", "done", "0000"),
        body(*HEAD, *OPTIONS, want(1), "done", have(2), "0000"),
        body(*HEAD, *OPTIONS, "done", want(1), "0000"),
        body(*HEAD, *OPTIONS, want(1) + " x", "0000"),
        body("command=ls-refs", "0001", *OPTIONS, want(1), "0000"),
        body("command=fetch", "object-format=sha256", "0001", *OPTIONS, want(1), "0000"),
        body("command=fetch", "nonsense", "0001", *OPTIONS, want(1), "0000"),
        body("command=fetch", "agent=0032want", want(1), "0000"),
        body("command=fetch", *OPTIONS, want(1), "0000"),
        body("command=fetch", "agent=" + "x" * 1100, "0001", *OPTIONS, want(1), "0000"),
        body(*HEAD, *OPTIONS, *map(want, range(WANTS_MAX + 1)), "0000"),
        body(*HEAD, *OPTIONS, want(1), *map(have, range(HAVES_MAX + 1)), "0000"),
        b"",
        b"0000",
    ],
)
def test_what_is_not_plain_is_left(data):
    assert plain(PLAIN) is not None
    assert plain(data) is None


def test_other_hashes_and_commands_that_are_off_are_left():
    assert plain(PLAIN, SHA256) is None
    assert plain(PLAIN, commands=frozenset({b"ls-refs"})) is None
    assert plain(PLAIN, keys=frozenset({b"object-format"})) is None
    assert plain(PLAIN) is not None


@pytest.mark.parametrize("knows_many", [True, False])
def test_wants_are_shown_as_they_are_line_by_line(knows_many):
    data = body(*HEAD, *OPTIONS, want(1), want(2), have(9), "done", "0000")
    ours, theirs = Checks(knows_many=knows_many), Checks(knows_many=knows_many)
    check_wants(plain(data), ours)
    line_by_line(data, theirs)
    assert ours.shown == theirs.shown != []
    missing = Checks([oid(2)])
    with pytest.raises(RemoteProtocolError, match=hexed(2)):
        check_wants(plain(data), missing)
    with pytest.raises(RemoteProtocolError, match=hexed(2)):
        line_by_line(data, Checks([oid(2)]))


ODD = ("wait-for-done", "sideband-all", "agent=0032want ", f"agent={want(1)}", "want-ref refs/heads/main", b"0008done")
LINES = st.lists(
    st.sampled_from(
        [*HEAD, *OPTIONS, want(1), want(2), have(1), have(2), "done", "0000", "deepen 1", "0002", "", *ODD]
    ),
    max_size=12,
)


@given(LINES, st.integers(0, 900), st.binary(max_size=3), st.integers(0, 6))
@example([*HEAD, *OPTIONS, want(1), have(2), "0000"], 900, b"", 0)
@example([*HEAD, *OPTIONS, "0000", "0000", want(1), "done", "0000"], 900, b"", 0)
def test_property_what_is_read_at_once_reads_the_same_line_by_line(lines, at, put, dropped):
    """Lines in any order, and behind a good head, cut and filled anywhere."""
    usual = [*map(want, range(1 + at % 3)), *map(have, range(at % 5)), *(["done"] if at % 2 else []), "0000"]
    for text in (body(*lines), body(*HEAD, *OPTIONS, *lines), body(*HEAD, *OPTIONS, *usual)):
        data = text[:at] + put + text[at + dropped :]
        request = plain(data)
        if request is not None:
            assert line_by_line(data, Checks()) == (b"fetch", request)
