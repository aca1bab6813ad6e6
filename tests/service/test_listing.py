"""Listings put together from kept lines are those that are made ref by ref."""

import os
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govc.odb.cache import BaseCache
from govc.protocol.advertisement import AdvertisedRef, encode_advertised
from govc.repo.repository import Repository, Surroundings
from govc.repo.runtime import PLAIN
from govc.service.advertise import Pieces, advertise
from govc.service.context import RequestContext
from govc.service.listing import PackedLines, Style, listing
from govc.service.ls_refs import ls_refs
from govc.service.pacing import Pace
from govc.service.shown import ShownRefs

STYLE = Style("test", lambda ref: encode_advertised(AdvertisedRef(ref.name, ref.oid, ref.peeled)), peel=True)
PACE = Pace(lambda: None)

names = st.sampled_from(
    [
        *(f"refs/heads/{letter}" for letter in "abcdef"),
        "refs/heads/a0",
        "refs/hidden/x",
        "refs/hidden/y",
        "refs/tags/t",
        "refs/tags/u",
        "refs/namespaces/n/refs/heads/a",
        "refs/namespaces/n/refs/heads/b",
        "refs/namespaces/n/refs/hidden/z",
    ]
)


def run(*arguments, cwd=None):
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An empty-handed repository with three commits and a tag object."""
    path = tmp_path_factory.mktemp("listing") / "r.git"
    run("init", "-q", "--bare", str(path))
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    tree = run("hash-object", "-w", "-t", "tree", "/dev/null", cwd=path)
    oids = [run(*identity, "commit-tree", "-m", str(n), tree, cwd=path) for n in range(3)]
    text = f"object {oids[0]}\ntype commit\ntag t\ntagger A <a@example.com> 1700000000 +0000\n\nt\n"
    made = subprocess.run(
        ["git", "hash-object", "-w", "-t", "tag", "--stdin"],
        cwd=path,
        input=text,
        check=True,
        capture_output=True,
        text=True,
    )
    return path, [*oids, made.stdout.strip()]


def open_repository(path, hidden=()):
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    environ["GIT_CONFIG_COUNT"] = str(len(hidden))
    for number, pattern in enumerate(hidden):
        environ[f"GIT_CONFIG_KEY_{number}"] = "transfer.hiderefs"
        environ[f"GIT_CONFIG_VALUE_{number}"] = pattern
    return Repository(str(path), Surroundings(environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30))


def set_refs(path, oids, packed, loose, head):
    run("for-each-ref", cwd=path)
    for folder, _, files in os.walk(path / "refs", topdown=False):
        for name in files:
            os.unlink(f"{folder}/{name}")
    lines = ["# pack-refs with: peeled fully-peeled sorted "]
    for name in sorted(packed):
        lines.append(f"{oids[packed[name]]} {name}")
        if packed[name] == 3:
            lines.append(f"^{oids[0]}")
    (path / "packed-refs").write_text("\n".join(lines) + "\n")
    for name, value in loose.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"{oids[value]}\n" if isinstance(value, int) else f"ref: {value}\n")
    (path / "HEAD").write_text(f"ref: {head}\n")


def plain(shown):
    return b"".join(STYLE.encode(ref) for ref in shown.iter_refs(peel=shown.snapshot.peel))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    packed=st.dictionaries(names, st.integers(0, 3)),
    loose=st.lists(st.dictionaries(names, st.integers(0, 3) | names, max_size=4), min_size=1, max_size=3),
    hidden=st.lists(st.sampled_from(["refs/hidden", "!refs/hidden/x", "refs/heads/c"]), max_size=3),
    namespace=st.sampled_from([b"", b"n"]),
    head=names,
)
def test_property_a_listing_of_kept_lines_is_the_listing(world, packed, loose, hidden, namespace, head):
    path, oids = world
    set_refs(path, oids, packed, loose[0], head)
    repository = open_repository(path, hidden)
    for change in loose:
        set_refs(path, oids, packed, change, head)
        snapshot = repository.snapshot()
        for section in ("uploadpack", "receive"):
            shown = ShownRefs(snapshot, section, namespace)
            assert b"".join(listing(shown, STYLE, PACE)) == plain(ShownRefs(snapshot, section, namespace))
        fresh = open_repository(path, hidden).snapshot()
        for service in ("upload-pack", "receive-pack"):
            context = RequestContext(service=service, namespace=namespace)
            assert advertise(snapshot, context, {}) == advertise(fresh, context, {})
        for args in ([], [b"peel"], [b"symrefs"], [b"peel", b"symrefs", b"unborn"]):
            whole = ls_refs(snapshot, namespace, args)[0]
            by_prefix = ls_refs(fresh, namespace, [*args, b"ref-prefix HEAD", b"ref-prefix refs/h"])[0]
            by_prefix += ls_refs(fresh, namespace, [*args, b"ref-prefix refs/n", b"ref-prefix refs/t"])[0]
            assert whole.replace(b"0000", b"") == by_prefix.replace(b"0000", b"")


def test_lines_are_kept_while_nothing_that_they_say_changes(world, monkeypatch):
    path, oids = world
    set_refs(path, oids, {"refs/heads/a": 0, "refs/heads/b": 1}, {}, "refs/heads/a")
    repository = open_repository(path)
    encoded = []
    style = Style("counted", lambda ref: encoded.append(ref.name) or STYLE.encode(ref), peel=True)

    def ask():
        encoded.clear()
        text = b"".join(listing(ShownRefs(repository.snapshot(), "uploadpack", b""), style, Pace(PLAIN.pause)))
        assert text == plain(ShownRefs(repository.snapshot(), "uploadpack", b""))
        return encoded[:]

    assert ask() == [b"refs/heads/a", b"refs/heads/b"]
    assert ask() == []
    (path / "refs/heads/b").write_text(f"{oids[2]}\n")
    assert ask() == [b"refs/heads/b"]
    assert ask() == []
    (path / "refs/heads/c").write_text(f"{oids[2]}\n")
    assert ask() == [b"refs/heads/c"]
    (path / "refs/heads/c").unlink()
    assert ask() == []
    set_refs(path, oids, {"refs/heads/a": 2}, {}, "refs/heads/a")
    assert ask() == [b"refs/heads/a"]
    run("config", "transfer.hideRefs", "refs/heads/a", cwd=path)
    assert ask() == []
    assert repository.snapshot().lasting
    run("config", "--unset", "transfer.hideRefs", cwd=path)
    assert ask() == [b"refs/heads/a"]


def test_what_lacks_a_ref_whose_object_is_missing_is_not_kept(world):
    path, oids = world
    set_refs(path, [*oids[:3], "ab" * 20], {"refs/heads/a": 0, "refs/heads/b": 3}, {}, "refs/heads/a")
    (path / "packed-refs").write_text(f"# pack-refs with: sorted \n{oids[0]} refs/heads/a\n{'ab' * 20} refs/heads/b\n")
    snapshot = open_repository(path).snapshot()
    assert b"".join(listing(ShownRefs(snapshot, "uploadpack", b""), STYLE, PACE)).count(b"refs/") == 1
    assert not snapshot.lasting


@pytest.mark.parametrize("bytes_max", [1, 64, 100, 1 << 20])
def test_blocks_of_lines_are_cut_at_any_two_positions(monkeypatch: pytest.MonkeyPatch, bytes_max: int) -> None:
    monkeypatch.setattr("govc.service.listing.BLOCK_BYTES", bytes_max)
    lines = [b"x" * (number % 7 * 11) for number in range(40)]
    packed = PackedLines(5, lines)
    for low in range(41):
        for high in range(low, 41):
            assert b"".join(lines[low:high]) == b"".join(packed.between(5 + low, 5 + high))


def test_pieces_are_the_body_in_chunks_worth_sending() -> None:
    sizes = [100, 200, 40_000, 3, 50_000, 60_000, *[1000] * 100, 70_000, 1]
    whole = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    body = Pieces.of(whole)
    assert (len(b"".join(whole)), b"".join(whole)) == (body.length, b"".join(body.chunks))
    assert len(body.chunks) <= 14
    assert whole[2] is body.chunks[1]  # what is large is no copy


def test_a_large_advertisement_in_pieces_is_the_same_with_a_nonce_of_its_own(tmp_path, monkeypatch):
    path = tmp_path / "r.git"
    run("init", "-q", "--bare", str(path))
    tree = run("hash-object", "-w", "-t", "tree", "/dev/null", cwd=path)
    oid = run("-c", "user.name=A", "-c", "user.email=a@example.com", "commit-tree", "-m", "1", tree, cwd=path)
    set_refs(path, [oid], {f"refs/heads/{number:04}": 0 for number in range(500)}, {}, "refs/heads/0000")
    repository = open_repository(path)
    subprocess.run(["git", "-C", path, "config", "receive.certNonceSeed", "seed"], check=True)
    context = RequestContext(service="receive-pack")
    whole = advertise(repository.snapshot(), context, {}, now_seconds=lambda: 1_700_000_000)
    assert b"push-cert=1700000000-" in whole
    monkeypatch.setattr("govc.service.advertise.PIECES_BYTES_MIN", 1000)
    fresh = open_repository(path).snapshot()
    for seconds in (1_700_000_000, 1_700_000_001):
        body = advertise(fresh, context, {}, now_seconds=lambda seconds=seconds: seconds)
        assert isinstance(body, Pieces)
        assert (body.length, b"".join(body.chunks)[:4]) == (len(whole), whole[:4])
        assert b"push-cert=%d-" % seconds in body.chunks[0]
    assert advertise(fresh, context, {}, now_seconds=lambda: 1_700_000_000).chunks == (whole,)
