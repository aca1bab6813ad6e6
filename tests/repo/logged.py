"""A repository with a log, changed through the write path, for the tests of log, recovery and checkpoints."""

import errno
import os
import subprocess
import sys
import uuid

from govc import disk
from govc.odb.cache import BaseCache
from govc.odb.quarantine import Quarantine
from govc.odb.store import ObjectStore
from govc.pack.indexer import index_pack
from govc.protocol.oid import SHA1
from govc.refs.plan import RefUpdate
from govc.repo.checkpoint_schedule import load_site
from govc.repo.journal import JournalOptions
from govc.repo.log_view import LogView, iter_located
from govc.repo.open_journal import open_journal
from govc.repo.repository import Repository, Surroundings
from govc.repo.writing import Origin, RefWriter
from govc.wal import boot

ZERO = bytes(20)
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@x",
    "GIT_COMMITTER_NAME": "c",
    "GIT_COMMITTER_EMAIL": "c@x",
    "HOME": "/nonexistent",
}


def git(path, *arguments, input=None):
    done = subprocess.run(
        ["git", "-C", str(path), *arguments], env=ENVIRONMENT, input=input, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class CountingDisk(disk.Disk):
    """Counts the calls that make something durable."""

    def __init__(self):
        self.syncs = []

    def sync(self, descriptor):
        self.syncs.append("file")
        super().sync(descriptor)

    def sync_data(self, descriptor):
        self.syncs.append("data")
        super().sync_data(descriptor)

    def sync_folder(self, path):
        self.syncs.append("folder")
        super().sync_folder(path)

    def sync_filesystem(self, path):
        self.syncs.append("filesystem")
        super().sync_filesystem(path)


class FailingSync(disk.Disk):
    """The log can't be made durable."""

    def sync_data(self, descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class Logged:
    """One bare repository, and a second one in which commits are made to be pushed."""

    def __init__(self, folder):
        self.path = str(folder / "a.git")
        self.source = str(folder / "source.git")
        for path in (self.path, self.source):
            git(folder, "init", "-q", "--bare", "-b", "main", path)
        self.options = JournalOptions(gather_seconds=0.0)
        self.repository = self._open()
        self.count = 0

    def _open(self):
        around = Surroundings(environ=ENVIRONMENT, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
        return Repository(os.path.realpath(self.path), around)

    def reopen(self):
        """As a new process sees it."""
        self.repository.close()
        self.repository = self._open()
        return self.repository

    def commit(self, parent=None, size=10):
        """Make a commit in the other repository; return its oid."""
        self.count += 1
        data = os.urandom(size) if size > 100 else str(self.count).encode()
        blob = git(self.source, "hash-object", "-w", "--stdin", input=data).decode().strip()
        tree = git(self.source, "mktree", input=f"100644 blob {blob}\tf\n".encode()).decode().strip()
        parents = ["-p", parent.hex()] if parent is not None else []
        text = git(self.source, "commit-tree", tree, "-m", str(self.count), *parents)
        return bytes.fromhex(text.decode().strip())

    def writer(self, objects=None, **origin):
        values = {"committer": b"c <c@x>", "message": b"push", "actor": "ann", "address": "127.0.0.1"}
        writer = RefWriter(self.repository, self.repository.snapshot(), Origin(**(values | origin)), self.options)
        if objects is not None:
            writer.take_objects(objects)
        return writer

    def push(self, *updates, atomic=False, without=(), options=None):
        """Push (name, old, new) as a server does: objects through quarantine, then refs. Returns the refusals."""
        if options is not None:
            self.options = options
        new = [update[2] for update in updates if update[2] != ZERO]
        journal = self.repository.journal(self.options)
        objects, migration = None, None
        if new:
            have = [f"^{oid.hex()}" for oid in without]
            wanted = "\n".join([oid.hex() for oid in new] + have).encode()
            pack = git(self.source, "pack-objects", "--revs", "--stdout", "-q", input=wanted)
            with Quarantine(f"{self.repository.gitdir}/objects") as quarantine:
                descriptor, path = quarantine.create_pack_file()
                os.write(descriptor, pack)
                quarantine.add_pack(path, index_pack(descriptor, SHA1))
                os.close(descriptor)
                migration = quarantine.migrate(f"govc receive-pack {journal.log.owner.token.hex()}")
            objects = journal.stage_objects(migration)
        refused = self.writer(objects).change([RefUpdate(*update) for update in updates], atomic=atomic)
        if migration is not None:
            migration.release_keep()
        return refused

    def ref(self, name):
        done = subprocess.run(
            ["git", "-C", self.path, "rev-parse", "--verify", "-q", name], env=ENVIRONMENT, capture_output=True
        )
        return bytes.fromhex(done.stdout.decode().strip()) if done.returncode == 0 else None

    def records(self):
        return [located.record for located in iter_located(self.path, LogView())]

    def recover(self, **choices):
        """Open the log as a new process does; return the report."""
        self.repository.close()
        journal, report = open_journal(load_site(os.path.realpath(self.path)), self.options, **choices)
        journal.close()
        self.repository = self._open()
        return report

    def fsck(self):
        git(self.path, "fsck", "--strict", "--no-dangling")

    def has(self, oid):
        return ObjectStore.open(f"{self.path}/objects", SHA1).find(oid) >= 0

    def locks(self):
        found = []
        for folder, _, names in os.walk(self.path):
            if "/govc" not in folder:
                found += [f"{folder}/{name}" for name in names if name.endswith((".lock", ".keep"))]
        return found


def restart_machine(monkeypatch, folder):
    """From now on the machine has another boot id."""
    path = folder / f"boot-{uuid.uuid4().hex}"
    path.write_text(f"{uuid.uuid4()}\n")
    monkeypatch.setattr(boot, "_PATH", str(path))


def run_and_die(code, *arguments):
    """Run Python code in another process, which is expected to die by its own hand (exit status 9)."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 9, (done.returncode, done.stderr)
