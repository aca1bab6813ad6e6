"""`git archive --remote`: the same request goes to govc over HTTP and to `git upload-archive` on the same repository.

git-http-backend has this service since 2.44 only, so the oracle is the program behind it. Containers are compared byte
for byte: tar always, gzip and zip as far as both sides use the same zlib.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git, client_environment
from compat.rawhttp import FLUSH, V2, Demuxed, demux, discover, lines, parse_packets, post, request

ATTRIBUTES = """\
# rules of the tree
*.secret export-ignore
private export-ignore
docs/drafts/ export-ignore
version.txt export-subst
*.crlf text eol=crlf
ident.txt ident
[attr]hidden export-ignore
a*/deep/**/leaf.* hidden
!negative export-ignore
"quo\\164ed.txt" export-ignore
blob.bin binary
forced.txt -diff
"""

FILES = {
    ".gitattributes": ATTRIBUTES,
    "README": "hello\n",
    "empty": "",
    "run.sh": "#!/bin/sh\n",
    "a.secret": "no\n",
    "private": "no\n",
    "quoted.txt": "no\n",
    "negative": "yes\n",
    "dos.crlf": "one\ntwo\r\nthree\n",
    "ident.txt": "$Id$ and $Id: 0123 $ and $Id: some thing else $ $Idea$ $Id: open\n$\n",
    "blob.bin": "\x00\x01binary\x00",
    "forced.txt": "text\n",
    "docs/drafts/x": "no\n",
    "docs/sub/y": "yes\n" * 200,
    "docs/sub/.gitattributes": "y -export-ignore\nz export-ignore\n",
    "docs/sub/z": "no\n",
    "abc/deep/1/2/leaf.c": "no\n",
    "abc/deep/1/2/other.c": "yes\n",
    "only/ignored.secret": "no\n",
    "p" * 99 + "/" + "q" * 90: "a path that is split\n",
    "r" * 120: "a path that isn't\n",
    "s/" * 60 + "t" * 99 + "x": "deep\n",
    "version.txt": (
        "$Format:%H|%h|%T|%t|%P|%p|%an|%ae|%al|%ad|%aD|%ai|%aI|%at|%as|%cn|%ce|%cd|%ct|%cs$\n"
        "$Format:%s|%f|%b|%B|%e|%d|%D|%n|%%|%x41|%m|%G?|%C(auto)%Cred%Creset|%q|%zz|%$\n"
        "$Format:%+s%-b% an%+e$ $Format: unclosed\n"
        "$Format:$ $Format:%D$ $Format:%d$ tail"
    ),
}
MESSAGE = "A subject: with, odd... characters\nover two lines\n\nThe body.\n\n- of it\n"


_BUILT: dict[str, Path] = {}
"""Repositories that were built once in this run, by what they hold."""


def build(server: Server, git: Git, files: dict[str, str] = FILES, config: dict[str, str] | None = None) -> Repo:
    """A repository whose main holds these files, a link, a submodule and tags."""
    key = repr(files)
    if key not in _BUILT:
        _BUILT[key] = build_template(git, files, Path(tempfile.mkdtemp(dir=server.root.parent)) / "built.git")
    path = server.root / f"archive-{time.monotonic_ns():x}.git"
    shutil.copytree(_BUILT[key], path, symlinks=True)
    (path / "git-daemon-export-ok").touch()
    return server.adopt(path, config)


def build_template(git: Git, files: dict[str, str], bare: Path) -> Path:
    """Build one of them."""
    work = bare.with_name("work")
    git("init", "-q", "-b", "main", work)
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    if "run.sh" in files:
        (work / "run.sh").chmod(0o755)
        (work / "link").symlink_to("README")
        (work / "long-link").symlink_to("x" * 150)
    git("add", "-A", cwd=work)
    git("update-index", "--add", "--cacheinfo", f"160000,{'12' * 20},module", cwd=work)
    when = {"GIT_COMMITTER_DATE": "1600000001 -0230", "GIT_AUTHOR_DATE": "1500000000 +0545"}
    git("commit", "-q", "-F", "-", cwd=work, env=when, input=MESSAGE.encode())
    git("tag", "-m", "annotated", "v1", cwd=work)
    git("branch", "other", cwd=work)
    git("tag", "light", cwd=work)
    git("clone", "-q", "--mirror", work, bare)
    return bare


def asking(*arguments: str) -> bytes:
    """The body of a request."""
    return lines(*(f"argument {argument}" for argument in arguments), FLUSH)


def from_git(git: Git, repo: Repo, body: bytes) -> Demuxed:
    """What `git upload-archive` says."""
    done = subprocess.run(
        ["git", "upload-archive", str(repo.path)],
        input=body,
        capture_output=True,
        env=client_environment(git.home),
        check=False,
    )
    return demux(parse_packets(done.stdout))


def without_warnings(progress: bytes) -> bytes:
    """git warns of the one line in ATTRIBUTES that makes no sense; we pass it over in silence."""
    return re.sub(rb"warning: Negative patterns.*\n.*\n", b"", progress)


def ask(repo: Repo, body: bytes) -> Demuxed:
    """What the server says."""
    reply = post(repo.url, "upload-archive", body)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/x-git-upload-archive-result"
    assert "no-cache" in reply.headers["cache-control"]
    return demux(parse_packets(reply.body))


OPEN = {"http.uploadarchive": "true"}


@pytest.mark.every_frontend
@pytest.mark.rows("HB-05", "HB-85")
def test_archives_come_through_every_front_end(server: Server, git: Git) -> None:
    repo = build(server, git, config=OPEN)
    for form in ("tar", "zip", "tar.gz"):
        body = asking(f"--format={form}", "-v", "main")
        ours, theirs = ask(repo, body), from_git(git, repo, body)
        assert (ours.head, ours.data, ours.ended) == (theirs.head, theirs.data, True)


@pytest.mark.rows("HB-05", "HB-85", "HB-86")
@pytest.mark.parametrize(
    "arguments",
    [
        ("main",),
        ("--format=tar", "v1"),
        ("--format", "tar", "--prefix=pre/fix/", "main"),
        ("--prefix=dash-", "light"),
        ("--prefix=two//", "refs/heads/main"),
        ("--format=tgz", "main"),
        ("--format=tar.gz", "-9", "main"),
        ("--format=zip", "main"),
        ("--format=zip", "-0", "--prefix=z/", "main"),
        ("--form=zip", "-9", "--", "main"),
        ("-v", "HEAD"),
        ("main", "docs"),
        ("main", "docs/", "README"),
        ("main", "*.c", "--prefix=x/"),
        ("main", "docs/sub/y"),
        ("main", ":(exclude)docs", "--verbose"),
        ("main", ":!*.c", "abc"),
        ("main", ":(icase)readme"),
        ("main", ":(glob)*.txt"),
        ("main", ":(literal)empty"),
        ("--worktree-attributes", "main"),
        ("--list",),
        ("-l",),
    ],
    ids=" ".join,
)
def test_archives_are_gits(server: Server, git: Git, arguments: tuple[str, ...]) -> None:
    repo = build(server, git, config=OPEN)
    body = asking(*arguments)
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert theirs.fatal == b""
    assert ours.head == theirs.head
    assert ours.progress == without_warnings(theirs.progress)
    assert ours.data == theirs.data
    assert ours.ended


@pytest.mark.rows("HB-85", "SEC-27", "CF-44")
@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("main~0",),
        ("OID",),
        ("main:nosuch",),
        ("main:README",),
        ("main", "nosuch"),
        ("--remote=x", "main"),
        ("--exec=x", "main"),
        ("--output=x", "main"),
        ("-o", "x", "main"),
        ("--add-file=/etc/passwd", "main"),
        ("--format=rar", "main"),
        ("--format=tar", "-3", "main"),
        tuple("main" for _ in range(66)),
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_what_is_refused_and_how(server: Server, git: Git, arguments: tuple[str, ...]) -> None:
    repo = build(server, git, {"README": "x"}, config=OPEN)
    body = asking(*(repo.rev("main") if argument == "OID" else argument for argument in arguments))
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert theirs.fatal.startswith(b"git upload-archive: archiver died with error")
    assert (ours.head, ours.data, ours.progress) == (theirs.head, b"", theirs.progress)
    assert ours.fatal == theirs.fatal.rstrip(b"\n")
    assert not ours.ended


@pytest.mark.rows("SEC-27", "SEC-43")
def test_paths_outside_are_refused_without_saying_where_we_are(server: Server, git: Git) -> None:
    repo = build(server, git, {"README": "x"}, config=OPEN)
    answer = ask(repo, asking("main", "../x"))
    assert answer.progress == b"fatal: ../x: '../x' is outside repository\n"
    assert from_git(git, repo, asking("main", "../x")).progress.startswith(answer.progress.rstrip(b"\n"))


@pytest.mark.rows("HB-85")
@pytest.mark.parametrize("body", [b"", b"0000", lines("argument main"), lines("main", FLUSH), b"zzzz"])
def test_malformed_requests(server: Server, git: Git, body: bytes) -> None:
    repo = build(server, git, {"README": "x"}, config=OPEN)
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert ours.head == theirs.head
    assert ours.data == theirs.data == b""
    assert ours.fatal == theirs.fatal.rstrip(b"\n")
    assert ours.progress.split(b"\n")[0] == theirs.progress.split(b"\n")[0]


def members(data: bytes) -> list[object]:
    """What a tar holds, but for the times: those of a tree that is no commit's are the moment of asking."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (
                member.name,
                member.type,
                member.mode,
                member.linkname,
                member.isreg() and archive.extractfile(member).read(),
            )  # type: ignore[union-attr]
            for member in archive.getmembers()
        ]


@pytest.mark.rows("HB-86")
@pytest.mark.parametrize("arguments", [("main:docs",), ("main:docs", "sub"), ("--prefix=a/", "v1:")], ids=" ".join)
def test_a_tree_below_a_ref(server: Server, git: Git, arguments: tuple[str, ...]) -> None:
    repo = build(server, git, config=OPEN)
    body = asking(*arguments)
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert members(ours.data) == members(theirs.data)


@pytest.mark.rows("CF-44", "SEC-27")
@pytest.mark.parametrize("name", ["OID", "SHORT", "TREE", "main^{tree}", "main~0", "main^0", "v1^{}", "main~0:docs"])
def test_allow_unreachable_opens_everything(server: Server, git: Git, name: str) -> None:
    repo = build(server, git, config=OPEN | {"uploadarchive.allowUnreachable": "true"})
    oid, tree = repo.rev("main"), repo.rev("main^{tree}")
    text = {"OID": oid, "SHORT": oid[:10], "TREE": tree}.get(name, name)
    body = asking(text)
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert (theirs.fatal, ours.fatal) == (b"", b"")
    assert members(ours.data) == members(theirs.data)


@pytest.mark.rows("HB-05", "HB-24", "HB-25")
def test_who_may_have_archives(server: Server, git: Git) -> None:
    body = asking("main")
    user = {"X-Remote-User": "ada"}
    for value, anonymous, known in ((None, 403, 200), ("true", 200, 200), ("false", 403, 403)):
        repo = build(server, git, {"README": "x"}, config={} if value is None else {"http.uploadarchive": value})
        assert post(repo.url, "upload-archive", body).status == anonymous
        assert post(repo.url, "upload-archive", body, user).status == known
    wrong = {"Content-Type": "application/x-git-upload-pack-request"}
    repo = build(server, git, {"README": "x"}, config=OPEN)
    assert request(repo.url, "POST", "/git-upload-archive", body=body, headers=wrong).status == 415
    assert request(repo.url, "GET", "/git-upload-archive").status == 405
    assert discover(repo.url, "upload-archive").status == 403


@pytest.mark.rows("CF-45")
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"tar.umask": "077"}, ("main",)),
        ({"tar.umask": "user"}, ("main",)),
        ({"tar.umask": "0"}, ("main",)),
        ({"tar.up.command": "tr a-z A-Z", "tar.up.remote": "true"}, ("--format=up", "main")),
        ({"tar.up.command": "tr a-z A-Z"}, ("--format=up", "main")),
        ({"tar.up.command": "tr a-z A-Z", "tar.up.remote": "yes"}, ("--list",)),
        ({"tar.tgz.remote": "false"}, ("--list",)),
        ({"tar.tar.gz.command": "cat"}, ("--format=tar.gz", "main")),
        ({"tar.lvl.command": "cat >/dev/null; echo level", "tar.lvl.remote": "true"}, ("--format=lvl", "-12", "main")),
    ],
)
def test_tar_settings(server: Server, git: Git, settings: dict[str, str], arguments: tuple[str, ...]) -> None:
    repo = build(server, git, config=OPEN | settings)
    body = asking(*arguments)
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert ours.data == theirs.data
    assert ours.progress == without_warnings(theirs.progress)
    assert ours.fatal == theirs.fatal.rstrip(b"\n")


@pytest.mark.rows("CF-45")
def test_a_filter_that_fails(server: Server, git: Git) -> None:
    repo = build(server, git, config=OPEN | {"tar.bad.command": "cat >/dev/null; exit 3", "tar.bad.remote": "true"})
    body = asking("--format=bad", "main")
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert ours.fatal == theirs.fatal.rstrip(b"\n")
    assert ours.progress == b"fatal: 'cat >/dev/null; exit 3' filter reported error\n"


@pytest.mark.rows("HB-86", "CF-91")
def test_the_servers_own_attributes_and_line_ends(server: Server, git: Git) -> None:
    repo = build(server, git, config=OPEN | {"core.autocrlf": "true", "core.eol": "lf"})
    attributes = git.cwd / "own-attributes"
    attributes.write_text("README export-ignore\n*.sh text\nrun.sh export-ignore\n")
    repo.config("core.attributesFile", str(attributes))
    (repo.path / "info").mkdir(exist_ok=True)
    (repo.path / "info/attributes").write_text("run.sh !export-ignore\nempty export-ignore\n")
    for form in ("tar", "zip"):
        body = asking(f"--format={form}", "main")
        assert ask(repo, body).data == from_git(git, repo, body).data


@pytest.mark.rows("HB-86", "CF-52")
@pytest.mark.parametrize("form", ["tar", "zip", "tgz"])
def test_what_is_beyond_the_threshold_is_streamed(server: Server, git: Git, form: str) -> None:
    files = {".gitattributes": "* text eol=crlf\n", "big": "line of text\n" * 400_000, "small": "a\nb\n"}
    repo = build(server, git, files, config=OPEN | {"core.bigFileThreshold": "100k"})
    repo.run("gc", "-q")
    body = asking(f"--format={form}", "main")
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    if form != "zip":
        assert ours.data == theirs.data
        return
    for name, data in (("ours", ours.data), ("theirs", theirs.data)):
        (git.cwd / f"{name}.zip").write_bytes(data)
        shutil.unpack_archive(git.cwd / f"{name}.zip", git.cwd / name)
    assert (git.cwd / "ours/big").read_bytes() == (git.cwd / "theirs/big").read_bytes()
    assert (git.cwd / "ours/small").read_bytes() == (git.cwd / "theirs/small").read_bytes() == b"a\r\nb\r\n"
    assert len(ours.data) < 200_000


@pytest.mark.rows("HB-86")
@pytest.mark.parametrize("options", ["", ":tags", ":tags=true,match=*[0-9]*", ":abbrev=0", ":abbrev=12", ":exclude=v1"])
def test_describe(server: Server, git: Git, options: str) -> None:
    repo = build(
        server, git, {".gitattributes": "v export-subst\n", "v": f"$Format:%(describe{options})$"}, config=OPEN
    )
    work = git.cwd / "more"
    git("clone", "-q", repo.path, work)
    for number in range(5):
        git.commit_file(work, f"f{number}", "x")
        if number == 1:
            git("tag", "light2", cwd=work)
    git("checkout", "-q", "-b", "side", "HEAD~3", cwd=work)
    git.commit_file(work, "s", "x")
    git("tag", "-m", "x", "v0.9", cwd=work)
    git("checkout", "-q", "main", cwd=work)
    git("merge", "-q", "-m", "merge", "side", cwd=work)
    git("push", "-q", repo.path, "main", "--tags", cwd=work)
    body = asking("main", "v")
    ours, theirs = ask(repo, body), from_git(git, repo, body)
    assert ours.data == theirs.data


@pytest.mark.rows("HB-86")
def test_names_from_mailmaps_trailers_and_padding(server: Server, git: Git) -> None:
    """The mailmap is that of HEAD in a bare repository, whichever commit is asked for; mailmap.file comes on top."""
    text = "$Format:%<(30)%aN|%aE|%cN|%cE|%>(20)%cL|%(trailers:only,separator=%x2C )|%an$\n$Format:%(trailers)$ %ah"
    files = {".gitattributes": "v export-subst\n", "v": text}
    repo = build(server, git, files, config=OPEN)
    work = git.cwd / "mapped"
    git("clone", "-q", repo.path, work)
    message = "s\n\nb\n\nSigned-off-by: X <x@y>\nFixes: 12\n"
    git("commit", "-q", "--allow-empty", "-m", message, cwd=work, env={"GIT_AUTHOR_EMAIL": "Old@Example.com"})
    git("push", "-q", repo.path, "HEAD:refs/heads/old", cwd=work)
    git.commit_file(work, ".mailmap", "The Author <new@example.com> <old@example.com>\nAda L. <ada@example.com>\n")
    git("push", "-q", repo.path, "HEAD:main", cwd=work)
    own = git.cwd / "own-mailmap"
    own.write_text("<site@example.com> <ada@example.com>\n")
    for key, value in ((None, ""), ("mailmap.file", str(own)), ("mailmap.blob", "old:v"), ("mailmap.blob", "nosuch")):
        if key is not None:
            repo.config(key, value)
        for name in ("old", "main"):
            body = asking(name, "v")
            ours, theirs = ask(repo, body), from_git(git, repo, body)
            assert (ours.fatal, ours.data) == (b"", theirs.data)
    assert b"|" in ours.data and b"Fixes: 12" in ask(repo, asking("old", "v")).data


@pytest.mark.rows("HB-86", "FS-54")
def test_sha256(server: Server, git: Git) -> None:
    repo = server.create_repo("small", object_format="sha256", config=OPEN)
    for form in ("tar", "zip"):
        body = asking(f"--format={form}", "main")
        assert ask(repo, body).data == from_git(git, repo, body).data


@pytest.mark.rows("HB-87", "HB-85")
def test_what_a_client_asks_first(server: Server, git: Git) -> None:
    """A stock client looks for v2 at upload-pack; it gives up unless that is spoken there."""
    repo = build(server, git, {"README": "x"}, config=OPEN)
    assert b"version 2" in discover(repo.url, headers=V2).body[:40]
    version = tuple(map(int, re.findall(r"\d+", git("version").stdout)[:2]))
    archive = git("archive", f"--remote={repo.url}", "--format=tar", "main", check=False)
    if version < (2, 44):
        assert "not supported by protocol" in archive.stderr  # older clients have no archives over HTTP
    else:
        assert archive.code == 0
    assert urlsplit(repo.url).scheme == "http"


@pytest.mark.rows("HB-47", "HB-86")
def test_damage_ends_the_stream_unclean(server: Server, git: Git) -> None:
    repo = build(server, git, {"README": "x", "gone": "y\n"}, config=OPEN)
    repo.broken = True
    oid = repo.rev("main:gone")
    repo.run("unpack-objects", "-q", check=False)
    path = Path(repo.path) / "objects" / oid[:2] / oid[2:]
    path.unlink()
    reply = ask(repo, asking("main"))
    assert reply.fatal == b"git upload-archive: archiver died with error"
    assert oid.encode() in reply.progress
    assert not reply.ended
