"""Lines about configuration files, included ones and conditions (`watch_lines`)."""

from pathlib import Path

from tests.repo.watch_lines import Steps, line, line_of, set_value, value
from tests.repo.worlds import Site, put, swap


def config_by_hand(path: Path) -> Steps:
    """A file that isn't there appears, is overwritten, replaced and removed."""
    before = path.read_text() if path.exists() else ""
    yield value, None
    put(path, before + set_value(1))
    yield value, "1"
    put(path, before + set_value(2))
    yield value, "2"
    swap(path, before + set_value(3))
    yield value, "3"
    path.unlink()
    yield value, None


def config_by_git(site: Site, *where: str | Path) -> Steps:
    yield value, None
    site.git("config", *where, "probe.value", "1")
    yield value, "1"
    site.git("config", *where, "probe.value", "2")
    yield value, "2"
    site.git("config", *where, "--unset", "probe.value")
    yield value, None


@line("config-git")
def config_git(site: Site) -> Steps:
    return config_by_git(site, "--local")


@line("config-hand")
def config_hand(site: Site) -> Steps:
    return config_by_hand(site.repo / "config")


@line("config.worktree-git")
def config_worktree_git(site: Site) -> Steps:
    site.git("config", "extensions.worktreeConfig", "true")
    return config_by_git(site, "--worktree")


@line("config.worktree-hand")
def config_worktree_hand(site: Site) -> Steps:
    site.git("config", "extensions.worktreeConfig", "true")
    return config_by_hand(site.repo / "config.worktree")


@line("included files-git")
def included_git(site: Site) -> Steps:
    site.git("config", "include.path", "included")
    put(site.repo / "included", "")
    return config_by_git(site, "--file", "included")


@line("included files-hand")
def included_hand(site: Site) -> Steps:
    site.git("config", "include.path", "included")
    put(site.repo / "included", "[include]\n\tpath = ../inner\n")
    put(site.folder / "inner", "\n")
    return config_by_hand(site.folder / "inner")


@line("included files that are absent-git")
def absent_included_git(site: Site) -> Steps:
    site.git("config", "include.path", "absent")
    return config_by_git(site, "--file", "absent")


@line("included files that are absent-hand")
def absent_included_hand(site: Site) -> Steps:
    site.git("config", "include.path", "no/such/folder/absent")
    return config_by_hand(site.repo / "no/such/folder/absent")


@line("system configuration-git")
def system_git(site: Site) -> Steps:
    return config_by_git(site, "--system")


@line("system configuration-hand")
def system_hand(site: Site) -> Steps:
    site.system.unlink()
    return config_by_hand(site.system)


@line("global configuration-git")
def global_git(site: Site) -> Steps:
    return config_by_git(site, "--global")


@line("global configuration-hand")
def global_hand(site: Site) -> Steps:
    yield from config_by_hand(site.home / ".gitconfig")
    yield from config_by_hand(site.home / ".config/git/config")


def include_if(site: Site, condition: str) -> None:
    site.git("config", f"includeIf.{condition}.path", "included")
    put(site.repo / "included", set_value(1))


@line("includeIf onbranch-git")
def onbranch_by_git(site: Site) -> Steps:
    include_if(site, "onbranch:dev")
    yield value, None
    site.git("symbolic-ref", "HEAD", "refs/heads/dev")
    yield value, "1"
    site.git("symbolic-ref", "HEAD", "refs/heads/fix")
    yield value, None


@line("includeIf onbranch-hand")
def onbranch_by_hand(site: Site) -> Steps:
    include_if(site, "onbranch:devi")
    yield value, None
    put(site.repo / "HEAD", "ref: refs/heads/devi\n")
    yield value, "1"
    swap(site.repo / "HEAD", "ref: refs/heads/main\n")
    yield value, None


@line("includeIf onbranch, HEAD as a link", settles=False)
def onbranch_link(site: Site) -> Steps:
    include_if(site, "onbranch:dev")
    put(site.repo / "refs/heads/dev", line_of(site.first))
    for branch, expected in (("one", None), ("dev", "1"), ("two", None), ("main", None)):
        site.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        assert (site.repo / "HEAD").is_symlink()
        yield value, expected


@line("includeIf hasconfig-git")
def hasconfig_by_git(site: Site) -> Steps:
    include_if(site, "hasconfig:remote.*.url:https://x/**")
    yield value, None
    site.git("config", "--global", "remote.r.url", "https://x/y")
    yield value, "1"
    site.git("config", "--global", "remote.r.url", "https://z/y")
    yield value, None


@line("includeIf hasconfig-hand")
def hasconfig_by_hand(site: Site) -> Steps:
    include_if(site, "hasconfig:remote.*.url:https://x/**")
    yield value, None
    put(site.home / ".gitconfig", '[remote "r"]\nurl = https://x/y\n')
    yield value, "1"
    swap(site.home / ".gitconfig", '[remote "r"]\nurl = https://z/y\n')
    yield value, None
