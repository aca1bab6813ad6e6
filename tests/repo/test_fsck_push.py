import logging

import pytest

from govc.config.config import Config
from govc.config.values import BadConfigValue
from govc.objects.fsck_messages import FsckMessage, FsckPolicy, Severity
from govc.protocol.oid import SHA1
from govc.repo.fsck_push import push_fsck_policy

ON = ("receive.fsckObjects", "true")


@pytest.mark.rows("FK-01")
@pytest.mark.parametrize(
    ("pairs", "is_on"),
    [
        ([], False),
        ([ON], True),
        ([("transfer.fsckObjects", "true")], True),
        ([("transfer.fsckObjects", "true"), ("receive.fsckObjects", "false")], False),
        ([("transfer.fsckObjects", "false"), ON], True),
        ([("fetch.fsckObjects", "true")], False),
        ([("receive.fsckObjects", None)], True),
    ],
)
def test_the_check_is_switched_on_by_receive_else_transfer(pairs, is_on):
    policy = push_fsck_policy(Config.of(pairs), SHA1, "/nowhere")
    assert (FsckPolicy() if is_on else None) == policy


@pytest.mark.rows("FK-02")
def test_severities_come_from_receive_only():
    pairs = [ON, ("receive.fsck.missingEmail", "ignore"), ("fsck.hasDot", "ignore"), ("receive.fsck.HASDOTDOT", "warn")]
    policy = push_fsck_policy(Config.of(pairs), SHA1, "/nowhere")
    expected = {FsckMessage.MISSING_EMAIL: Severity.IGNORE, FsckMessage.HAS_DOTDOT: Severity.WARN}
    assert expected == policy.severities


@pytest.mark.rows("FK-03")
def test_unknown_messages_are_passed_over_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        policy = push_fsck_policy(Config.of([ON, ("receive.fsck.noSuch", "loud")]), SHA1, "/nowhere")
    assert FsckPolicy() == policy
    assert ["skipping unknown msg id 'nosuch'"] == caplog.messages


@pytest.mark.rows("FK-03", "FK-04")
@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("missingEmail", "loud", "Unknown fsck message type: 'loud'"),
        ("missingEmail", None, "missing value for 'receive.fsck.missingemail'"),
        ("nulInHeader", "warn", "Cannot demote nulinheader to warn"),
        ("skipList", "absent", "could not open object name list: absent"),
        ("skipList", None, "missing value"),
    ],
)
def test_bad_values_are_refused(key, value, text):
    with pytest.raises(BadConfigValue, match=text):
        push_fsck_policy(Config.of([ON, (f"receive.fsck.{key}", value)]), SHA1, "/nowhere")


@pytest.mark.rows("FK-05")
def test_skip_lists_add_up(tmp_path):
    first, second = b"1" * 40, b"Ab" * 20
    (tmp_path / "one").write_bytes(b"# comment\n\n  \n" + first + b" # why\r\n")
    (tmp_path / "two").write_bytes(b"\t" + second)
    pairs = [ON, ("receive.fsck.skipList", "one"), ("receive.fsck.skiplist", str(tmp_path / "two"))]
    policy = push_fsck_policy(Config.of(pairs), SHA1, str(tmp_path))
    assert {bytes.fromhex(first.decode()), bytes.fromhex(second.decode())} == policy.skip_oids


@pytest.mark.parametrize("line", [b"xyz", b"1" * 39, b"1" * 41, b"1" * 40 + b" x"])
def test_junk_in_a_skip_list_is_refused(tmp_path, line):
    (tmp_path / "list").write_bytes(line)
    with pytest.raises(BadConfigValue, match="invalid object name: "):
        push_fsck_policy(Config.of([ON, ("receive.fsck.skipList", "list")]), SHA1, str(tmp_path))


def test_nothing_is_read_when_the_check_is_off():
    assert push_fsck_policy(Config.of([("receive.fsck.skipList", "absent")]), SHA1, "/nowhere") is None
