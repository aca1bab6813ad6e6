"""What the fuzzers have found, each as the smallest input that shows it. docs/fuzzing.md lists them."""

import hashlib
import os
import struct
import zlib
from array import array

import pytest

from govc.archive.pathspec import parse_pathspec
from govc.archive.substitute import CommitFacts, Substitution
from govc.auth.gate import Gate
from govc.auth.introspection import IntrospectionChecker, IntrospectionRules
from govc.auth.permission_file import parse_permissions
from govc.auth.principal import BadAuthFile, LoginFailed
from govc.errors import CorruptPack, LimitExceeded
from govc.graph.bitmap_file import BitmapFile
from govc.graph.ewah import CorruptBitmap, encode_ewah
from govc.objects.types import BLOB, TREE, hash_object
from govc.odb.alternates import find_object_directories, parse_alternates
from govc.pack import indexer
from govc.pack.delta import make_delta
from govc.pack.entry import encode_entry_header
from govc.pack.limits import IndexLimits
from govc.pack.tables import EntryTable, RefChildren
from govc.protocol.oid import SHA1, SHA256
from govc.refs.reftable.columns import TableRefs
from govc.settings import BadSetting, load_settings
from govc.wal.checkpoint import Checkpoint, decode_checkpoint
from govc.wal.errors import LogDamaged
from govc.wal.reader import Position
from govc.web.redaction import redact
from tests.fuzz.targets.stored import OnePack, Stored, copy_all, open_stored, plain_index
from tests.fuzz.targets.texts import remove_scratch
from tests.kernels.both import compiled, needs_compiled
from tests.pack.conftest import pack_of, ref

TREE_OID, PARENT = b"1" * 40, b"2" * 40


def substitution(extra: bytes = b"", message: bytes = b"m\n") -> Substitution:
    data = b"tree %b\nparent %b\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n%b\n%b"
    commit = data % (TREE_OID, PARENT, extra, message)
    return Substitution(CommitFacts(oid=b"\1" * 20, data=commit, shorten=lambda oid: oid.hex()[:7].encode()))


@pytest.mark.parametrize("spec", [b"./", b":(top)./", b":/", b".//."])
def test_an_archive_of_the_whole_folder_descends_into_it(spec: bytes) -> None:
    parsed = parse_pathspec([spec])
    assert parsed.matches("a/b")
    assert parsed.may_match_below("a/")


def test_a_line_that_looks_like_a_parent_is_none_when_it_stands_elsewhere() -> None:
    made = substitution(b"parent nonsense\xd5\ntree nothing\n")
    assert PARENT == made.expand(b"%P")
    assert PARENT[:7] == made.expand(b"%p")
    assert TREE_OID == made.expand(b"%T")


@pytest.mark.parametrize("name", [b"x\0y", b"punycode", b"idna", b"unicode_escape", b"no such", b"x" * 100])
def test_an_encoding_that_no_iconv_knows_leaves_the_text_alone(name: bytes) -> None:
    assert b"a\\x41-\xe9\n" == substitution(b"encoding %b\n" % name, b"a\\x41-\xe9\n").expand(b"%B")


def test_alternates_end_at_a_nul(tmp_path) -> None:
    assert [b"a"] == parse_alternates(b"a\0b\nc", b"\n")
    assert [] == parse_alternates(b'"\\000b"\n', b"\n")
    (tmp_path / "info").mkdir()
    (tmp_path / "info/alternates").write_bytes(b"x\0y\n")
    assert (str(tmp_path),) == find_object_directories(str(tmp_path)).directories


@needs_compiled
@pytest.mark.parametrize("kernel", [True, False])
def test_a_base_that_completes_a_thin_pack_is_not_judged_as_if_it_had_come(tmp_path, monkeypatch, kernel: bool) -> None:
    """fsck of a push must not refuse it for an old object of the repository; git doesn't either."""
    monkeypatch.setattr(indexer, "find_compiled", lambda name: compiled("indexing") if kernel else None)
    base = b"100644 a\0" + b"\1" * 20
    target = base + b"100644 b\0" + b"\2" * 20
    oid = hash_object(SHA1, TREE, base)
    path = tmp_path / "thin.pack"
    path.write_bytes(pack_of(ref(oid, make_delta(base, target))))
    seen = []
    fd = os.open(path, os.O_RDWR)
    try:
        indexed = indexer.index_pack(
            fd,
            SHA1,
            base_reader={oid: (TREE, base)}.get,
            known=lambda name: name == oid,
            existing_reader=lambda name: (TREE, b"something else"),
            visit=lambda *call: seen.append(call),
        )
    finally:
        os.close(fd)
    assert [(hash_object(SHA1, TREE, target), TREE, target)] == seen
    assert not indexed.known_positions
    assert 1 == indexed.thin_bases_appended


@needs_compiled
@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("children", [1, 2])
def test_a_base_that_completes_a_thin_pack_keeps_to_the_limit_of_what_is_held(
    tmp_path, monkeypatch, kernel: bool, children: int
) -> None:
    """It depended on how often the base was read whether such a pack was refused."""
    monkeypatch.setattr(indexer, "find_compiled", lambda name: compiled("indexing") if kernel else None)
    base = bytes(range(256)) * 2000
    oid = hash_object(SHA1, BLOB, base)
    path = tmp_path / "thin.pack"
    path.write_bytes(pack_of(*(ref(oid, make_delta(base, base[:1000] + bytes([n]))) for n in range(children))))
    fd = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(LimitExceeded, match="object bytes in memory: more than 300000"):
            indexer.index_pack(
                fd,
                SHA1,
                base_reader={oid: (BLOB, base)}.get,
                limits=IndexLimits(delta_result_bytes_max=300_000, base_cache_bytes=0),
            )
    finally:
        os.close(fd)


@needs_compiled
def test_an_index_that_points_far_beyond_its_pack_is_damage_and_no_error_of_the_system() -> None:
    body = b"PACK\0\0\0\2\0\0\0\2" + 2 * (encode_entry_header(BLOB, 3) + zlib.compress(b"abc"))
    trailer = SHA1.new(body).digest()
    idx = plain_index(SHA1, [b"\1" * 20, b"\2" * 20], [12, (1 << 64) - 1], trailer)
    pack = open_stored(Stored(body + trailer, idx, b"", SHA1, 0))
    try:
        packread = compiled("packread")
        reader = packread.PackReader(packread.PackTable([pack.kernel_source()], 20), 0, 1 << 20)
        with pytest.raises(CorruptPack, match="became shorter"):
            copy_all(OnePack(pack), reader, array("q", [1]), None, 1000)
    finally:
        pack.close()
        remove_scratch()


def test_the_table_of_waiting_deltas_is_right_without_looking_at_every_key() -> None:
    table = EntryTable(SHA1, 4)
    names = [bytes(20), b"\xff" * 20, b"\1\2" + bytes(18), b"\1\2" + bytes(18)]
    table.ref_entries.extend(range(4))
    table.ref_base_oids += b"".join(names)
    waiting = RefChildren(table)
    fanout = waiting.columns[2]
    assert 65537 == len(fanout)
    keys = sorted(name[0] << 8 | name[1] for name in names)
    assert all(fanout[key] == sum(k < key for k in keys) for key in (0, 1, 257, 258, 259, 65535, 65536))
    assert array("I", [2, 3]) == waiting.find(names[2])
    assert waiting.find(b"\1\3" + bytes(18)) is None


CHECKPOINT = Checkpoint(
    position=Position(1, 512, 3, bytes(32)),
    log_id=bytes(16),
    boot=bytes(16),
    time_ns=0,
    table_sequence=0,
    table_checksum=bytes(32),
    changes={b"refs/heads/a": b"\1" * 20},
    packs=(b"pack-x",),
)


def test_a_checkpoint_that_has_refs_without_a_mark_is_damaged() -> None:
    """They would be lost when it is written again."""
    body = CHECKPOINT.encode()[:-32]
    for mark, is_good in ((b"mark", True), (b"", False)):
        tail = struct.pack(">HI", len(mark), 1) + mark + b"\0\6refs/x"
        data = body + tail + hashlib.sha256(body + tail).digest()
        if is_good:
            assert (b"refs/x",) == decode_checkpoint(data, "checkpoint").loose
        else:
            with pytest.raises(LogDamaged):
                decode_checkpoint(data, "checkpoint")


def test_a_checkpoint_whose_counts_lie_is_damaged() -> None:
    good = CHECKPOINT.encode()[:-32]
    counts_at = struct.calcsize(">8sH6xQQQ32s16s16sqQ32s")
    for at in range(counts_at, counts_at + 12, 4):
        for number in (0, 1, 2, 0xFFFFFFFF):
            body = bytearray(good)
            if body[at : at + 4] == number.to_bytes(4, "big"):
                continue
            body[at : at + 4] = number.to_bytes(4, "big")
            with pytest.raises(LogDamaged):
                decode_checkpoint(bytes(body) + hashlib.sha256(body).digest(), "checkpoint")


@pytest.mark.parametrize("text", [b"workers = " + b"9" * 5000, b"x = " + b"[" * 5000])
def test_a_settings_file_that_no_reader_can_take_is_refused_by_name(tmp_path, text: bytes) -> None:
    path = tmp_path / "govc.toml"
    path.write_bytes(text)
    with pytest.raises(BadSetting, match=r"govc\.toml"):
        load_settings({}, file_path=str(path))


def test_a_number_of_thousands_of_digits_in_a_permission_file_is_refused() -> None:
    with pytest.raises(BadAuthFile):
        parse_permissions(b"n = " + b"9" * 5000, "permissions.toml")


def test_key_ops_that_are_no_list_leave_a_key_out() -> None:
    jwks = pytest.importorskip("govc.auth.jwks", reason="joserfc is not installed")
    good = b'{"kty": "OKP", "crv": "Ed25519", "x": "' + b"A" * 43 + b'"}'
    content = b'{"keys": [{"kty": "OKP", "key_ops": 5}, {"kty": "RSA", "key_ops": null}, %b]}' % good
    assert 1 == len(jwks.parse_keys(content, "keys"))


def test_a_token_that_expires_at_no_number_is_refused() -> None:
    rules = IntrospectionRules(url="https://x", client_id="a", client_secret="b")
    gate = Gate(running_max=1, waiting_max=1, wait_seconds=1)
    answer = {"active": True, "username": "ann", "exp": float("nan")}
    with pytest.raises(LoginFailed):
        IntrospectionChecker(rules, lambda token: answer, gate).check("token", None)


JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "line", [f"%20{JWT}", f"token{JWT}", f"JBearer%20{JWT}", "xBasic c2VjcmV0LXNlY3JldA==", f"Bearer {JWT}Invalid"]
)
def test_a_secret_is_cut_out_whatever_stands_before_it(line: str) -> None:
    assert "c2lnbmF0dXJl" not in redact(line)
    assert "c2VjcmV0" not in redact(line)


def test_what_gunicorn_quotes_is_cut_out_behind_another_secret() -> None:
    line = f"Bearer {JWT}Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'X hunter2'"
    assert "hunter2" not in redact(line)


def test_an_empty_table_of_sha256_refs_takes_oids_of_its_own_size() -> None:
    columns = TableRefs.of([], SHA256.oid_size).columns.replaced([(b"refs/heads/a", b"\5" * 32, None)])
    assert b"\5" * 32 == columns.get(b"refs/heads/a")


def test_a_bitmap_that_is_xored_with_itself_is_refused():
    """A commit twice, the second time based on itself: decoding it went round for ever."""
    words = encode_ewah(1, 3)
    entries = b"\0\0\0\1\0\1" + words + b"\0\0\0\1\1\1" + words
    body = b"BITM\0\1\0\1\0\0\0\2" + b"\1" * 20 + 4 * words + entries
    with pytest.raises(CorruptBitmap, match="an entry makes no sense"):
        BitmapFile(body + SHA1.new(body).digest(), SHA1, 3)
