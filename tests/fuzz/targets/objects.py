"""What objects say: commits, trees, tags, the checks of a push, and the files in trees that git itself reads."""

from __future__ import annotations

from collections.abc import Callable

from govc.archive.attributes import Attributes, parse_attributes
from govc.archive.options import ArchiveRefused, parse_archive_options
from govc.archive.pathspec import parse_pathspec
from govc.archive.substitute import CommitFacts, Decoration, Substitution
from govc.errors import LimitExceeded
from govc.graph.trees import entry_kind, split_tree
from govc.objects import fsck_attributes
from govc.objects.commit import parse_commit_links
from govc.objects.dotgit import DotFile, count_backslashed_gitmodules, is_dot_file, is_dotgit, may_hold_lookalikes
from govc.objects.errors import MalformedObject
from govc.objects.fsck import PushFsck
from govc.objects.fsck_gitmodules import check_gitmodules
from govc.objects.fsck_messages import FsckMessage, FsckPolicy, Severity
from govc.objects.gitmodules_syntax import iter_gitmodules
from govc.objects.submodule_url import is_safe_submodule_url
from govc.objects.tag import parse_tag_links
from govc.objects.tree import is_gitlink, is_tree, parse_tree
from govc.objects.types import BLOB, COMMIT, TAG, TREE, hash_object
from govc.protocol.oid import HashAlgorithm
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.lowered import lowered
from tests.fuzz.targets.wire import algo_of, hex_oid


def identity(draw: Draw) -> bytes:
    name = draw.word(b"A U Thor", b"", b"\xc3\xa9", b"A")
    blank = draw.pick(b" ", b"", b"  ")
    mail = draw.pick(b"<a@b>", b"<a@b", b"a@b>", b"<<a>>", b"<>")
    seconds = b"%d" % draw.number(1700000000, 70)
    date = draw.pick(seconds, b"0", b"01", b"-1", b"9" * 25, b"", b"1e3")
    zone = draw.pick(b"+0100", b"-0000", b"+100", b"0100", b"+99999", b"", b"+abcd")
    return name + blank + mail + draw.pick(b" ", b"", b"\t ") + date + draw.pick(b" ", b"") + zone


def commit(draw: Draw, algo: HashAlgorithm) -> bytes:
    lines = [b"tree " + hex_oid(draw, algo)]
    lines += [b"parent " + hex_oid(draw, algo) for _ in range(draw.choice((0, 1, 1, 2, 5)))]
    lines.append(b"author " + identity(draw))
    lines += [b"author " + identity(draw)] if draw.broken() else []
    lines.append(b"committer " + identity(draw))
    extra: list[Callable[[], bytes]] = [
        lambda: b"encoding " + draw.word(b"ISO-8859-1", b"UTF-8", b"utf-16", b"hex", b"rot13", b"idna", b"x\0y"),
        lambda: b"gpgsig -----BEGIN\n abc\n -----END",
        lambda: b"parent " + draw.word(b"zz", b"12", b"0" * 39),
        lambda: draw.word(b"mergetag object 1", b"tree xyz"),
    ]
    lines += draw.some(extra, 0, 2) if draw.chance(0.3) else []
    head = b"\n".join(draw.shuffle_some(lines)) + b"\n"
    return head + draw.pick(b"\n", b"", b"\0\n") + draw.word(b"subject\n\nbody\n", b"m", b"", b"\n\n\nx\n\ny")


def tag(draw: Draw, algo: HashAlgorithm) -> bytes:
    lines = [
        b"object " + hex_oid(draw, algo),
        b"type " + draw.word(b"commit", b"tree", b"blob", b"tag"),
        b"tag " + draw.word(b"v1", b"a/b"),
        b"tagger " + identity(draw),
    ]
    if draw.chance(0.2):
        lines.append(draw.choice((b"gpgsig abc", b"gpgsig-sha256 x", b"other x")))
        lines += [b" more"] * draw.randrange(3)
    lines = draw.shuffle_some(lines)
    if draw.chance(0.1):  # the end comes too early
        return b"\n".join(lines[: draw.randint(1, len(lines))])
    return b"\n".join(lines) + draw.pick(b"\n\nmessage\n", b"\n", b"", b"\n\0", b"\nx y\n")


NAMES = (
    b"a",
    b"a.c",
    b"a0",
    b"file.txt",
    b".gitmodules",
    b".gitattributes",
    b".gitignore",
    b".mailmap",
    b".git",
    b"git~1",
    b"GITMOD~1",
    b"gi7eba~1",
    b".GIT",
    b".g\xe2\x80\x8cit",
    b"x\\.git",
    b"x\\.gitmodules",
    b".gitmodules::$DATA",
    b".git . .",
    b"..",
    b".",
)
MODES = (b"100644", b"100755", b"120000", b"40000", b"160000", b"100664", b"040000", b"0", b"777777777777", b"9")


def tree(draw: Draw, algo: HashAlgorithm) -> bytes:
    entries = []
    for _ in range(draw.choice((0, 1, 2, 3, 6, 12))):
        name = draw.choice(NAMES[:4]) if draw.chance(0.6) else draw.word(*NAMES)
        if draw.chance(0.02):
            name += b"n" * 5000
        mode = draw.choice(MODES[:5]) if not draw.broken() else draw.choice(MODES)
        oid = bytes([draw.randrange(4)]) * algo.oid_size
        entries.append((name + b"/" if mode == b"40000" else name, mode, name, draw.raw(oid)))
    entries.sort()
    draw.shuffle_some(entries)
    data = b"".join(mode + draw.pick(b" ", b"", b"  ") + name + b"\0" + oid for _, mode, name, oid in entries)
    return draw.spoil(data) if draw.chance(0.15) else data


def make_commit(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    return draw.raw(commit(draw, algo)), algo


def run_commit(data: tuple[bytes, HashAlgorithm]) -> None:
    links = parse_commit_links(*data)
    size = data[1].oid_size
    assert len(links.tree) == size and all(len(oid) == size for oid in links.parents) and 0 <= links.time < 1 << 63


def make_tag(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    return draw.raw(tag(draw, algo)), algo


def make_tree(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    return tree(draw, algo), algo


def run_tree(data: tuple[bytes, HashAlgorithm]) -> None:
    """The two readers of trees agree on what is one (the graph's also takes what only fsck refuses)."""
    raw = split_tree(data[0], data[1].oid_size)
    kinds = [entry_kind(entry) for entry in raw] if raw is not None else []
    entries = parse_tree(*data)
    assert raw is not None and len(raw) == len(entries)
    for entry, kind in zip(entries, kinds, strict=True):
        assert (kind == TREE) == is_tree(entry.mode) and (kind == 0) == is_gitlink(entry.mode)


def make_fsck(draw: Draw) -> tuple[list[tuple[int, bytes]], HashAlgorithm, FsckPolicy, bool, int]:
    algo = algo_of(draw)
    objects = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        kind = draw.choice((COMMIT, COMMIT, TREE, TREE, TREE, TAG, TAG, BLOB, 9))
        maker = {COMMIT: commit, TREE: tree, TAG: tag}.get(kind)
        content = draw.raw(maker(draw, algo)) if maker else b"x"
        if kind == TREE and draw.chance(0.2):
            name = draw.choice((b".gitattributes", b".gitmodules"))
            content = draw.raw(b"100644 " + name + b"\0" + draw.randbytes(algo.oid_size))
        objects.append((kind, content[: draw.randrange(len(content) + 1)] if draw.chance(0.1) else content))
    severities = dict.fromkeys(FsckMessage, Severity.IGNORE) if draw.chance(0.2) else {}
    if draw.chance(0.5):
        for _ in range(draw.randrange(30)):
            severities[draw.choice(list(FsckMessage))] = draw.choice((Severity.WARN, Severity.IGNORE, Severity.ERROR))
    skip = frozenset(
        {hash_object(algo, kind, data) for kind, data in objects if kind in (1, 2, 4) and draw.chance(0.05)}
    )
    policy = FsckPolicy(severities=severities, skip_oids=skip, strict=draw.chance(0.7), tree_entry_bytes_max=4096)
    return objects, algo, policy, draw.chance(0.3), draw.randrange(7)


def run_fsck(data: tuple[list[tuple[int, bytes]], HashAlgorithm, FsckPolicy, bool, int]) -> None:
    objects, algo, policy, missing_ok, shift = data
    fsck = PushFsck(policy, algo, findings_max=5)
    for kind, content in objects:
        fsck.visit(hash_object(algo, kind if kind < 5 else BLOB, content), kind, content)
    answers: list[tuple[int, bytes | None] | None] = [
        None,
        (BLOB, b'[submodule "a"]\n\turl = -x\n\tpath = -p\n\tupdate = !x\n'),
        (TREE, b""),
        (BLOB, None),
        (BLOB, b"a b\n" + b"x" * 3000),
        (BLOB, b"* text\0" + b"x" * 3000),
        (BLOB, b"a\nb"),
    ]
    with lowered(*[(fsck_attributes, "ATTRIBUTES_BYTES_MAX", 2)][: shift == 6]):
        fsck.finish(lambda oid: answers[(oid[0] + shift) % 7], missing_ok=missing_ok)
    for line in fsck.iter_lines():
        assert line.isprintable() or "\n" in line or "\t" in line or "\ufffd" in line or not line.isascii()
    assert len(fsck.findings) <= 6
    assert (fsck.refusal is None) == (not fsck.errors) or fsck.omitted_count


def make_policy(draw: Draw) -> list[tuple[str, str]]:
    pairs = []
    for _ in range(draw.randrange(4)):
        key = draw.choice(list(FsckMessage)).printed.lower() if not draw.broken() else draw.word(b"x").decode("latin-1")
        if draw.chance(0.3):
            key = "largepathname"
        value = draw.choice(("error", "warn", "ignore")) + draw.pick("", ":10", ":1k", ":-5", ":9x", ":" + "9" * 30)
        pairs.append((key, value if not draw.broken() else draw.word(b"x").decode("latin-1")))
    return pairs


def make_gitmodules(draw: Draw) -> bytes:
    header: list[Callable[[], bytes]] = [
        lambda: (
            b'[submodule "' + draw.word(b"a", b"a/b", b"../x", b"a\\\\..\\\\b", b'x\\"y') + draw.pick(b'"]', b'"', b"]")
        ),
        lambda: draw.choice((b"[core]", b"[a.b]", b"[", b"[]", b"[a b]", b'[s  "x"]')),
    ]
    urls = (b"https://h/x", b"../x", b"-u", b"git://h/%0a", b"http::https://h:99/../..", b"https://u:p@[::1]:0/%2e%2e/")
    line: list[Callable[[], bytes]] = [
        lambda: b"\turl = " + draw.word(*urls),
        lambda: b"path=" + draw.word(b"a", b"-x"),
        lambda: b"update = " + draw.word(b"!rm", b"checkout"),
        lambda: draw.choice((b"url", b"url # c", b"; comment", b"# c", b"", b"\t", b"9bad = 1", b"a b")),
        lambda: b"x = " + draw.word(b'"a\\n\\t\\b\\\\\\""', b'"open', b"a \\", b"\\q", b"a  # c", b'" "x" "', b"a\0b"),
    ]
    parts = [draw.choice(header)()]
    for _ in range(draw.randrange(6)):
        parts.append(draw.choice(header)() if draw.chance(0.2) else draw.choice(line)())
    text = draw.pick(b"", b"\xef\xbb\xbf") + draw.pick(b"\n", b"\r\n").join(parts) + draw.pick(b"\n", b"")
    return draw.spoil(text) if draw.chance(0.3) else text


def run_gitmodules(content: bytes) -> None:
    said: list[bytes] = []
    check_gitmodules(content, lambda message, text: bool(said.append(text)))
    for key, value in iter_gitmodules(content):
        assert b"\0" not in key and b"\0" not in (value or b"")


def make_url(draw: Draw) -> bytes:
    scheme = draw.word(
        b"https://", b"http://", b"ftps://", b"git://", b"./", b"../../", b"http::", b"ssh://", b"file:///"
    )
    host = draw.word(b"h", b"u@h", b"u:p%40@h", b"[::1]", b"h:80", b"h:99999", b":1", b"h:", b"h_x")
    path = b"/".join([b""] + [draw.word(b"a", b"..", b".", b"%2e%2E", b"%0a", b"x%") for _ in range(draw.randrange(5))])
    return draw.raw(scheme + host + path + draw.pick(b"", b"?q=%0A", b"#f", b"?%zz"))


def make_dotgit(draw: Draw) -> bytes:
    ignored = [b"", b"\xe2\x80\x8c", b"\xe2\x81\xaa", b"\xef\xbb\xbf", b"\xe2\x80"]
    stem = draw.word(b".git", b".gitmodules", b"git~1", b".gitattributes", b"gitmod~4", b"gi7eba~1", b"gi7eb~10", b"a")
    letters = [draw.choice(ignored if draw.chance(0.3) else [b""]) + bytes([byte]) for byte in stem]
    name = b"".join(letter.swapcase() if draw.chance(0.2) else letter for letter in letters)
    return draw.raw(
        draw.pick(b"", b"x\\", b"a/", b"\\\\") + name + draw.pick(b"", b" .", b"::$DATA", b"/x", b"\\x", b"\xff")
    )


def run_dotgit(name: bytes) -> None:
    is_like = is_dotgit(name)
    found = [is_dot_file(name, file) for file in DotFile]
    count_backslashed_gitmodules(name)
    if (is_like or any(found)) and b"\0" not in name:
        assert may_hold_lookalikes(name)
        assert may_hold_lookalikes(b"other\0" + name)


# What an archive is asked for, and what the tree says about it


def make_attributes(draw: Draw) -> tuple[bytes, bytes, list[str]]:
    patterns = (
        b"*",
        b"*.txt",
        b"a/b",
        b"/x",
        b"dir/",
        b'"q\\"\\141"',
        b"**/x",
        b"[a-z]*",
        b"[attr]m",
        b"!n",
        b"[attr]",
    )
    states = (b"export-ignore", b"-text", b"!eol", b"eol=crlf", b"m", b"-m", b"binary", b"builtin_x", b"x=\xff", b"=a")

    def text() -> bytes:
        lines = []
        for _ in range(draw.randrange(6)):
            words = [draw.word(*patterns), *(draw.word(*states) for _ in range(draw.randrange(4)))]
            line = draw.pick(b" ", b"\t", b"").join(words)
            lines.append(line + b"x" * 2100 if draw.chance(0.02) else line)
        return draw.pick(b"", b"\xef\xbb\xbf") + draw.pick(b"\n", b"\r\n").join(draw.raw(line) for line in lines)

    paths = [
        draw.word(b"a/b", b"x", b"a/b/c.txt", b"dir/", b"z/dir/").decode("utf-8", "surrogateescape") for _ in range(3)
    ]
    return text(), text(), paths


def run_attributes(data: tuple[bytes, bytes, list[str]]) -> None:
    root, inner, paths = data
    attributes = Attributes(above=(parse_attributes(inner),), below=(parse_attributes(root),))
    attributes.provide("", root)
    attributes.provide("a/", inner)
    for path in paths:
        values = attributes.of(path, ("export-ignore", "text", "eol", "m"))
        assert len(values) == 4


def make_options(draw: Draw) -> list[bytes]:
    words = (
        b"--format=tar",
        b"--form",
        b"zip",
        b"--prefix=a/",
        b"--no-prefix",
        b"--mtime",
        b"--no-mtime",
        b"-v",
        b"-9",
        b"-l",
        b"-o",
        b"-vl",
        b"--list",
        b"--list=1",
        b"--no-verbose",
        b"--remote=x",
        b"--exec=y",
        b"--add-file=z",
        b"--output",
        b"--",
        b"-",
        b"HEAD",
        b"path",
        b"--worktree",
        b"-\xc2\xb2",
    )
    return [draw.word(*words) for _ in range(draw.randrange(6))]


def make_pathspec(draw: Draw) -> tuple[list[bytes], list[str]]:
    magic = (
        b"",
        b":(top)",
        b":(glob,icase)",
        b":(literal)",
        b":(literal,glob)",
        b":!",
        b":/",
        b":(exclude",
        b":(x)",
        b"::",
    )
    specs = [
        draw.word(*magic) + draw.word(b"a", b"a/*", b"**/c", b"a/../b", b"../x", b"A/B", b"", b"./", b"a//b", b"[b]*")
        for _ in range(draw.randrange(4))
    ]
    return specs, ["a", "a/b", "b", "a/b/c", "x[y"]


def run_pathspec(data: tuple[list[bytes], list[str]]) -> None:
    specs, paths = data
    parsed = parse_pathspec(specs)
    bool(parsed)
    for path in paths:
        chosen = parsed.matches(path)
        folders = [path[: at + 1] for at, char in enumerate(path) if char == "/"]
        assert not chosen or all(parsed.may_match_below(folder) for folder in folders)
    parsed.unmatched(paths)


PLACEHOLDERS = b"H h T t P p an aN ae aE al aL at ad aD ai aI as ar cn ct cr az d D e s f b B m n % x41 xzz G? GT GK Gx"
FORMS = tuple(b"%" + word for word in PLACEHOLDERS.split())


def make_substitution(draw: Draw) -> tuple[bytes, list[bytes], HashAlgorithm]:
    algo = algo_of(draw)
    data = commit(draw, algo)
    extra = (
        b"%(describe)",
        b"%(describe:tags)",
        b"%C(red)",
        b"%Cgreen",
        b"%+b",
        b"%-b",
        b"% s",
        b"%",
        b"text",
        b"%(x)",
    )
    texts = [b"".join(draw.word(*FORMS, *extra) for _ in range(draw.randrange(1, 6))) for _ in range(2)]
    return data, texts, algo


def run_substitution(data: tuple[bytes, list[bytes], HashAlgorithm]) -> None:
    """Only of commits that parse: what doesn't is refused before."""
    content, texts, algo = data
    parse_commit_links(content, algo)
    facts = CommitFacts(
        oid=b"\1" * algo.oid_size,
        data=content,
        shorten=lambda oid: oid.hex()[:7].encode(),
        decorations=(Decoration(b"main", is_head=True), Decoration(b"v1", is_tag=True)),
        describe=lambda options: options,
        now=lambda: 1.8e9,
    )
    substitution = Substitution(facts)
    for text in texts:
        substitution(b"a $Format:" + text.replace(b"$", b"") + b"$ b $Format:$ c")


def run_policy(pairs: list[tuple[str, str]]) -> None:
    policy = FsckPolicy.from_pairs(pairs)
    for message in FsckMessage:
        assert policy.severity_of(message) in (Severity.ERROR, Severity.WARN, Severity.IGNORE)


MALFORMED: tuple[type[BaseException], ...] = (MalformedObject,)


TARGETS = (
    Target(
        name="commit", covers=("govc.objects.commit",), make=make_commit, run=run_commit, allowed=MALFORMED, weight=10
    ),
    Target(
        name="tag",
        covers=("govc.objects.tag",),
        make=make_tag,
        run=lambda data: parse_tag_links(*data),
        allowed=MALFORMED,
        weight=10,
    ),
    Target(
        name="tree",
        covers=("govc.objects.tree", "govc.graph.trees:split_tree,entry_kind"),
        make=make_tree,
        run=run_tree,
        allowed=MALFORMED,
        weight=5,
    ),
    Target(
        name="fsck",
        covers=(
            "govc.objects.fsck",
            "govc.objects.fsck_attributes",
            "govc.objects.fsck_commit",
            "govc.objects.fsck_header",
            "govc.objects.fsck_tag",
            "govc.objects.fsck_tree",
        ),
        make=make_fsck,
        run=run_fsck,
        allowed=(LimitExceeded,),
        weight=3,
    ),
    Target(
        name="fsck-policy",
        covers=("govc.objects.fsck_messages",),
        make=make_policy,
        run=run_policy,
        allowed=(ValueError,),
        weight=0.3,
    ),
    Target(
        name="gitmodules",
        covers=("govc.objects.gitmodules_syntax", "govc.objects.fsck_gitmodules"),
        make=make_gitmodules,
        run=run_gitmodules,
        allowed=MALFORMED,
        weight=5,
    ),
    Target(
        name="submodule-url",
        covers=("govc.objects.submodule_url",),
        make=make_url,
        run=is_safe_submodule_url,
        weight=8,
    ),
    Target(name="dotgit", covers=("govc.objects.dotgit",), make=make_dotgit, run=run_dotgit, weight=8),
    Target(name="attributes", covers=("govc.archive.attributes",), make=make_attributes, run=run_attributes, weight=1),
    Target(
        name="archive-options",
        covers=("govc.archive.options",),
        make=make_options,
        run=parse_archive_options,
        allowed=(ArchiveRefused,),
        weight=8,
    ),
    Target(
        name="pathspec",
        covers=("govc.archive.pathspec",),
        make=make_pathspec,
        run=run_pathspec,
        allowed=(ArchiveRefused,),
        weight=3,
    ),
    Target(
        name="substitution",
        covers=("govc.archive.substitute",),
        make=make_substitution,
        run=run_substitution,
        allowed=MALFORMED,
        weight=1.5,
    ),
)
