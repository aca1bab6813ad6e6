"""A site with repositories made by git, and worlds whose file systems stamp with a clock of any grain.

In a `World` time stands still until `advance`: all that is written in between gets the same stamp, the start of the
tick that the clock stands at the end of. That is the worst that a file system of that grain may do.
"""

import os
import shutil
import subprocess
import time
from bisect import bisect_right
from pathlib import Path

from govc.odb.cache import BaseCache
from govc.repo.repository import Repository, Surroundings
from govc.watch import StatFunction

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
_BEGIN_NS = 1_700_000_000 * SECOND_NS

AUTHOR = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


class World:
    """`stat` and `clock_ns` of a machine whose file system has a grain; `with_inodes` False: all numbers are alike."""

    def __init__(self, folder: Path, grain_ns: int, *, with_inodes: bool = True) -> None:
        self._probe = folder / "probe"
        self._probe.touch()
        self._grain_ns = grain_ns
        self._with_inodes = with_inodes
        self._now_ns = _BEGIN_NS + grain_ns - 1
        self._starts_ns = [0]
        self._times_ns = [self._now_ns]

    def clock_ns(self) -> int:
        return self._now_ns

    def advance(self, ns: int = HOUR_NS) -> None:
        """Let time go by: what is written from now on has a later stamp than what was written before."""
        self._now_ns += ns
        self._starts_ns.append(self._fresh_stamp_ns())
        self._times_ns.append(self._now_ns)

    def _fresh_stamp_ns(self) -> int:
        """Touch a file until the real clock has ticked, which is at once on most machines."""
        os.utime(self._probe)
        before = os.stat(self._probe).st_ctime_ns
        after = before
        while after <= before:
            os.utime(self._probe)
            after = os.stat(self._probe).st_ctime_ns
        return after

    def stat(self, path: str) -> os.stat_result:
        real = os.stat(path)
        mtime_ns, ctime_ns = self._stamp(real.st_mtime_ns), self._stamp(real.st_ctime_ns)
        inode = real.st_ino if self._with_inodes else 1
        times = (0, mtime_ns // SECOND_NS, ctime_ns // SECOND_NS)
        return os.stat_result(
            (real.st_mode, inode, real.st_dev, real.st_nlink, real.st_uid, real.st_gid, real.st_size, *times),
            {"st_atime_ns": 0, "st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns},
        )

    def _stamp(self, real_ns: int) -> int:
        fake_ns = self._times_ns[bisect_right(self._starts_ns, real_ns) - 1]
        return fake_ns // self._grain_ns * self._grain_ns


class Site:
    """`r.git` and `other.git` (no object in common), a home and a system configuration, all below `folder`.

    r.git: commits `first` and `second` and a tag object of `first`, loose; refs/heads/main (loose) and
    refs/heads/packed are at `first`. other.git: commit `foreign`, packed, at refs/heads/main.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = self.second = self.tag = self.foreign = b""
        self.repo = folder / "r.git"
        self.other = folder / "other.git"
        self.home = folder / "home"
        self.system = folder / "gitconfig"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_SYSTEM": str(self.system),
        }

    @classmethod
    def make(cls, folder: Path) -> "Site":
        site = cls(folder)
        site.home.mkdir()
        site.system.touch()
        for name in "r.git", "other.git":
            site.git("init", "-q", "--bare", "--template=", "-b", "main", name, cwd=folder)
        tree = site.git("mktree")
        first = site.commit("1", tree)
        tag = f"object {first}\ntype commit\ntag t\ntagger C <c@example.com> 1700000000 +0000\n\nt\n"
        site.git("update-ref", "refs/heads/packed", first)
        site.git("update-ref", "refs/tags/second", site.commit("2", tree))
        site.git("update-ref", "refs/tags/tag", site.git("mktag", stdin=tag.encode()))
        site.git("pack-refs", "--all")
        site.git("update-ref", "refs/heads/main", first)
        blob = site.git("hash-object", "-w", "--stdin", stdin=b"foreign", cwd=site.other)
        tree = site.git("mktree", stdin=f"100644 blob {blob}\tf\n".encode(), cwd=site.other)
        site.git("update-ref", "refs/heads/main", site.commit("foreign", tree, cwd=site.other), cwd=site.other)
        site.git("repack", "-adq", cwd=site.other)
        site.first, site.second = site.oid("refs/heads/packed"), site.oid("refs/tags/second")
        site.tag, site.foreign = site.oid("refs/tags/tag"), site.oid("refs/heads/main", cwd=site.other)
        return site

    def copy_to(self, folder: Path) -> "Site":
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        site = Site(folder)
        site.first, site.second, site.tag, site.foreign = self.first, self.second, self.tag, self.foreign
        return site

    def git(self, *args: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=self.repo if cwd is None else cwd,
            input=stdin,
            capture_output=True,
            env=self.environ | AUTHOR,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def commit(self, text: str, tree: str, *, cwd: Path | None = None) -> str:
        return self.git("commit-tree", "-m", text, tree, cwd=cwd)

    def oid(self, name: str, *, cwd: Path | None = None) -> bytes:
        return bytes.fromhex(self.git("rev-parse", name, cwd=cwd))


def put(path: Path, content: str | bytes) -> None:
    """Overwrite in place (or make) a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.truncate()
        file.write(content.encode() if isinstance(content, str) else content)


def swap(path: Path, content: str | bytes) -> None:
    """Replace a file by a rename."""
    new = path.with_name(f".{path.name}.new")
    put(new, content)
    new.rename(path)


def repository(
    path: Path, environ: dict[str, str], world: World | None = None, *, stat: StatFunction | None = None
) -> Repository:
    """Open a repository, in a world or with this machine's own clock."""
    stat = stat or (os.stat if world is None else world.stat)
    clock_ns = time.time_ns if world is None else world.clock_ns
    return Repository(
        str(path),
        Surroundings(
            environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30, stat=stat, clock_ns=clock_ns
        ),
    )
