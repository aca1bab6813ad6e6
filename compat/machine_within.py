"""A machine within the machine: systemd as process 1 of its own namespaces, with the units of conf/ as they stand.

Only the network and what is served are shared, so a client outside reaches the server inside. The other folders that
the units name (/etc/govc, /var/cache, /var/log, /usr/local/bin, /opt), the list of users and that of units are the
inner machine's own: mounts that nobody outside sees, and that end with it. No unit of the outer machine is started in
there. The interpreter and the project lie below /opt there, since the units hide the homes of users.

Needs root, systemd and namespaces; `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compat.frontends import PROJECT
from compat.programs import find_program

SYSTEMD = "/lib/systemd/systemd"
USER_ID = 4711
PROXY_GROUP_ID = 4712
"""Of www-data, to whom conf/govc.socket gives the Unix socket."""
SECONDS_MAX = 120
_UNSHARED = ("--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--mount-proc", "--kill-child")

_TARGETS = ("sysinit", "basic", "sockets", "shutdown", "network", "local-fs", "multi-user", "umount")
"""What the units and systemd itself expect to be there."""

# What the inner machine mounts and writes before systemd takes over. $1: a scratch folder.
_SETUP = r"""
set -eu
mount --make-rprivate /
for folder in /run /srv /opt /var/cache /var/log /usr/local/bin /etc/systemd/system {units} {generators}; do
    mount -t tmpfs -o mode=755 tmpfs "$folder"
done
mkdir -p /run/systemd /run/lock /opt/python /opt/project /opt/packages /srv/git
mount --bind {prefix} /opt/python
mount --bind {project} /opt/project
mount --bind {packages} /opt/packages
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mkdir -p /etc/govc
mount -t tmpfs -o mode=755 tmpfs /etc/govc
cp "$1/govc.toml" /etc/govc/
cp "$1"/govc /usr/local/bin/
chmod 755 /usr/local/bin/govc
cp "$1"/*.service "$1"/*.socket "$1"/*.target /etc/systemd/system/
mkdir -p /etc/systemd/system/govc.service.d
cp "$1/log.conf" /etc/systemd/system/govc.service.d/
chown {user}:{user} "$1/served"
mount --bind "$1/served" /srv/git
exec {systemd} --system --unit=within.target --log-target=console --show-status=no
"""


def why_not() -> str | None:
    """What keeps this from working here; None when nothing does."""
    if os.geteuid() != 0:
        return "systemd in namespaces of its own takes root"
    if not os.path.exists(SYSTEMD) or find_program("nsenter") is None:
        return "systemd or nsenter is not installed"
    tried = subprocess.run(["unshare", *_UNSHARED, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass
class Within:
    """The inner machine. `pid` is its process 1 and `served` its /srv/git, as seen from outside."""

    pid: int
    log: Path
    served: Path

    @property
    def root(self) -> Path:
        """Its file system."""
        return Path(f"/proc/{self.pid}/root")

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in it; what it said."""
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", *command],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{command}: {said}{self.said()}"
        return said

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", unit).strip()

    def said(self) -> str:
        """What the machine and the server in it have said, for failed tests."""
        server = self.root / "srv/log"
        inner = server.read_text(errors="replace")[-4000:] if server.exists() else ""
        return f"\n--- machine\n{self.log.read_text(errors='replace')[-4000:]}\n--- server\n{inner}"


def wait_until(condition: Callable[[], bool], within: Within) -> None:
    """Wait for something to become true, or fail with what the machine has said."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, within.said()
        time.sleep(0.05)


@contextlib.contextmanager
def boot(scratch: Path, port: int) -> Iterator[Within]:
    """Boot it with the units of conf/, but for the port; nothing is started but systemd."""
    _write_files(scratch, port)
    setup = _SETUP.format(
        prefix=shlex.quote(sys.base_prefix),
        project=shlex.quote(str(PROJECT)),
        packages=shlex.quote(sysconfig.get_paths()["purelib"]),
        user=USER_ID,
        systemd=SYSTEMD,
        units="/lib/systemd/system",
        generators="/lib/systemd/system-generators",
    )
    log = scratch / "machine.log"
    with log.open("wb") as output:
        outer = subprocess.Popen(
            ["unshare", *_UNSHARED, "sh", "-c", setup, "sh", str(scratch)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "container": "govc"},
        )
    first = -1
    try:
        first = _first_child(outer, log)
        within = Within(first, log, scratch / "served")
        wait_until(lambda: "running" in within.run("systemctl", "is-system-running", check=False), within)
        yield within
    finally:
        outer.send_signal(signal.SIGTERM)
        if first >= 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)  # and with process 1 goes all that runs there
        outer.wait(timeout=SECONDS_MAX)


def _first_child(outer: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        assert outer.poll() is None, log.read_text()
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.02)
    raise AssertionError(f"the inner machine doesn't begin: {log.read_text()}")


def _write_files(scratch: Path, port: int) -> None:
    (scratch / "served").mkdir()
    for name in ("govc.service", "govc.socket"):
        (scratch / name).write_text(
            (PROJECT / "conf" / name).read_text().replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        )
    for target in ("within", *_TARGETS):
        lonely = "" if target == "within" else "DefaultDependencies=no\n"
        (scratch / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n{lonely}")
    # There is no journal in there.
    (scratch / "log.conf").write_text("[Service]\nStandardOutput=append:/srv/log\nStandardError=append:/srv/log\n")
    (scratch / "govc.toml").write_text(f'bind = "127.0.0.1:{port}"\n')
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (scratch / "govc").write_text(
        "#!/bin/sh\nexport PYTHONPATH=/opt/project:/opt/packages LD_LIBRARY_PATH=/opt/python/lib\n"
        f'exec /opt/python/bin/{version} -P -m govc.cli "$@"\n'
    )
    for name, lines in (
        ("passwd", [f"git:x:{USER_ID}:{USER_ID}::/srv:/bin/sh\n"]),
        ("group", [f"git:x:{USER_ID}:\n", f"www-data:x:{PROXY_GROUP_ID}:\n"]),
    ):
        ours = tuple(line.partition(":")[0] + ":" for line in lines)
        kept = [row for row in Path(f"/etc/{name}").read_text().splitlines(keepends=True) if not row.startswith(ours)]
        (scratch / name).write_text("".join(kept + lines))
