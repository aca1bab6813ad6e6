import ipaddress

import pytest

from govc.web.identity import TrustedProxies, header_variable, identify

DEFAULT = TrustedProxies(("127.0.0.0/8", "::1/128", "unix"))
VARIABLE = header_variable("X-Remote-User")


def user_of(proxies=DEFAULT, header=VARIABLE, **environ):
    return identify(environ, header=header, proxies=proxies).remote_user


def addr_of(proxies=DEFAULT, **environ):
    return identify(environ, header=None, proxies=proxies).remote_addr


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_the_header_of_a_trusted_proxy_is_the_user(peer):
    assert user_of(REMOTE_ADDR=peer, HTTP_X_REMOTE_USER="ann") == "ann"


@pytest.mark.parametrize("peer", ["192.0.2.1", "::2", "garbage", "::ffff:192.0.2.1", None])
def test_the_header_of_anyone_else_is_nobody(peer):
    environ = {} if peer is None else {"REMOTE_ADDR": peer}
    assert user_of(**environ, HTTP_X_REMOTE_USER="ann", REMOTE_USER="bob") is None


def test_with_a_header_configured_nothing_else_names_a_user():
    assert user_of(REMOTE_ADDR="127.0.0.1", REMOTE_USER="bob", HTTP_REMOTE_USER="eve") is None
    assert user_of(REMOTE_ADDR="127.0.0.1", HTTP_X_REMOTE_USER="") is None


def test_without_one_the_web_server_names_the_user_and_no_client_can():
    assert user_of(header=None, REMOTE_USER="bob") == "bob"
    assert user_of(header=None, REMOTE_ADDR="127.0.0.1", HTTP_REMOTE_USER="eve", HTTP_X_REMOTE_USER="eve") is None
    assert user_of(header=None, REMOTE_USER="") is None


def test_a_list_without_unix_trusts_no_unix_socket():
    proxies = TrustedProxies(["10.0.0.0/8", " 192.0.2.7 "])
    assert [proxies.contains(peer) for peer in ("10.1.2.3", "192.0.2.7", "127.0.0.1", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_bad_network_is_an_error():
    with pytest.raises(ValueError, match="does not appear"):
        TrustedProxies(["loopback"])


@pytest.mark.parametrize("value", ["", " ", "(null)", " (null) ", "ann\tx", "ann\x7f", "x" * 256, "\xff"])
def test_a_header_that_holds_no_name_is_nobody(value):
    # "(null)" is what Apache sends for who hasn't logged in.
    assert user_of(REMOTE_ADDR="127.0.0.1", HTTP_X_REMOTE_USER=value) is None


def test_blanks_around_a_name_do_not_make_another_user():
    assert user_of(REMOTE_ADDR="127.0.0.1", HTTP_X_REMOTE_USER=" ann ") == "ann"


def test_the_web_servers_own_variable_is_taken_as_it_is_as_git_does():
    assert user_of(header=None, REMOTE_USER="a<b>\n") == "a<b>\n"
    assert user_of(header=None, REMOTE_USER="(null)") == "(null)"


def test_who_somebody_is_says_how_it_is_known():
    assert identify({"REMOTE_USER": "ann"}, header=None, proxies=DEFAULT).principal.method == "proxy"
    assert identify({}, header=None, proxies=DEFAULT).principal.method == "none"


def test_user_names_come_back_from_latin_1():
    assert user_of(header=None, REMOTE_USER="zoë".encode().decode("latin-1")) == "zoë"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 127.0.0.5", "203.0.113.9"),
        ("203.0.113.9, nonsense", "127.0.0.1"),
        ("nonsense, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.2", "127.0.0.2"),
        ("", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_client(forwarded, address):
    assert address == addr_of(REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)


def test_strangers_cannot_forward():
    assert addr_of(REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="203.0.113.9") == "192.0.2.1"


def test_a_unix_peer_has_no_address_of_its_own():
    assert addr_of(REMOTE_ADDR="") is None
    assert ipaddress.ip_address("203.0.113.9") == ipaddress.ip_address(
        addr_of(REMOTE_ADDR="", HTTP_X_FORWARDED_FOR="203.0.113.9")
    )
