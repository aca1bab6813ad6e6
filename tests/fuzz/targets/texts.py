"""Text files: configuration of all scopes, wild cards, borrowed objects, what programs answer."""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from govc.config.config import PROTECTED_SCOPES, Config
from govc.config.environment import parse_environment
from govc.config.loader import load_config, load_protected_config
from govc.config.parser import parse_config
from govc.config.values import (
    BadValue,
    expand_path,
    parse_bool,
    parse_expiry,
    parse_int,
    parse_path,
    parse_unsigned,
)
from govc.config.wildmatch import Wildmatch
from govc.errors import BadConfig, RepositoryRefused
from govc.odb.alternates import find_object_directories, parse_alternates, parse_alternates_variable, quote_path
from govc.protocol.oid import SHA1
from govc.repo.layout import read_layout
from govc.repo.signatures import parse_gpg_status, parse_ssh_answer
from govc.service.elsewhere import advertises_bundle_uris, blobs_elsewhere, bundle_list, promisor_remotes
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target

_FOLDERS: list[str] = []


def scratch(name: str) -> str:
    """A folder in memory, one per process and name; it lives as long as the process that fuzzes."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix=f"govc-fuzz-{name}-", dir=base)
    _FOLDERS.append(path)
    return path


def remove_scratch() -> None:
    _CONFIG_FOLDER.clear()
    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop(), ignore_errors=True)


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


# Configuration


def config_text(draw: Draw, *extra: bytes) -> bytes:
    headers = (b"[core]", b'[remote "o"]', b"[a.B]", b"[http]", b"[extensions]", b'[x "a\\"b\\\\c"]', b"[include]")
    bad_headers = (b"[", b"[]", b"[core", b'[x "y]', b'[x"y"]', b"[ x]", b'[a "b\n"]')
    keys = (b"bare", b"url", b"RepositoryFormatVersion", b"objectFormat", b"path", b"hideRefs", b"sharedRepository")
    values = (
        b" = true",
        b"=1k",
        b' = "a # b" c ; d',
        b" = a \\\n\tb",
        b" = \\q",
        b' = "open',
        b" = a\\nb\\tc\\b\\\\",
        b"",
        b" x",
        b" = sha256",
        b" = 0",
        b" = x\0y",
        b"   =   spaced   out   ",
        *extra,
    )
    parts = []
    for _ in range(draw.randrange(1, 7)):
        kind = draw.randrange(8)
        if kind < 2:
            parts.append(draw.choice(headers) if not draw.broken() else draw.choice(bad_headers))
        elif kind == 2:
            parts.append(draw.choice((b"; comment", b"# comment", b"", b"\t", b"\r")))
        else:
            parts.append(b"\t" + draw.word(*keys) + draw.choice(values))
    text = draw.pick(b"", b"\xef\xbb\xbf") + draw.pick(b"\n", b"\r\n", b" ").join(parts) + draw.pick(b"\n", b"")
    return draw.spoil(text) if draw.chance(0.3) else text


def run_config(text: bytes) -> None:
    for entry in parse_config(text, "file"):
        assert "\0" not in entry.key + (entry.value or "") and entry.line >= 1


def make_questions(draw: Draw) -> tuple[list[tuple[str, str | None]], int]:
    values = (
        b"true",
        b"off",
        b"",
        b"1",
        b"-1k",
        b"0x10",
        b"3g",
        b"never",
        b"now",
        b"2.weeks.ago",
        b"2020-02-31",
        b"~/x",
    )
    more = (b"9999999999", b"~root/y", b"~nobody-here/", b"%(prefix)/a", b":(optional)/none", b"1 month ago", b"a b c")
    some = (b"2024-12-31 23:59:61", b"99999 years ago", b"@1700000000", b"0o7", b"1.year.ago", b"all", b"yesterday")
    pairs: list[tuple[str, str | None]] = []
    for number in range(draw.randrange(1, 5)):
        value = None if draw.chance(0.1) else draw.word(*values, *more, *some).decode("utf-8", "surrogateescape")
        pairs.append((draw.choice(("core.bare", "a.B.c", "x", "bundle.a.uri", f"k.v{number}")), value))
    return pairs, draw.choice((0, 1700000000, 1 << 33))


def run_questions(data: tuple[list[tuple[str, str | None]], int]) -> None:
    """Every question about every key: a value, or the errors that git dies with."""
    pairs, now = data
    config = Config.of(pairs)
    for key, text in pairs:
        for ask in questions_about(config, key, now):
            with suppress(BadConfig):
                ask()
        for parse in readings_of(text, now):
            with suppress(BadValue):
                parse()
    list(config.iter_section("a"))
    list(config.items())
    config.restricted_to(PROTECTED_SCOPES).find_entries("core.bare")


def questions_about(config: Config, key: str, now: int) -> tuple[Callable[[], object], ...]:
    return (
        lambda: config.get(key),
        lambda: config.get_all(key),
        lambda: config.get_bool(key, False),
        lambda: config.find_bool(key),
        lambda: config.get_int(key, 0, bits=32),
        lambda: config.get_unsigned(key, 0),
        lambda: config.get_bool_or_int(key, 5),
        lambda: config.get_path(key),
        lambda: config.get_expiry(key, "never", now_seconds=now),
        lambda: config.get_bool_or_int("not.there", 5),
        lambda: config.get_expiry("not.there", "2.weeks.ago", now_seconds=now),
        lambda: config.get_path("not.there"),
    )


def readings_of(text: str | None, now: int) -> tuple[Callable[[], object], ...]:
    return (
        lambda: parse_int(text or ""),
        lambda: parse_unsigned(text or "", bits=32),
        lambda: parse_bool(text),
        lambda: expand_path(text or "", "/home/x"),
        lambda: parse_path(text or "", None),
        lambda: parse_expiry(text or "", now),
    )


def make_environment(draw: Draw) -> dict[str, str]:
    def text(*usual: bytes) -> str:
        return draw.word(*usual).decode("utf-8", "surrogateescape")

    environ = {}
    if draw.chance(0.7):
        environ["GIT_CONFIG_COUNT"] = text(b"0", b"1", b"2", b" +2", b"10001", b"x", b"1 ")
        for number in range(draw.randrange(3)):
            environ[f"GIT_CONFIG_KEY_{number}"] = text(b"core.bare", b"a.b.c", b"a", b".x", b"a.", b"1.2", b"a.\n.c")
            environ[f"GIT_CONFIG_VALUE_{number}"] = text(b"true", b"")
    if draw.chance(0.7):
        word = (b"'a.b=c'", b"'a.b'='c'", b"'a.b'=", b"'a.b'", b"'a'\\''.b=c'", b"'x", b"'a.b'='c", b"'a.b'x", b"a.b=c")
        environ["GIT_CONFIG_PARAMETERS"] = " ".join(text(*word) for _ in range(draw.randrange(3)))
    return environ


def layout_text(draw: Draw) -> bytes:
    """What decides about the format, right or wrong."""
    core = (
        b"bare = true",
        b"bare = maybe",
        b"worktree = ../w",
        b"repositoryFormatVersion = 0",
        b"repositoryFormatVersion = 1",
    )
    shared = (b"umask", b"group", b"all", b"0660", b"0400", b"2", b"0", b"+", b"true", b"0640", b"9", b"everybody")
    extensions = (
        b"objectFormat = sha256",
        b"objectFormat = md5",
        b"noop-v1 = 1",
        b"unknown = 1",
        b"compatObjectFormat = sha1",
        b"refStorage = reftable",
        b"refStorage = files://refs-here",
        b"refStorage = nothing",
        b"preciousObjects = true",
        b"partialClone",
        b"worktreeConfig = true",
    )
    lines = [
        b"\n[core]",
        *draw.sample(core, draw.randrange(3)),
        b"repositoryFormatVersion = " + draw.pick(b"1", b"0", b"2"),
    ]
    if draw.chance(0.5):
        lines.append(b"sharedRepository = " + draw.choice(shared))
    lines += [b"[extensions]", *draw.sample(extensions, draw.randrange(3))]
    return b"\n".join(lines) + b"\n" if draw.chance(0.7) else b""


def make_files(draw: Draw) -> tuple[dict[str, bytes], dict[str, str]]:
    includes = (
        b"\n[include]\n\tpath = other",
        b'\n[includeIf "gitdir:**/repo"]\n\tpath = other',
        b'\n[includeIf "gitdir/i:./x"]\n\tpath = ~/other',
        b'\n[includeIf "onbranch:ma*"]\n\tpath = other',
        b'\n[includeIf "hasconfig:remote.*.url:https://**"]\n\tpath = other',
        b'\n[includeIf "nonsense:"]\n\tpath = other',
        b"\n[include]\n\tpath\n",
        b"\n[include]\n\tpath = ~nobody-here/x",
        b'\n[remote "o"]\n\turl = https://h/x',
        b'\n[includeIf "hasconfig:remote.*.url:https://**"]\n\tpath = remotes',
        b"\n[include]\n\tpath = config" * draw.choice((1, 1, 9)),
        b'\n[include "x"]\n\tpath = other\n[include]\n\tpath = /dev/null\n[include]\n\tpath = /tmp',
        b'\n[includeIf "gitdir:"]\n\tpath = other\n[includeIf "gitdir:~/"]\n\tpath = other',
        b'\n[includeIf "gitdir:./"]\n\tpath = other\n[includeIf "gitdir:/**"]\n\tpath = other',
        b"\n[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tworktreeConfig = true\n",
    )
    files = {
        name: config_text(draw, *includes)
        for name in ("config", "other", "config.worktree", "global", "system")
        if draw.chance(0.8)
    }
    files["remotes"] = b'[remote "x"]\n\turl = https://y\n'
    files["config"] = files.get("config", b"") + layout_text(draw)
    environ = {"GIT_CONFIG_GLOBAL": "global", "GIT_CONFIG_SYSTEM": "system", "HOME": ""}
    if draw.chance(0.2):
        environ["GIT_CONFIG_NOSYSTEM"] = draw.word(b"1", b"maybe").decode("latin-1")
    if draw.chance(0.2):
        del environ["GIT_CONFIG_GLOBAL"]
    if draw.chance(0.2):
        environ["XDG_CONFIG_HOME"] = "xdg"
    if draw.chance(0.2):
        includes_of_environment = (
            "'include.path=other'",
            "'includeif.gitdir:./x.path'='/x'",
            "'include.path'='/dev/null'",
        )
        environ["GIT_CONFIG_PARAMETERS"] = draw.choice(includes_of_environment)
    if draw.chance(0.2):
        del environ["HOME"]
    return files, environ


_CONFIG_FOLDER: dict[int, str] = {}


def folder_for(kind: str) -> str:
    """The scratch folder of this process for one kind of files."""
    key = hash((kind, os.getpid()))
    if key not in _CONFIG_FOLDER:
        _CONFIG_FOLDER[key] = scratch(kind)
    return _CONFIG_FOLDER[key]


def run_files(data: tuple[dict[str, bytes], dict[str, str]]) -> None:
    """A repository's configuration from files, and what is read out of it for the layout and for advertisements."""
    files, environ = data
    folder = folder_for("config")
    for name in ("config", "other", "config.worktree", "global", "system", "remotes"):
        path = f"{folder}/{name}"
        if name in files:
            write(path, files[name])
        elif os.path.exists(path):
            os.unlink(path)
    named = {
        key: f"{folder}/{value}" if key.startswith(("GIT_CONFIG_G", "GIT_CONFIG_S", "HOME", "XDG")) else value
        for key, value in environ.items()
    }
    with suppress(BadConfig):
        load_protected_config(named, system_path=f"{folder}/system")
    linked = f"{folder}/worktrees/w"
    os.makedirs(linked, exist_ok=True)
    write(f"{linked}/commondir", b"../..\n")
    with suppress(BadConfig, RepositoryRefused):
        its = load_config(environ=named, gitdir=linked, commondir=folder, system_path=f"{folder}/s").config
        assert read_layout(linked, its).refs_gitdir
    loaded = load_config(environ=named, gitdir=folder, commondir=folder, head_branch="main", system_path=f"{folder}/s")
    config = loaded.config
    advertises_bundle_uris(config)
    for ask in (
        lambda: list(bundle_list(config)),
        lambda: promisor_remotes(config),
        lambda: blobs_elsewhere(config, SHA1),
    ):
        try:
            ask()
        except BadConfig:
            continue
    layout = read_layout(folder, config)
    for mode in (0o644, 0o444, 0o755):
        assert layout.shared.file_mode(mode) <= 0o7777 and layout.shared.directory_mode(mode) <= 0o7777
    assert layout.refs_gitdir and layout.refs_commondir


def make_elsewhere(draw: Draw) -> Config:
    def text(*usual: bytes) -> str:
        return draw.word(*usual).decode("utf-8", "surrogateescape")

    pairs: list[tuple[str, str | None]] = [
        ("promisor.advertise", text(b"true")),
        ("promisor.sendfields", text(b"token,x")),
    ]
    for _ in range(draw.randrange(5)):
        pairs.append(
            draw.choice(
                (
                    ("bundle.a.uri", text(b"https://h")),
                    ("bundle.version", None),
                    ("remote.o.url", text(b"https://h/;,%")),
                    ("remote.o.promisor", text(b"true", b"")),
                    ("remote.p.partialclonefilter", text(b"blob:none")),
                    ("remote.o.token", text(b"t")),
                    ("extensions.partialclone", text(b"o", b"p")),
                    ("uploadpack.advertisebundleuris", text(b"true", b"x")),
                    ("uploadpack.blobpackfileuri", text(b"%b %b https://h" % (b"1" * 40, b"2" * 40), b"a b", b"a b c")),
                )
            )
        )
    return Config.of(pairs)


def run_elsewhere(config: Config) -> None:
    advertises_bundle_uris(config)
    list(bundle_list(config))
    for ask in (lambda: promisor_remotes(config), lambda: blobs_elsewhere(config, SHA1)):
        try:
            value = ask()
        except BadConfig:
            continue
        if isinstance(value, bytes):
            assert b"\n" not in value and b"\0" not in value and b" " not in value


# Wild cards


def make_wild(draw: Draw) -> tuple[str, str, bool, bool]:
    pieces = (
        b"a",
        b"b",
        b"/",
        b"*",
        b"?",
        b"**",
        b"**/",
        b"/**",
        b"[ab]",
        b"[!a]",
        b"[a-c]",
        b"[[:alpha:]]",
        b"\\*",
        b"[]]",
    )
    bad = (b"[", b"[[:nope:]]", b"[a-", b"\\", b"[\\", b"[a\\]", b"[[:upper:]-z]", b"[!", b"[^/]")
    pattern = b"".join(
        draw.word(*pieces, *bad) if draw.chance(0.1) else draw.choice(pieces) for _ in range(draw.randrange(9))
    )
    if draw.chance(0.01):
        pattern = draw.choice((b"**/", b"*a", b"?*", b"a*/", b"[a-z]*")) * draw.choice((50, 600, 1365))
    letters = ("a", "b", "/", "c", "A", "*", "\u00e9")
    text = "".join(draw.choice(letters) for _ in range(draw.randrange(10)))
    if draw.chance(0.01):
        text = draw.choice(("a/", "a", "/")) * 1000
    return pattern.decode("utf-8", "surrogateescape"), text, draw.chance(0.3), draw.chance(0.3)


def run_wild(data: tuple[str, str, bool, bool]) -> None:
    """Without git's specials a wild card is the standard library's."""
    pattern, text, ignore_case, crosses = data
    wild = Wildmatch(pattern, ignore_case=ignore_case, crosses_slashes=crosses)
    found = wild.matches(text)
    assert found == wild.matches(text)
    plain = not set(pattern) & set("[]\\/") and "**" not in pattern and "/" not in text
    if plain and not ignore_case and len(text) < 50 and len(pattern) < 50:
        assert found == fnmatch.fnmatchcase(text, pattern)


# Borrowed objects


def make_alternates(draw: Draw) -> bytes:
    lines = (b"/a/b", b"../x", b"# comment", b'"/q\\"\\141\\n"', b'"open', b'"\\9"', b"", b"relative", b'"a"b')
    text = b"\n".join(draw.word(*lines) for _ in range(draw.randrange(6))) + draw.pick(b"\n", b"")
    return draw.spoil(text) if draw.chance(0.3) else text


def run_alternates(text: bytes) -> None:
    for separator in (b"\n", b":"):
        for path in parse_alternates(text, separator):
            assert path
            assert b"\n" in path or [path] == parse_alternates(quote_path(path), b":") or path.startswith(b'"')
    parse_alternates_variable(os.fsdecode(text), "/cwd")
    folder = folder_for("alternates")
    Path(folder, "info").mkdir(exist_ok=True)
    Path(folder, "x/info").mkdir(parents=True, exist_ok=True)
    write(f"{folder}/info/alternates", text.replace(b"../x", b"x"))
    write(f"{folder}/x/info/alternates", text + b"\n../y0")
    for depth in range(8):
        if not os.path.exists(f"{folder}/y{depth}"):
            Path(folder, f"y{depth}/info").mkdir(parents=True)
            write(f"{folder}/y{depth}/info/alternates", b"../y%d\n" % (depth + 1))
    found = find_object_directories(folder)
    assert found.directories[0] == folder


# What other programs say


def make_gpg(draw: Draw) -> bytes:
    words = (
        b"[GNUPG:] GOODSIG 0123 A <a@b>",
        b"[GNUPG:] BADSIG 0123 B",
        b"[GNUPG:] ERRSIG 0123",
        b"[GNUPG:] TRUST_ULTIMATE 0",
        b"[GNUPG:] TRUST_\xff",
        b"gpg: noise",
        b'Good "git" signature for a with ED25519 key SHA256:x',
        b'Good "git" signature with ED25519 key SHA256:x',
        b'Good "git" signature for a',
        b"Could not verify",
    )
    return b"\n".join(draw.word(*words) for _ in range(draw.randrange(4)))


def run_gpg(output: bytes) -> None:
    assert len(parse_gpg_status(output).status) == 1 and len(parse_ssh_answer(output).status) == 1


BAD = (BadConfig,)

TARGETS = (
    Target(name="config", covers=("govc.config.parser",), make=config_text, run=run_config, allowed=BAD, weight=6),
    Target(
        name="config-values",
        covers=("govc.config.values", "govc.config.config"),
        make=make_questions,
        run=run_questions,
        weight=0.7,
    ),
    Target(
        name="config-environment",
        covers=("govc.config.environment",),
        make=make_environment,
        run=parse_environment,
        allowed=BAD,
        weight=6,
    ),
    Target(
        name="config-files",
        covers=("govc.config.loader", "govc.repo.layout"),
        make=make_files,
        run=run_files,
        allowed=(BadConfig, RepositoryRefused),
        weight=0.15,
        tidy=remove_scratch,
    ),
    Target(name="elsewhere", covers=("govc.service.elsewhere",), make=make_elsewhere, run=run_elsewhere, weight=2),
    Target(name="wildmatch", covers=("govc.config.wildmatch",), make=make_wild, run=run_wild, weight=2),
    Target(
        name="alternates",
        covers=("govc.odb.alternates",),
        make=make_alternates,
        run=run_alternates,
        weight=0.3,
        tidy=remove_scratch,
    ),
    Target(
        name="signature-answers",
        covers=("govc.repo.signatures:parse_gpg_status,parse_ssh_answer",),
        make=make_gpg,
        run=run_gpg,
        weight=6,
    ),
)
