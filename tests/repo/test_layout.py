import os
import subprocess
from pathlib import Path

import pytest

from govc.config.loader import load_config
from govc.config.values import BadConfigValue
from govc.errors import GovcError, RepositoryRefused
from govc.protocol.oid import SHA1, SHA256
from govc.repo.layout import (
    EVERYBODY,
    GROUP,
    UMASK,
    RepositoryLayout,
    SharedPermissions,
    find_commondir,
    read_layout,
    read_shared_permissions,
)

ENVIRON = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "PATH": os.environ["PATH"]}


def git(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], env=ENVIRON, capture_output=True, check=False)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "x.git"
    git("init", "-q", "--bare", "-b", "main", path)
    return path


def load(path: Path, text: str | None = None) -> RepositoryLayout:
    if text is not None:
        (path / "config").write_text(text)
    gitdir = str(path)
    commondir = find_commondir(gitdir)
    return read_layout(gitdir, load_config(environ=ENVIRON, gitdir=gitdir, commondir=commondir).config)


def test_a_plain_bare_repository(bare: Path) -> None:
    gitdir = str(bare)
    assert RepositoryLayout(gitdir=gitdir, commondir=gitdir, objects_dir=f"{gitdir}/objects") == load(bare)


def test_no_config_is_version_0_and_sha1(bare: Path) -> None:
    (bare / "config").unlink()
    layout = load(bare)
    assert (layout.format_version, layout.algo, layout.is_bare) == (0, SHA1, True)


def v0(text: str) -> str:
    return "[core]\nrepositoryformatversion = 0\n[extensions]\n" + text


def v1(text: str) -> str:
    return v0(text).replace("= 0", "= 1")


@pytest.mark.parametrize(
    "text",
    [
        v0("nonsense = 1"),
        v0("preciousObjects = true"),
        v0("partialClone = origin"),
        v0("worktreeConfig"),
        v0("noop"),
        v1("noop\nnoop-v1"),
        v1("objectFormat = sha1"),
        v1("partialClone = origin"),
        v1("preciousObjects"),
        "[extensions]\nnonsense = 1\nnoop-v1\n",
        v0("objectFormat = sha1"),
        v0("noop-v1"),
        v1("nonsense = 1"),
        v1("objectFormat = md5"),
        v1("objectFormat"),
        v1("partialClone"),
        v1("preciousObjects = perhaps"),
        "[core]\nrepositoryformatversion = 2\n",
        "[core]\nrepositoryformatversion = x\n",
        "[core]\nrepositoryformatversion\n",
        "[core]\nbare = perhaps\n",
    ],
)
def test_a_format_is_served_when_git_serves_it(bare: Path, text: str) -> None:
    (bare / "config").write_text(text + "\n")
    served = git("upload-pack", "--http-backend-info-refs", bare).returncode == 0
    try:
        load(bare)
    except GovcError:
        assert not served
    else:
        assert served


@pytest.mark.parametrize("text", ["refStorage = files", "relativeWorktrees = true", "submodulePathConfig = true"])
def test_extensions_of_newer_gits_are_served(bare: Path, text: str) -> None:
    assert load(bare, v1(text)).format_version == 1
    with pytest.raises(RepositoryRefused, match="repo version is 0, but v1-only extension found"):
        load(bare, v0(text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (v0("refStorage = reftable"), "repo version is 0, but v1-only extension found: refstorage"),
        (v1("refStorage = reftable:x"), "invalid value for 'extensions.refstorage': 'reftable:x'"),
        (v1("refStorage = x"), "invalid value for 'extensions.refstorage': 'x'"),
        (v1("compatObjectFormat = sha256"), "compatObjectFormat"),
        (v1("compatObjectFormat = md5"), "invalid value for 'extensions.compatobjectformat': 'md5'"),
        (v1("foo = 1"), "unknown repository extension found: foo"),
        ("[core]\nrepositoryformatversion = 7\n", "Expected git repo version <= 1, found 7"),
    ],
)
def test_a_refusal_says_why(bare: Path, text: str, sentence: str) -> None:
    with pytest.raises(RepositoryRefused) as caught:
        load(bare, text)
    assert sentence in str(caught.value)
    assert caught.value.public_text == "internal server error"


def test_an_included_file_has_no_say_in_the_format(bare: Path) -> None:
    (bare / "inc").write_text(v1("nonsense\nobjectFormat = sha256"))
    layout = load(bare, "[include]\npath = inc\n")
    assert (layout.format_version, layout.algo, layout.extensions) == (0, SHA1, {})


def test_sha256_and_precious_objects(bare: Path) -> None:
    layout = load(bare, v1("objectFormat = sha256\npreciousObjects = true"))
    assert (layout.algo, layout.precious_objects) == (SHA256, True)


def test_bare_and_worktree_are_read(bare: Path) -> None:
    layout = load(bare, "[core]\nbare = false\nworktree = ../w\n")
    assert (layout.is_bare, layout.worktree) == (False, "../w")


def test_a_linked_worktree_shares_objects(tmp_path: Path) -> None:
    main = tmp_path / "main"
    git("init", "-q", main)
    git("-C", main, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x")
    git("-C", main, "worktree", "add", "-q", tmp_path / "linked")
    layout = load(main / ".git" / "worktrees" / "linked")
    assert layout.is_linked_worktree
    assert str(main / ".git" / "objects") == layout.objects_dir
    assert not layout.is_bare


def test_an_empty_commondir_file_is_refused(bare: Path) -> None:
    (bare / "commondir").write_text("")
    with pytest.raises(RepositoryRefused, match="commondir"):
        find_commondir(str(bare))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("umask", UMASK),
        ("false", UMASK),
        ("0", UMASK),
        ("", UMASK),
        ("group", GROUP),
        ("true", GROUP),
        ("1", GROUP),
        ("all", EVERYBODY),
        ("world", EVERYBODY),
        ("everybody", EVERYBODY),
        ("2", EVERYBODY),
        ("0640", SharedPermissions(bits=0o640, is_exact=True)),
        ("0777", SharedPermissions(bits=0o666, is_exact=True)),
    ],
)
def test_shared_repository_spellings(bare: Path, value: str, expected: SharedPermissions) -> None:
    assert expected == load(bare, f"[core]\nsharedRepository = {value}\n").shared


def test_shared_repository_without_value_is_group(bare: Path) -> None:
    assert load(bare, "[core]\nsharedRepository\n").shared == GROUP


def test_a_shared_repository_that_locks_its_owner_out_is_refused(bare: Path) -> None:
    with pytest.raises(RepositoryRefused, match="0440"):
        load(bare, "[core]\nsharedRepository = 0440\n")
    with pytest.raises(BadConfigValue, match="bad boolean"):
        load(bare, "[core]\nsharedRepository = perhaps\n")


def test_permissions_for_files_and_folders() -> None:
    exact = SharedPermissions(bits=0o640, is_exact=True)
    assert (UMASK.file_mode(0o644), UMASK.directory_mode(0o755)) == (0o644, 0o755)
    assert (GROUP.file_mode(0o644), GROUP.file_mode(0o444)) == (0o664, 0o444)
    assert GROUP.directory_mode(0o755) == 0o2775
    assert (exact.file_mode(0o644), exact.file_mode(0o444)) == (0o640, 0o440)
    assert exact.directory_mode(0o755) == 0o2750


def test_shared_permissions_may_come_from_any_scope(bare: Path) -> None:
    environ = ENVIRON | {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.sharedRepository"}
    environ["GIT_CONFIG_VALUE_0"] = "all"
    config = load_config(environ=environ, gitdir=str(bare), commondir=str(bare)).config
    assert read_shared_permissions(str(bare), config) == EVERYBODY


@pytest.mark.parametrize(
    ("value", "storage", "folder"),
    [
        ("files", "files", None),
        ("reftable", "reftable", None),
        ("files://elsewhere", "files", "elsewhere"),
        ("reftable://../beside", "reftable", "../beside"),
    ],
)
def test_where_and_how_refs_are_kept(bare: Path, value: str, storage: str, folder: str | None) -> None:
    layout = load(bare, v1(f"refStorage = {value}"))
    expected = bare if folder is None else (bare / folder).resolve()
    assert (storage, str(expected), str(expected)) == (layout.ref_storage, layout.refs_gitdir, layout.refs_commondir)


def test_an_absolute_folder_of_refs_and_a_linked_worktree(bare: Path, tmp_path: Path) -> None:
    linked = bare / "worktrees/w"
    linked.mkdir(parents=True)
    (linked / "commondir").write_text("../..\n")
    (bare / "config").write_text(v1(f"refStorage = reftable://{tmp_path}/refs.d"))
    layout = load(linked)
    assert (f"{tmp_path}/refs.d/worktrees/w", f"{tmp_path}/refs.d") == (layout.refs_gitdir, layout.refs_commondir)
    assert layout.main_is_bare and not layout.is_bare
