import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.config.config import Config, Scope
from govc.errors import BadConfig, GovcError, RepositoryNotFound, RepositoryRefused
from govc.repo.discover import (
    FoundRepository,
    PathRefused,
    check_ownership,
    check_path_alias,
    decode_wsgi_path,
    enter_repository,
    find_repository,
    is_git_directory,
    is_listed_safe,
    is_owned,
)

OTHER_UID = 12345
ENVIRON = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "PATH": os.environ["PATH"]}
HEAD_OID = "1" * 40


def git(*arguments: str | Path) -> None:
    subprocess.run(["git", *arguments], env=ENVIRON, capture_output=True, check=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one repository of each kind."""
    root = tmp_path_factory.mktemp("srv")
    git("init", "-q", "--bare", "-b", "main", root / "bare.git")
    git("init", "-q", "-b", "main", root / "plain")
    git("init", "-q", "-b", "main", "--separate-git-dir", root / "elsewhere", root / "split")
    for name in ("both", "both.git"):
        git("init", "-q", "--bare", root / name)
    git("init", "-q", "-b", "main", root / "worked.git")
    (root / "link.git").symlink_to("bare.git")
    (root / "loop.git").symlink_to("loop.git")
    (root / "...").mkdir()
    git("init", "-q", "--bare", root / "..." / "dots.git")
    git("init", "-q", "--bare", root / "~tilde.git")
    broken = {
        "norefs": lambda p: shutil.rmtree(p / "refs"),
        "noobjects": lambda p: shutil.rmtree(p / "objects"),
        "nohead": lambda p: (p / "HEAD").unlink(),
        "badhead": lambda p: (p / "HEAD").write_text("junk\n"),
        "otherhead": lambda p: (p / "HEAD").write_text("ref: HEAD\n"),
        "blankhead": lambda p: (p / "HEAD").write_text("ref:\t \nrefs/heads/x\n"),
        "detached": lambda p: (p / "HEAD").write_text(HEAD_OID + "\n"),
        "shorthead": lambda p: (p / "HEAD").write_text(HEAD_OID[1:] + "\n"),
        "linkhead": lambda p: ((p / "HEAD").unlink(), (p / "HEAD").symlink_to("refs/heads/main")),
        "badlink": lambda p: ((p / "HEAD").unlink(), (p / "HEAD").symlink_to("description")),
        "emptyhead": lambda p: (p / "HEAD").write_text(""),
        "nopacks": lambda p: shutil.rmtree(p / "objects" / "pack"),
    }
    for name, breaks in broken.items():
        git("init", "-q", "--bare", root / f"{name}.git")
        breaks(root / f"{name}.git")
    (root / "file").write_text("not a gitfile\n")
    (root / "void").write_text("gitdir: \n")
    (root / "lost").write_text("gitdir: nowhere\n")
    (root / "gitfile").write_text("gitdir: bare.git\r\n")
    (root / "gitfile2.git").write_text(f"gitdir: {root}/plain/.git")
    (root / "empty").mkdir()
    return root


def ask_backend(root: Path, path_info: str, **more: str) -> int:
    """Return the status with which git http-backend answers for PATH_INFO + /HEAD."""
    environ = ENVIRON | {
        "GIT_PROJECT_ROOT": str(root),
        "PATH_INFO": path_info + "/HEAD",
        "REQUEST_METHOD": "GET",
        "GIT_HTTP_EXPORT_ALL": "",
    }
    done = subprocess.run(["git", "http-backend"], env=environ | more, capture_output=True, check=False)
    first = done.stdout.partition(b"\r\n")[0]
    return int(first.split()[1]) if first.startswith(b"Status:") else 200


def ask_govc(root: Path, path_info: str) -> int:
    try:
        check_path_alias(path_info + "/HEAD")
        find_repository(str(root), path_info, export_all=True, environ=ENVIRON)
    except GovcError as error:
        return error.http_status
    return 200


NAMES = [
    "bare.git",
    "bare",
    "plain",
    "plain/.git",
    "split",
    "both",
    "both.git",
    "worked",
    "worked.git",
    "link.git",
]
NAMES += [
    "link",
    "loop.git",
    ".../dots",
    "~tilde",
    "norefs",
    "noobjects",
    "nohead",
    "badhead",
    "otherhead",
    "file",
]
NAMES += [
    "blankhead",
    "detached",
    "shorthead",
    "linkhead",
    "badlink",
    "emptyhead",
    "nopacks",
    "void",
    "lost",
    "",
]
NAMES += [
    "gitfile",
    "gitfile2",
    "empty",
    "absent",
    "bare.git/objects",
    "elsewhere",
    "x" * 300,
    "y/" * 2500 + "z",
]
PATHS = [f"/{name}" if name else "" for name in NAMES]
PATHS += [
    "/",
    "//",
    "/bare.git/",
    "/bare.git//",
    "/./bare.git",
    "/../srv/bare.git",
    "/bare.git/.",
    "/bare.git/..",
]
PATHS += ["bare.git", "~tilde.git", "/~tilde", "/a/../bare.git", "/bare.git\\", "/..."]


@pytest.mark.parametrize("path_info", PATHS)
def test_a_path_gets_the_answer_of_git_http_backend(root: Path, path_info: str) -> None:
    assert ask_backend(root, path_info) == ask_govc(root, path_info) or head_is_missing(root, path_info)


def head_is_missing(root: Path, path_info: str) -> bool:
    """A HEAD that is a dangling symbolic link is a repository to both, yet no file that can be sent."""
    return path_info == "/linkhead" and ask_govc(root, path_info) == 200


@settings(max_examples=100, derandomize=True, deadline=None)
@given(parts=st.lists(st.sampled_from(["/", ".", "..", "...", "bare.git", "a", "~", ".a"]), max_size=7))
def test_no_path_leaves_the_root(parts: list[str]) -> None:
    path_info = "".join(parts)
    components = path_info[1:].split("/")
    aliased = not path_info.startswith(("/", "~")) or any(
        part in (".", "..") or (part == "" and i < len(components) - 1) for i, part in enumerate(components)
    )
    if aliased:
        with pytest.raises(PathRefused):
            check_path_alias(path_info)
    else:
        check_path_alias(path_info)


@pytest.mark.parametrize(
    ("path", "gitdir", "display_name"),
    [
        ("/bare", "bare.git", "bare.git"),
        ("/bare.git/", "bare.git", "bare.git"),
        ("/plain", "plain/.git", "plain/.git"),
        ("/both", "both", "both"),
        ("/worked", "worked.git/.git", "worked.git/.git"),
        ("/split", "elsewhere", "split/.git"),
        ("/gitfile", "bare.git", "gitfile"),
        ("/link", "link.git", "link.git"),
    ],
)
def test_suffixes_are_guessed_in_git_s_order(root: Path, path: str, gitdir: str, display_name: str) -> None:
    found = find_repository(str(root), path, export_all=True, environ=ENVIRON)
    assert (str(root / gitdir), display_name) == (found.gitdir, found.display_name)


def test_the_root_itself_can_be_the_repository(root: Path) -> None:
    found = find_repository(str(root / "bare.git"), "", export_all=True, environ=ENVIRON)
    assert str(root / "bare.git") == found.gitdir.rstrip("/")


def test_a_relative_root_gives_absolute_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert str(root / "bare.git") == os.path.normpath(
        find_repository(".", "/bare", export_all=True, environ=ENVIRON).gitdir
    )


def test_only_what_is_exported_is_found(root: Path) -> None:
    with pytest.raises(RepositoryNotFound, match="not exported"):
        find_repository(str(root), "/both.git", export_all=False, environ=ENVIRON)
    (root / "both.git" / "git-daemon-export-ok").touch()
    find_repository(str(root), "/both.git", export_all=False, environ=ENVIRON)


def test_a_nul_and_an_endless_path_are_not_found(root: Path) -> None:
    for path in ("/bare.git\0", "/\0", "/" + "x" * 4096):
        with pytest.raises(RepositoryNotFound) as caught:
            find_repository(str(root), path, export_all=True, environ=ENVIRON)
        assert caught.value.public_text == "repository not found"


def test_undecodable_names_reach_the_disk_unchanged(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\xc3\xa9.git")
    git("init", "-q", "--bare", tmp_path / name)
    path_info = decode_wsgi_path(b"/caf\xe9\xc3\xa9".decode("latin-1"))
    found = find_repository(str(tmp_path), path_info, export_all=True, environ=ENVIRON)
    assert str(tmp_path / name) == found.gitdir


def test_a_pipe_as_head_does_not_block(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "bare.git", tmp_path / "x.git")
    (tmp_path / "x.git" / "HEAD").unlink()
    os.mkfifo(tmp_path / "x.git" / "HEAD")
    assert not is_git_directory(str(tmp_path / "x.git"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RepositoryNotFound):
        enter_repository(str(tmp_path / "pipe"))


def test_a_linked_worktree_is_a_repository(tmp_path: Path) -> None:
    main = tmp_path / "main"
    git("init", "-q", main)
    git("-C", main, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x")
    git("-C", main, "worktree", "add", "-q", tmp_path / "linked")
    found = enter_repository(str(tmp_path / "linked"))
    assert str(main / ".git" / "worktrees" / "linked") == found.gitdir
    assert str(tmp_path / "linked" / ".git") == found.gitfile


def found_at(path: Path, gitfile: str | None = None) -> FoundRepository:
    return FoundRepository(gitdir=str(path), gitfile=gitfile, display_name="x")


def test_a_repository_of_another_user_is_refused(root: Path) -> None:
    owner = (root / "bare.git").stat().st_uid
    found = found_at(root / "bare.git")
    check_ownership(found, None, environ=ENVIRON, euid=owner)
    with pytest.raises(RepositoryRefused, match="detected dubious ownership") as caught:
        check_ownership(found, None, environ=ENVIRON, euid=OTHER_UID)
    assert str(root) not in caught.value.public_text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        (["*"], True),
        (["{real}"], True),
        (["{real}/"], True),
        (["{parent}/*"], True),
        (["{parent}"], False),
        (["{real}x"], False),
        (["*", ""], False),
        (["*", None], False),
        (["", "{real}"], True),
        (["relative"], False),
        (["."], False),
        (["~no-such-user/x"], False),
    ],
)
def test_safe_directory_lists_what_is_trusted(root: Path, values: list[str | None], expected: bool) -> None:
    real = os.path.realpath(root / "bare.git")
    filled = [v and v.format(real=real, parent=os.path.dirname(real)) for v in values]
    config = Config.of([("safe.directory", v) for v in filled], Scope.GLOBAL)
    assert expected == is_listed_safe(real, config)


def test_safe_directory_of_the_repository_itself_is_ignored(root: Path) -> None:
    for scope in (Scope.LOCAL, Scope.WORKTREE):
        assert not is_listed_safe("/x", Config.of([("safe.directory", "*")], scope))
    for scope in (Scope.SYSTEM, Scope.GLOBAL, Scope.COMMAND):
        assert is_listed_safe("/x", Config.of([("safe.directory", "*")], scope))


def test_the_environment_can_list_a_safe_directory(root: Path) -> None:
    environ = ENVIRON | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    check_ownership(found_at(root / "bare.git"), None, environ=environ, euid=OTHER_UID)


def test_a_broken_shared_config_is_not_trusted(root: Path, tmp_path: Path) -> None:
    (tmp_path / "global").write_text("[broken\n")
    environ = ENVIRON | {"GIT_CONFIG_GLOBAL": str(tmp_path / "global")}
    with pytest.raises(BadConfig):
        check_ownership(found_at(root / "bare.git"), None, environ=environ, euid=OTHER_UID)


def test_a_gitfile_needs_the_right_owner_too(root: Path) -> None:
    owner = root.stat().st_uid
    found = found_at(root / "elsewhere", str(root / "absent"))
    assert not is_owned(found, environ={}, euid=owner)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_of_links_targets_and_sudo(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "bare.git", tmp_path / "x.git")
    os.chown(tmp_path / "x.git", OTHER_UID, -1)
    (tmp_path / "link.git").symlink_to("x.git")
    assert is_owned(found_at(tmp_path / "x.git"), environ={}, euid=OTHER_UID)
    assert not is_owned(found_at(tmp_path / "x.git"), environ={}, euid=0)
    assert is_owned(found_at(tmp_path / "x.git"), environ={"SUDO_UID": str(OTHER_UID)}, euid=0)
    assert not is_owned(found_at(tmp_path / "x.git"), environ={"SUDO_UID": "12345x"}, euid=0)
    assert is_owned(found_at(tmp_path / "link.git"), environ={}, euid=0)
    assert not is_owned(found_at(tmp_path / "link.git"), environ={}, euid=0, follows_links=True)
    statuses = [ask_backend(tmp_path, path) for path in ("/x", "/link")]
    assert statuses == [ask_govc(tmp_path, path) for path in ("/x", "/link")] == [500, 200]
    listed = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    assert ask_backend(tmp_path, "/x", **listed) == 200
