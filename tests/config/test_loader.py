import os
import subprocess
from pathlib import Path

import pytest

from govc.config.config import Config
from govc.config.loader import load_config, load_protected_config, read_config_file
from govc.errors import BadConfig


class Site:
    """A home, a system file and one bare repository, loaded by govc and by git alike."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.repo = folder / "srv" / "x.git"
        self.system = folder / "system"
        self.home.mkdir()
        self.repo.mkdir(parents=True)
        self.environ = {
            "HOME": str(self.home),
            "GIT_CONFIG_SYSTEM": str(self.system),
            "PATH": os.environ["PATH"],
        }
        self.git("init", "-q", "--bare", "-b", "main", ".")

    def git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-C", str(self.repo), *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, check=False)

    def ask_git(self) -> list[tuple[str, str, str | None]] | None:
        done = self.git("config", "-z", "-l", "--show-scope", "--includes")
        if done.returncode:
            return None
        fields = done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
        answers = []
        for scope, record in zip(fields[::2], fields[1::2], strict=True):
            key, newline, value = record.partition("\n")
            answers.append((scope, key, value if newline else None))
        return answers

    def load(self, head_branch: str | None = "main") -> Config:
        return self.load_watched(head_branch)[0]

    def load_watched(self, head_branch: str | None = "main") -> tuple[Config, tuple[str, ...]]:
        gitdir = str(self.repo)
        loaded = load_config(environ=self.environ, gitdir=gitdir, commondir=gitdir, head_branch=head_branch)
        return loaded.config, loaded.watched

    def ask_govc(self) -> list[tuple[str, str, str | None]]:
        return [(str(scope), key, value) for key, value, scope in self.load().items()]

    def append(self, text: str) -> None:
        with (self.repo / "config").open("a") as file:
            file.write(text)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_scopes_come_in_git_s_order(site: Site) -> None:
    site.system.write_text("[a]\nb = system\n")
    (site.home / ".gitconfig").write_text("[a]\nb = home\n")
    (site.home / ".config" / "git").mkdir(parents=True)
    (site.home / ".config" / "git" / "config").write_text("[a]\nb = xdg\n")
    site.append("[a]\nb = local\n[extensions]\nworktreeConfig\n")
    (site.repo / "config.worktree").write_text("[a]\nb = worktree\n")
    site.environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "A.B", "GIT_CONFIG_VALUE_0": "count"}
    site.environ["GIT_CONFIG_PARAMETERS"] = "'a.b'='para'\\''m' 'A.b=old' 'a.b'= 'a.flag'"
    assert site.ask_git() == site.ask_govc()
    values = [entry.value for entry in site.load().find_entries("a.b")]
    assert values == ["system", "xdg", "home", "local", "worktree", "count", "para'm", "old", None]


def test_the_environment_moves_or_removes_files(site: Site, tmp_path: Path) -> None:
    site.system.write_text("[a]\nb = system\n")
    (site.home / ".gitconfig").write_text("[a]\nb = home\n")
    (tmp_path / "other").write_text("[a]\nb = other\n")
    site.environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": str(tmp_path / "other")}
    assert site.ask_git() == site.ask_govc()
    site.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    assert site.ask_git() == site.ask_govc()
    del site.environ["GIT_CONFIG_GLOBAL"], site.environ["HOME"]
    assert site.ask_git() == site.ask_govc()


def test_the_worktree_file_needs_extension_and_version(site: Site) -> None:
    (site.repo / "config.worktree").write_text("[a]\nb = worktree\n")
    assert None is site.load().get("a.b")
    site.append("[extensions]\nworktreeConfig = true\n")
    assert site.load().get("a.b") == "worktree"
    (site.repo / "config").write_text("[extensions]\nworktreeConfig = true\n")
    assert None is site.load().get("a.b")


@pytest.mark.parametrize(
    "condition",
    [
        "gitdir:{srv}/",
        "gitdir:{srv}/**",
        "gitdir:{srv}",
        "gitdir:x.git",
        "gitdir:x.git/",
        "gitdir:srv/x.git",
        "gitdir:X.GIT",
        "gitdir/i:X.GIT",
        "gitdir:./",
        "gitdir:./config",
        "gitdir:.",
        "gitdir:*.git",
        "gitdir:~/",
        "gitdir:",
        "onbranch:main",
        "onbranch:m*",
        "onbranch:feature/",
        "onbranch:",
        "hasconfig:remote.*.url:https://example.com/**",
        "hasconfig:remote.*.url:https://other.com/**",
        "hasconfig:remote.x.url:https://example.com/**",
        "worktree:/",
        "nonsense:x",
        "",
    ],
)
def test_a_condition_holds_when_it_holds_for_git(site: Site, condition: str) -> None:
    (site.repo.parent / "inc").write_text("[inc]\nyes = 1\n")
    pattern = condition.format(srv=site.repo.parent)
    site.append(f'[remote "o"]\nurl = https://example.com/a/b\n[includeIf "{pattern}"]\npath = ../inc\n')
    # an older git than the one that we follow knows no "worktree:", and both say no
    assert site.ask_git() == site.ask_govc()


def test_a_path_through_a_link_matches_by_its_target(site: Site) -> None:
    (site.home / "work").symlink_to(site.repo.parent)
    (site.repo.parent / "inc").write_text("[inc]\nyes = 1\n")
    (site.home / ".gitconfig").write_text('[includeIf "gitdir:srv/"]\npath = ../srv/inc\n')
    gitdir = str(site.home / "work" / "x.git")
    loaded = load_config(environ=site.environ, gitdir=gitdir, commondir=gitdir)
    assert loaded.config.get("inc.yes") == "1"


def test_includes_nest_and_are_relative_to_the_file(site: Site) -> None:
    (site.repo / "sub").mkdir()
    (site.repo / "sub" / "one").write_text("[a]\nb = 1\n[include]\npath = two\n[a]\nb = 3\n")
    (site.repo / "sub" / "two").write_text("[a]\nb = 2\n")
    (site.home / "mine").write_text("[a]\nb = 4\n")
    site.append("[include]\npath = sub/one\npath = sub/absent\npath = ~/mine\n[a]\nb = 5\n")
    assert site.ask_git() == site.ask_govc()
    assert site.load().get_all("a.b") == ["1", "2", "3", "4", "5"]


def test_an_include_from_the_environment_must_be_absolute(site: Site) -> None:
    (site.repo / "inc").write_text("[a]\nb = 1\n")
    site.environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "include.path"}
    site.environ["GIT_CONFIG_VALUE_0"] = str(site.repo / "inc")
    assert site.ask_git() == site.ask_govc()
    site.environ["GIT_CONFIG_VALUE_0"] = "inc"
    assert None is site.ask_git()
    with pytest.raises(BadConfig, match="must come from files"):
        site.load()


@pytest.mark.rows("FS-63")
def test_includes_end_at_a_depth_of_ten(site: Site) -> None:
    for i in range(10):
        (site.repo / f"inc{i}").write_text(f"[a]\nb = {i}\n[include]\npath = inc{i + 1}\n")
    site.append("[include]\npath = inc0\n")
    assert site.ask_git() == site.ask_govc()
    (site.repo / "inc10").write_text("")
    assert None is site.ask_git()
    with pytest.raises(BadConfig, match="maximum include depth"):
        site.load()


def test_includes_that_multiply_are_stopped(site: Site) -> None:
    for i in range(8):
        (site.repo / f"inc{i}").write_text(f"[include]\npath = inc{i + 1}\n" * 10)
    (site.repo / "inc8").write_text("")
    site.append("[include]\npath = inc0\n")
    with pytest.raises(BadConfig, match="more than 1000 files"):
        site.load()


def test_a_file_chosen_by_remote_url_may_not_hold_one(site: Site) -> None:
    (site.repo / "inc").write_text('[remote "p"]\nurl = x\n')
    site.append('[includeIf "hasconfig:remote.*.url:x"]\npath = inc\n')
    assert None is site.ask_git()
    with pytest.raises(BadConfig, match="remote URLs cannot be configured"):
        site.load()


@pytest.mark.parametrize("scope", ["system", "home", "repo", "include"])
def test_a_syntax_error_in_any_scope_is_fatal(site: Site, scope: str) -> None:
    paths = {"system": site.system, "home": site.home / ".gitconfig", "repo": site.repo / "config"}
    paths["include"] = site.repo / "inc"
    site.append("[include]\npath = inc\n")
    with paths[scope].open("a") as file:
        file.write("\n[broken\n")
    with pytest.raises(BadConfig) as caught:
        site.load()
    assert str(paths[scope]) == caught.value.source


def test_everything_looked_at_is_watched_also_what_is_absent(site: Site) -> None:
    site.append('[include]\npath = absent\n[includeIf "gitdir:/nowhere/"]\npath = never\n')
    site.append('[extensions]\nworktreeConfig\n[includeIf "onbranch:main"]\npath = present\n')
    (site.repo / "present").write_text("[include]\npath = deeper\n")
    repo, home = str(site.repo), str(site.home)
    expected = {f"{repo}/{name}" for name in ("config", "absent", "HEAD", "present", "deeper", "config.worktree")}
    expected |= {str(site.system), f"{home}/.config/git/config", f"{home}/.gitconfig"}
    _, watched = site.load_watched()
    assert expected == set(watched)
    assert len(watched) == len(set(watched))


def test_a_missing_repository_config_is_fine(site: Site) -> None:
    (site.repo / "config").unlink()
    assert site.ask_govc() == []


def test_protected_configuration_leaves_the_repository_out(site: Site) -> None:
    (site.home / ".gitconfig").write_text("[safe]\ndirectory = /a\n")
    site.append("[safe]\ndirectory = *\n")
    assert load_protected_config(site.environ).config.get_all("safe.directory") == ["/a"]


def test_pipes_and_endless_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        with pytest.raises(BadConfig, match="not a plain file"):
            read_config_file(path)
    assert read_config_file(os.devnull) == b""
    assert None is read_config_file(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    "environ",
    [
        {"GIT_CONFIG_COUNT": "x"},
        {"GIT_CONFIG_COUNT": "99999999"},
        {"GIT_CONFIG_COUNT": "1"},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b"},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "nodot", "GIT_CONFIG_VALUE_0": ""},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": ".x", "GIT_CONFIG_VALUE_0": ""},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.1x", "GIT_CONFIG_VALUE_0": ""},
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b\nc.d", "GIT_CONFIG_VALUE_0": ""},
        {"GIT_CONFIG_PARAMETERS": "a.b=1"},
        {"GIT_CONFIG_PARAMETERS": "'a.b'='1"},
        {"GIT_CONFIG_PARAMETERS": "'a.b'=1"},
        {"GIT_CONFIG_NOSYSTEM": "perhaps"},
    ],
)
def test_a_bogus_environment_is_fatal_as_for_git(site: Site, environ: dict[str, str]) -> None:
    site.environ |= environ
    assert None is site.ask_git()
    with pytest.raises(BadConfig):
        site.load()
