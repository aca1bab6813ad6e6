import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth.htpasswd import HashKind, parse_htpasswd
from govc.auth.principal import BadAuthFile

BCRYPT = "$2y$05$yZIB07pIL20rDbDkpu.F9.zNMvml6ZefkxIMRRTLKNC0HIZZnUU02"
ARGON2 = "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHRzYWx0$Cd8Cv7PlPkPlbhPmNuBfXCRgqwSbMSTXmEXyEZJi5Jk"


def test_users_and_their_hashes():
    file = parse_htpasswd(f"# comment\nann:{BCRYPT}\n\nzoë:{ARGON2}\n".encode(), "pw")
    assert {"ann": HashKind.BCRYPT, "zoë": HashKind.ARGON2} == {
        name: entry.kind for name, entry in file.entries.items()
    }
    assert file.entries["ann"].text == BCRYPT


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ann", "USER:HASH"),
        (f":{BCRYPT}", "user's name"),
        (f" ann:{BCRYPT}", "user's name"),
        ("ann:$apr1$abc$def", "MD5 hash"),
        ("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1 hash"),
        ("ann:$6$abc$def", "SHA-512 crypt"),
        ("ann:secret", "unknown or damaged"),
        ("ann:", "unknown or damaged"),
        (f"ann:{BCRYPT[:-1]}", "unknown or damaged"),
        (f"ann:{BCRYPT}x", "unknown or damaged"),
        (f"ann:{BCRYPT.replace('$05$', '$31$')}", "bcrypt of cost 31"),
        (f"ann:{ARGON2.replace('m=1024', 'm=9999999')}", "argon2 parameters"),
        (f"ann:{ARGON2.replace('t=1', 't=0')}", "argon2 parameters"),
        (f"ann:{ARGON2.replace('p=1', 'p=200')}", "argon2 parameters"),
        (f"bob:{BCRYPT}", "twice"),
    ],
)
def test_a_bad_line_is_named_and_its_hash_is_not(line, reason):
    with pytest.raises(BadAuthFile, match=f"^pw line 2: .*{reason}") as caught:
        parse_htpasswd(f"bob:{BCRYPT}\n{line}\n".encode(), "pw")
    secret = line.partition(":")[2]
    assert not secret or secret not in str(caught.value)


@given(st.binary(max_size=300))
def test_property_arbitrary_bytes_are_a_file_or_one_error(content):
    try:
        parse_htpasswd(content, "pw")
    except BadAuthFile as error:
        assert error.line >= 1


def test_the_stand_in_of_an_unknown_user_is_the_same_in_every_worker():
    content = "".join(f"u{number}:{BCRYPT}\n" for number in range(9)).encode() + f"ann:{ARGON2}\n".encode()
    one, other = parse_htpasswd(content, "pw"), parse_htpasswd(content, "pw")
    names = [f"stranger{number}" for number in range(500)]
    stand_ins = [one.stand_in_for(name) for name in names]
    assert stand_ins == [other.stand_in_for(name) for name in names]
    # As often of each kind as real users are.
    argon2_count = sum(entry is not None and entry.kind is HashKind.ARGON2 for entry in stand_ins)
    assert 20 <= argon2_count <= 90
    changed = parse_htpasswd(content + b"# another secret\n", "pw")
    assert stand_ins != [changed.stand_in_for(name) for name in names]


def test_without_users_nobody_stands_in():
    assert parse_htpasswd(b"", "pw").stand_in_for("ann") is None
