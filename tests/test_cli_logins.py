"""govc token and govc password, as an admin runs them."""

import pytest
from click.testing import CliRunner

from govc.auth.hashes import verify_password
from govc.auth.htpasswd import parse_htpasswd
from govc.auth.token_file import parse_tokens
from govc.auth.tokens import hash_token, is_well_formed, token_id
from govc.cli import main

DAY = 86400


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOVC_CONFIG", raising=False)

    def run(*arguments, input=None, fails=False):
        result = CliRunner().invoke(main, arguments, input=input)
        assert (result.exit_code != 0) == fails, result.output
        return result

    return run


def records(tmp_path):
    return parse_tokens((tmp_path / "t").read_bytes(), "t")


def make(run, *arguments):
    return run("token", "--file", "t", "create", *arguments).stdout.strip()


def test_a_token_is_shown_once_and_kept_as_a_hash(run, tmp_path):
    secret = make(run, "ann", "--read", "team/**", "--write", "x", "--description", "CI", "--expires", "2d")
    assert is_well_formed(secret)
    assert secret[20:] not in (tmp_path / "t").read_text()
    record = records(tmp_path)[token_id(secret)]
    assert hash_token(secret) == record.hash
    assert [("team/**", "READ"), ("x", "WRITE")] == [(grant.pattern.text, grant.level.name) for grant in record.grants]
    assert record.expires_at == record.created_at + 2 * DAY
    listing = run("token", "--file", "t", "list").stdout
    assert record.id in listing and "read team/**, write x" in listing and "CI" in listing
    assert secret[20:] not in listing and record.hash.hex() not in listing


def test_a_token_expires_unless_it_is_told_not_to(run, tmp_path):
    secret = make(run, "ann", "--read", "**")
    assert records(tmp_path)[token_id(secret)].expires_at == records(tmp_path)[token_id(secret)].created_at + 90 * DAY
    secret = make(run, "ann", "--read", "**", "--expires", "never")
    assert records(tmp_path)[token_id(secret)].expires_at is None
    assert "never expires" in run("token", "--file", "t", "list").stdout


def test_revoking_by_id_by_token_by_user_and_what_has_expired(run, tmp_path):
    made = [make(run, user, "--read", "**") for user in ("ann", "ann", "bob", "carl")]
    assert run("token", "--file", "t", "revoke", token_id(made[0]), made[3]).stdout == "2 revoked\n"
    assert records(tmp_path).keys() == {token_id(made[1]), token_id(made[2])}
    assert (
        "no token 0123456789"
        in run("token", "--file", "t", "revoke", "0123456789", token_id(made[1]), fails=True).output
    )
    assert len(records(tmp_path)) == 2
    run("token", "--file", "t", "revoke", "--user", "bob")
    assert records(tmp_path).keys() == {token_id(made[1])}
    text = (tmp_path / "t").read_text()
    (tmp_path / "t").write_text(
        text.replace('"expires_at": ', '"expires_at": 5, "description": "", "x": ').split(', "x"')[0] + "}\n"
    )
    assert "expired 1970" in run("token", "--file", "t", "list").stdout
    assert run("token", "--file", "t", "revoke", "--expired").stdout == "1 revoked\n"
    assert records(tmp_path) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "ann"),
        ("create", "a\nb", "--read", "**"),
        ("create", "ann", "--read", "team/"),
        ("create", "ann", "--read", "**", "--expires", "soon"),
        ("create", "ann", "--read", "**", "--expires", "0d"),
        ("revoke",),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_no_file(run, tmp_path, arguments):
    run("token", "--file", "t", *arguments, fails=True)
    assert not (tmp_path / "t").exists()


def test_a_damaged_file_is_named_and_left_alone(run, tmp_path):
    (tmp_path / "t").write_text("{\n")
    assert "t line 1: no token" in run("token", "--file", "t", "create", "ann", "--read", "**", fails=True).output
    assert (tmp_path / "t").read_text() == "{\n"


def test_the_file_is_the_settings_unless_it_is_named(run, tmp_path):
    assert "token_file" in run("token", "list", fails=True).output
    (tmp_path / "govc.toml").write_text('token_file = "t"\nhtpasswd_file = "pw"\n')
    run("token", "create", "ann", "--read", "**")
    assert len(records(tmp_path)) == 1
    run("password", "ann", input="secret\n")
    assert (tmp_path / "pw").exists()


# Passwords


def users(tmp_path):
    return parse_htpasswd((tmp_path / "pw").read_bytes(), "pw").entries


def test_a_password_is_hashed_changed_and_deleted(run, tmp_path):
    (tmp_path / "pw").write_text("# ours\nbob:$2y$05$yZIB07pIL20rDbDkpu.F9.zNMvml6ZefkxIMRRTLKNC0HIZZnUU02\n")
    assert "added" in run("password", "ann", "--file", "pw", input="secret\n").output
    assert verify_password(users(tmp_path)["ann"], b"secret")
    assert "changed" in run("password", "ann", "--file", "pw", input="other\n").output
    assert verify_password(users(tmp_path)["ann"], b"other") and not verify_password(users(tmp_path)["ann"], b"secret")
    assert users(tmp_path).keys() == {"ann", "bob"}
    assert "deleted" in run("password", "bob", "--file", "pw", "--delete").output
    assert users(tmp_path).keys() == {"ann"}
    assert (tmp_path / "pw").read_text().startswith("# ours\n")
    assert "no user 'bob'" in run("password", "bob", "--file", "pw", "--delete", fails=True).output


@pytest.mark.parametrize(("user", "text"), [("a:b", "x\n"), ("#a", "x\n"), ("", "x\n"), ("ann", "\n"), ("ann", "")])
def test_what_can_be_no_login_is_refused(run, tmp_path, user, text):
    run("password", user, "--file", "pw", input=text, fails=True)
    assert not (tmp_path / "pw").exists()


def test_a_file_with_weak_hashes_is_named_and_left_alone(run, tmp_path):
    (tmp_path / "pw").write_text("bob:$apr1$x$y\n")
    assert "pw line 1: user 'bob': MD5 hash" in run("password", "ann", "--file", "pw", input="x\n", fails=True).output
    assert (tmp_path / "pw").read_text() == "bob:$apr1$x$y\n"


@pytest.mark.parametrize(
    ("flag", "content", "sentence"),
    [
        ("--permission-file", "[[rule]]\nx = 1\n", "f line 2): there is no 'x' here"),
        ("--htpasswd-file", "ann:{SHA}x\n", "f line 1): user 'ann': SHA-1 hash"),
        ("--token-file", "{}\n", "f line 1): no token: field"),
    ],
)
def test_serve_does_not_start_with_a_bad_file(run, tmp_path, flag, content, sentence):
    (tmp_path / "root").mkdir()
    (tmp_path / "f").write_text(content)
    assert sentence in run("serve", "root", flag, "f", fails=True).output


def test_doctor_says_what_the_permission_file_gives_and_where(run, tmp_path):
    run("init", "root/team/app.git", "--export")
    (tmp_path / "p.toml").write_text(
        '[[rule]]\nrepositories = ["team/*"]\nread = ["@users"]\n[[rule]]\nrepositories = ["**"]\nwrite = ["ann"]\n'
    )
    (tmp_path / "govc.toml").write_text('root = "root"\npermission_file = "p.toml"\n')
    said = run("doctor", "root/team/app.git", "--user", "ann").output
    assert "p.toml gives 'ann' read on 'team/app': the rule in line 1 decides." in said
    assert "p.toml gives who has not logged in none on 'team/app': no rule speaks of them." in said
    assert "on 'team/app'" not in run("doctor", "root/team/app.git", "--config", "/dev/null").output
