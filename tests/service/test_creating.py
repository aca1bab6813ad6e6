"""Where a push may make a repository, and that it is there wholly or not at all."""

import os
import threading
from contextlib import nullcontext

import pytest

from govc.errors import GovcError
from govc.odb.cache import BaseCache
from govc.repo.discover import enter_repository
from govc.repo.repository import Surroundings
from govc.service import creating
from govc.service.creating import HIDDEN_PREFIX, LEFTOVER_SECONDS, RepositoryCreator


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home"), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}


@pytest.fixture
def creator(root, environ):
    around = Surroundings(environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    made = RepositoryCreator(str(root), around, environ)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/app", "app.git"),
        ("/app.git", "app.git"),
        ("/team/app.git", "team/app.git"),
        ("/a/b/c/d/e/f/g/h", "a/b/c/d/e/f/g/h.git"),
        ("/libstdc++-v3_1.0", "libstdc++-v3_1.0.git"),
    ],
)
def test_where_it_is_made(creator, root, path, place):
    assert creator.find_place(path) == f"{root}/{place}"


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/.git", "/a/.git", "/.hidden", "/a/.b/c", "/-/app", "/-x", "/a/../b", "/a//b", "/./a"),
        *(
            "/a\\b",
            "/a b",
            "/a\nb",
            "/a\0b",
            "/a%2fb",
            "/a:b",
            "/~ann/a",
            "/\u00e4",
            "/\udcff",
            "/a.git.git",
            "/a.lock",
        ),
        *(
            "/a.",
            "/a.git/b",
            "/x.lock/y",
            f"/{'x' * 101}",
            "/a/b/c/d/e/f/g/h/i",
            "/con/'$(id)'",
            "/a;b",
            "/.govc-new-1",
        ),
    ],
)
def test_names_that_are_not_plain_make_nothing(creator, path):
    assert creator.find_place(path) is None


def test_places_that_are_taken_or_lead_elsewhere_make_nothing(creator, root, tmp_path):
    creator.create(f"{root}/there.git")
    (root / "folder").mkdir()
    (root / "file").write_text("")
    (root / "link").symlink_to(tmp_path)
    (root / "link-inside").symlink_to(root / "folder")
    (root / "dangling.git").symlink_to(tmp_path / "nowhere")
    for path in ("there", "there.git", "there.git/inside", "there.git/refs/inside", "folder", "file", "file/x"):
        assert creator.find_place(f"/{path}") is None, path
    for path in ("link/x", "link-inside/x", "dangling", "dangling.git"):
        assert creator.find_place(f"/{path}") is None, path
    assert creator.find_place("/folder/x") == f"{root}/folder/x.git"


def test_a_root_that_is_a_repository_has_none_inside(environ, root, creator):
    creator.create(f"{root}/there.git")
    around = Surroundings(environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    assert RepositoryCreator(f"{root}/there.git", around, environ).find_place("/x") is None


def test_what_is_made_is_a_repository_that_git_has_made(creator, root, tmp_path):
    (tmp_path / "home/.gitconfig").write_text("[init]\n\tdefaultBranch = trunk\n")
    assert creator.create(f"{root}/team/deep/app.git")
    found = enter_repository(f"{root}/team/deep/app")
    assert found.gitdir == f"{root}/team/deep/app.git"
    assert (root / "team/deep/app.git/HEAD").read_text() == "ref: refs/heads/trunk\n"
    assert (root / "team/deep/app.git/git-daemon-export-ok").exists()
    assert os.listdir(root / "team/deep") == ["app.git"]


def test_a_name_that_is_no_branch_is_not_followed(creator, root, tmp_path):
    (tmp_path / "home/.gitconfig").write_text("[init]\n\tdefaultBranch = a..b\n")
    creator.create(f"{root}/app.git")
    assert (root / "app.git/HEAD").read_text() == "ref: refs/heads/main\n"


def test_of_many_at_once_one_makes_it_and_all_have_it(creator, root):
    place = f"{root}/new/app.git"
    start = threading.Barrier(8)
    outcomes, failures = [], []

    def create():
        try:
            start.wait()
            outcomes.append(creator.create(place))
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(outcomes) == [False] * 7 + [True]
    assert os.listdir(root / "new") == ["app.git"]
    enter_repository(place)


@pytest.mark.parametrize("step", range(40))
def test_whatever_breaks_leaves_nothing_or_all(creator, root, monkeypatch, step):
    """A failing system call at any step: the place is empty, or holds a whole repository."""
    count = 0

    def counted(real):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == step + 1:
                raise OSError(5, "broken")
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in ("mkdir", "rename", "fsync", "open", "makedirs"):
            patched.setattr(os, name, counted(getattr(os, name)))
        try:
            creator.create(f"{root}/app.git")
            is_made = True
        except (OSError, GovcError):
            is_made = False
    if is_made:
        assert count <= step
    if os.path.exists(root / "app.git"):
        enter_repository(f"{root}/app.git")
    assert set(os.listdir(root)) <= {"app.git"}
    assert creator.find_place("/app") is None or creator.create(f"{root}/app.git")


def test_what_a_crash_leaves_goes_after_a_day(creator, root, monkeypatch):
    old, young = root / f"{HIDDEN_PREFIX}old", root / f"{HIDDEN_PREFIX}young"
    for folder in (old, young):
        (folder / "new.git").mkdir(parents=True)
    os.utime(old, (0, os.stat(young).st_mtime - LEFTOVER_SECONDS - 1))
    creator.create(f"{root}/app.git")
    assert sorted(os.listdir(root)) == [young.name, "app.git"]


def test_what_another_worker_has_just_made_may_vanish_while_it_is_looked_at(creator, root, monkeypatch):
    theirs = root / f"{HIDDEN_PREFIX}theirs"
    theirs.mkdir()
    scandir = os.scandir

    def list_then_vanish(path):
        if path != str(root):
            return scandir(path)
        with scandir(path) as entries:
            listed = list(entries)
        theirs.rmdir()
        return nullcontext(listed)

    monkeypatch.setattr(os, "scandir", list_then_vanish)
    assert creator.create(f"{root}/app.git")
    monkeypatch.undo()
    assert not theirs.exists()
    assert os.listdir(root) == ["app.git"]


def test_the_empty_one_is_private_and_goes_away(creator):
    empty = creator.empty()
    assert empty is creator.empty()
    assert os.stat(os.path.dirname(empty.gitdir)).st_mode & 0o777 == 0o700
    assert list(empty.snapshot().table.iter_refs()) == []
    creator.close()
    assert not os.path.exists(os.path.dirname(empty.gitdir))


def test_folders_are_synced_from_the_bottom_up(creator, root, monkeypatch):
    synced = []
    monkeypatch.setattr(creating, "_sync", lambda folder: synced.append(os.path.basename(folder)))
    creator.create(f"{root}/a/b/app.git")
    assert synced[:2] == ["root", "a"]
    assert synced[-2:] == ["new.git", "b"]
    assert synced.index("heads") < synced.index("refs") < synced.index("new.git")
