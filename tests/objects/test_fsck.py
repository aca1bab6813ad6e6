import pickle

import pytest

from govc.objects.fsck import PushFsck
from govc.objects.fsck_messages import FsckMessage, FsckPolicy, Severity, find_message
from govc.objects.types import BLOB, COMMIT, TAG, TREE
from govc.protocol.oid import SHA1, SHA256

OID = bytes(range(1, 21))
OTHER = bytes(range(2, 22))
HEX = OID.hex().encode()
PERSON = b"A <a@b> 1 +0000"
GOOD_COMMIT = b"tree %s\nauthor %s\ncommitter %s\n\nm\n" % (HEX, PERSON, PERSON)
GOOD_TAG = b"object %s\ntype commit\ntag v1\ntagger %s\n\nm\n" % (HEX, PERSON)
NO_EMAIL = GOOD_COMMIT.replace(b"A <a@b>", b"A")


def entry(mode, name, oid=OID):
    return b"%s %s\0%s" % (mode, name, oid)


def check(type_number, content, policy=None, algo=SHA1):
    fsck = PushFsck(policy or FsckPolicy(), algo)
    fsck.visit(OID, type_number, content)
    return fsck


def ids(fsck):
    return [(finding.message_id, finding.severity) for finding in fsck.findings]


def blob_ids(name, found, *, missing_ok=False, policy=None):
    fsck = check(TREE, entry(b"100644", name, OTHER), policy)
    asked = []
    fsck.finish(lambda oid: (asked.append(oid), found)[1], missing_ok=missing_ok)
    assert [OTHER] == asked
    return ids(fsck)


@pytest.mark.rows("FK-06")
def test_findings_are_worded_as_git_does():
    fsck = check(TREE, entry(b"40000", b".git"))
    text = f"object {OID.hex()}: hasDotgit: contains '.git'"
    assert [(OID, "hasDotgit", Severity.ERROR, text)] == fsck.findings
    assert ["error: " + text, "fatal: fsck error in packed object"] == list(fsck.iter_lines())
    fsck = check(TREE, entry(b"100600", b"x"))
    assert [f"warning: object {OID.hex()}: badFilemode: contains bad file modes"] == list(fsck.iter_lines())
    assert (None, [], 1) == (fsck.refusal, fsck.errors, len(fsck.warnings))


def test_text_of_a_finding_is_fit_to_be_shown():
    fsck = check(TAG, GOOD_TAG.replace(b"v1", b"\x1b[31m\x07\xff"))
    assert f"object {OID.hex()}: badTagName: invalid 'tag' name: ?[31m?\ufffd" == fsck.warnings[0].text
    fsck = check(TAG, GOOD_TAG.replace(b"v1", b" " * 100_000))
    assert len(fsck.warnings[0].text) < 5000


@pytest.mark.rows("FK-16", "FK-17", "FK-18", "FK-19", "FK-21")
@pytest.mark.parametrize(
    ("content", "message_id"),
    [
        (b"x\n", "missingTree"),
        (b"\n", "missingTree"),
        (b"tree x\n", "badTreeSha1"),
        (b"tree %sa\n" % HEX, "badTreeSha1"),
        (b"tree %s\nparent x\n" % HEX, "badParentSha1"),
        (b"tree %s\nparent %s \n" % (HEX, HEX), "badParentSha1"),
        (b"tree %s\n" % HEX, "missingAuthor"),
        (b"tree %s\nauthor %s\n" % (HEX, PERSON), "missingCommitter"),
        (b"", "unterminatedHeader"),
        (b"tree \0", "nulInHeader"),
    ],
)
def test_commits_that_git_cannot_even_parse(content, message_id):
    assert [(message_id, Severity.ERROR)] == ids(check(COMMIT, content))


@pytest.mark.rows("FK-32", "FK-33", "FK-34", "FK-36", "FK-37")
@pytest.mark.parametrize(
    ("content", "message_id"),
    [
        (b"x\n", "missingObject"),
        (b"object x\n", "badObjectSha1"),
        (b"object %s\n" % HEX, "missingTypeEntry"),
        (b"object %s\ntype foo\n" % HEX, "badType"),
        (b"object %s\ntype tag\n" % HEX, "missingTagEntry"),
        (b"object %s\ntype tag\nfoo\n" % HEX, "missingTagEntry"),
    ],
)
def test_tags_that_git_cannot_even_parse(content, message_id):
    assert [(message_id, Severity.ERROR)] == ids(check(TAG, content))


@pytest.mark.rows("FK-12", "FK-35", "FK-38")
@pytest.mark.parametrize("content", [b"object %s\ntype commit" % HEX, b"object %s\ntype commit\ntag v1" % HEX])
def test_a_tag_that_is_cut_short_has_an_unterminated_header(content):
    """missingType and missingTag have no way to be found: this one comes first."""
    assert [("unterminatedHeader", Severity.ERROR)] == ids(check(TAG, content))


@pytest.mark.rows("FK-59")
def test_long_names_and_their_limit():
    content = entry(b"100644", b"a" * 4097)
    assert [("largePathname", Severity.ERROR)] == ids(check(TREE, content))
    assert [] == ids(check(TREE, entry(b"100644", b"a" * 4096)))
    policy = FsckPolicy.from_pairs([("largepathname", "warn:2")])
    assert [("largePathname", Severity.WARN)] == ids(check(TREE, entry(b"100644", b"aaa"), policy))
    assert 5 << 10 == FsckPolicy.from_pairs([("largepathname", "error:5k")]).tree_entry_bytes_max


def test_sha256_objects_are_checked_by_their_own_size():
    tree = entry(b"100644", b"a", bytes(range(32)))
    assert [] == ids(check(TREE, tree, algo=SHA256))
    assert [("nullSha1", Severity.ERROR)] == ids(check(TREE, entry(b"100644", b"a", bytes(32)), algo=SHA256))
    assert [("badTree", Severity.ERROR)] == ids(check(TREE, entry(b"100644", b"a"), algo=SHA256))
    assert [] == ids(check(COMMIT, GOOD_COMMIT.replace(HEX, b"a" * 64), algo=SHA256))
    assert [("badTreeSha1", Severity.ERROR)] == ids(check(COMMIT, GOOD_COMMIT, algo=SHA256))


@pytest.mark.rows("FK-02")
def test_severities_are_configurable():
    assert [("missingEmail", Severity.ERROR)] == ids(check(COMMIT, NO_EMAIL))
    ignore = FsckPolicy.from_pairs([("missingemail", "ignore")])
    assert [] == ids(check(COMMIT, NO_EMAIL, ignore))
    # both lines lack it, and a warning doesn't end the check
    warn = check(COMMIT, NO_EMAIL, FsckPolicy.from_pairs([("missingemail", "error"), ("missingemail", "warn")]))
    assert ([("missingEmail", Severity.WARN)] * 2, None) == (ids(warn), warn.refusal)
    strict_tag = FsckPolicy.from_pairs([("missingtaggerentry", "error"), ("extraheaderentry", "warn")])
    tagger = b"tagger " + PERSON + b"\n"
    assert [("missingTaggerEntry", Severity.ERROR)] == ids(check(TAG, GOOD_TAG.replace(tagger, b""), strict_tag))
    assert [("extraHeaderEntry", Severity.WARN)] == ids(
        check(TAG, GOOD_TAG.replace(tagger, tagger + b"x\n"), strict_tag)
    )


def test_without_strict_warnings_stay_warnings():
    content = entry(b"100664", b".git")
    expected = [("hasDotgit", Severity.WARN)]
    assert expected == ids(check(TREE, content, FsckPolicy(strict=False)))


@pytest.mark.rows("FK-03", "FK-04")
@pytest.mark.parametrize(
    ("pair", "text"),
    [
        (("nosuchthing", "warn"), "Unhandled message id: nosuchthing"),
        (("missingemail", "loud"), "Unknown fsck message type: 'loud'"),
        (("missingemail", "fatal"), "Unknown fsck message type: 'fatal'"),
        (("missingemail", "warn:5"), "Unknown fsck message type: 'warn:5'"),
        (("nulinheader", "warn"), "Cannot demote nulinheader to warn"),
        (("unterminatedheader", "ignore"), "Cannot demote unterminatedheader to ignore"),
        (("largepathname", "warn:x"), "unable to parse max tree entry len: x"),
    ],
)
def test_bad_configuration_is_refused_in_gits_words(pair, text):
    with pytest.raises(ValueError, match="^" + text.replace("(", r"\(") + "$"):
        FsckPolicy.from_pairs([pair])


def test_fatal_messages_may_be_configured_as_errors():
    assert Severity.ERROR is FsckPolicy.from_pairs([("nulinheader", "error")]).severity_of(FsckMessage.NUL_IN_HEADER)


def test_keys_are_the_printed_names_in_lower_case():
    for message in FsckMessage:
        assert message is find_message(message.printed.lower())
        assert message.name == "".join("_" + c if c.isupper() else c.upper() for c in message.printed)


@pytest.mark.rows("FK-05")
def test_skipped_objects_are_let_off_but_their_blobs_are_not():
    policy = FsckPolicy(skip_oids=frozenset({OID}))
    assert [] == ids(check(COMMIT, b"", policy)) == ids(check(TAG, b"", policy))
    assert [] == ids(check(TREE, entry(b"40000", b".git"), policy))
    blob = (BLOB, b'[submodule ".."]\na\n')
    assert [("gitmodulesName", Severity.ERROR)] == blob_ids(b".gitmodules", blob, policy=policy)
    skipping = FsckPolicy(skip_oids=frozenset({OTHER}))
    fsck = check(TREE, entry(b"100644", b".gitmodules", OTHER), skipping)
    fsck.finish(lambda oid: blob)
    assert [] == fsck.findings


@pytest.mark.rows("FK-08", "FK-10", "FK-47", "FK-48", "FK-49", "FK-50", "FK-51", "FK-52")
@pytest.mark.parametrize("name", ["gitmodules", "gitattributes"])
def test_special_blobs_that_are_none_or_not_there(name):
    path = b"." + name.encode()
    assert [(f"{name}Missing", Severity.ERROR)] == blob_ids(path, None)
    assert [] == blob_ids(path, None, missing_ok=True)
    assert [(f"{name}Blob", Severity.ERROR)] == blob_ids(path, (TREE, b""))
    assert [(f"{name}Large", Severity.ERROR)] == blob_ids(path, (BLOB, None))
    assert [] == blob_ids(path, (BLOB, b""))


def test_a_byte_order_mark_hides_nothing():
    assert [("gitmodulesName", Severity.ERROR)] == blob_ids(
        b".gitmodules", (BLOB, b'\xef\xbb\xbf[submodule ".."]\na\n')
    )
    assert [("gitmodulesPath", Severity.ERROR)] == blob_ids(b".gitmodules", (BLOB, b'[submodule "\xff"]\npath = -\n'))


@pytest.mark.rows("FK-43")
@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        (b"http://:80/x", False),
        (b"http://h:0/x", False),
        (b"http://h:080/x", True),
        (b"http://h:65536/x", False),
        (b"http://[::1]:8080/x", True),
        (b"http://[::1]/x", True),
        (b"http://h:x/", False),
        (b"http://h o/", False),
        (b"http://h/%", False),
        (b"http://h/a/../..", False),
        (b"http://h/a/%2e%2e/b", True),
        (b"http://h/a%0a/../b", True),
        (b"http://h/a%0a/./b", False),
        (b"http::file:///x", True),
        (b"http::file://:1/x", False),
    ],
)
def test_urls_for_curl_must_normalize(url, is_safe):
    content = b'[submodule "x"]\nurl = "%s"\n' % url
    assert is_safe == ([] == blob_ids(b".gitmodules", (BLOB, content)))


def test_the_first_object_with_an_error_ends_it():
    fsck = check(TREE, entry(b"40000", b".git"))
    fsck.visit(OTHER, COMMIT, b"")
    fsck.finish(lambda oid: None)
    assert [("hasDotgit", Severity.ERROR)] == ids(fsck)


def test_findings_are_bounded_and_an_error_is_never_lost():
    fsck = PushFsck(FsckPolicy(), SHA1, findings_max=3)
    for _ in range(10):
        fsck.visit(OID, TREE, entry(b"100600", b"x"))
    fsck.visit(OID, TREE, b"junk")
    assert (3, 7, 1) == (len(fsck.warnings), fsck.omitted_count, len(fsck.errors))
    assert "fsck error in packed object" == fsck.refusal


def test_policy_and_findings_travel_between_processes():
    policy = FsckPolicy.from_pairs([("missingemail", "warn")], skip_oids=frozenset({OID}))
    assert policy == pickle.loads(pickle.dumps(policy))
    findings = check(TREE, b"x").findings
    assert findings == pickle.loads(pickle.dumps(findings))


def test_unknown_types_are_told():
    assert [("unknownType", Severity.ERROR)] == ids(check(5, b""))
    assert [] == ids(check(BLOB, b"anything"))


@pytest.mark.parametrize(
    ("type_number", "content"),
    [
        (TREE, b"".join(entry(b"100644", b"%08d" % i) for i in range(50_000))),
        (TREE, b"".join(entry(b"100644", b"a" + b"." * (i % 97)) for i in range(50_000))),
        (TREE, b"7" * 1_000_000),
        (COMMIT, b"tree %s\n" % HEX + b"parent %s\n" % HEX * 50_000),
        (COMMIT, GOOD_COMMIT.replace(b"<", b"(" * 500_000)),
        (TAG, GOOD_TAG.replace(b"v1", b"." * 500_000)),
    ],
    ids=range(6),
)
def test_hostile_objects_take_linear_time(type_number, content):
    check(type_number, content)


@pytest.mark.parametrize(
    "content", [b"[" * 300_000, b"a=" + b"\\\n" * 300_000, b'a="' * 200_000, b"a\n" * 100_000], ids=range(4)
)
def test_hostile_gitmodules_take_linear_time(content):
    blob_ids(b".gitmodules", (BLOB, content))
