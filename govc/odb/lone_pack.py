"""The quarantine of a small push that nobody looks at: one pack under a temporary name, and no folder.

    objects/pack/tmp_pack_XXXXXXXX     the pack, 0600 until it gets its name
    objects/pack/tmp_rev_XXXXXXXX      its reverse index, where one is wanted
    objects/pack/tmp_idx_XXXXXXXX      its index

Making a folder for each push, and the end of that folder once the last descriptor of what lay in it is closed, cost the
file system more than all files of a small push. Where no hook runs in between there is nobody to show a folder to.
Nothing that reads packs takes such names for packs, in git as here, and what a kill leaves of them goes as git's own
temporary files do: after a day, by us (`leftovers`) or by `git prune`.

Only for packs that stay packs; what comes with hooks, or is to be unpacked, has a `Quarantine`.

Source: gitrepository-layout "objects/pack"; git's builtin/prune.c (remove_temporary_files).
"""

import os
from contextlib import suppress

from govc.odb.files import create_temporary, same_content
from govc.odb.modes import FileModes
from govc.odb.packs import PackFile
from govc.odb.quarantine import MigrationFailed, Quarantine
from govc.protocol.oid import HashAlgorithm

_PREFIX = "tmp_pack_"


def temporary_names(pack_path: str) -> dict[str, str]:
    """Return the three paths by suffix, the pack's among them, in the order in which they get their names."""
    folder, _, name = pack_path.rpartition("/")
    suffix = name.removeprefix(_PREFIX)
    return {".pack": pack_path, ".rev": f"{folder}/tmp_rev_{suffix}", ".idx": f"{folder}/tmp_idx_{suffix}"}


def open_lone_pack(pack_path: str, checksum: bytes, algo: HashAlgorithm) -> PackFile:
    """Open the pack under the path that it will have. OSError, CorruptPack."""
    names = temporary_names(pack_path)
    pack_fd = os.open(pack_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        idx_fd = os.open(names[".idx"], os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(pack_fd)
        raise
    final_path = f"{os.path.dirname(pack_path)}/pack-{checksum.hex()}.pack"
    return PackFile.from_fds(final_path, pack_fd, idx_fd, algo)


class LonePack(Quarantine):
    """One pack for one push, used as a `Quarantine` is. `checksum` is to be set once the pack has its index."""

    def __init__(self, objects_dir: str, modes: FileModes | None = None) -> None:
        """Nothing is created yet."""
        self.objects_dir = os.path.abspath(objects_dir)
        self.modes = modes or FileModes()
        self.path = self.pack_dir = f"{self.objects_dir}/pack"
        self.checksum = b""
        self._file = ""

    def create_pack_file(self) -> tuple[int, str]:
        """Return a descriptor for reading and writing, the caller's to close, and the path of the new empty file."""
        try:
            descriptor, self._file = create_temporary(self.pack_dir, _PREFIX, 0o600)
        except FileNotFoundError:
            self.modes.make_directory(self.pack_dir)
            descriptor, self._file = create_temporary(self.pack_dir, _PREFIX, 0o600)
        return descriptor, self._file

    def environment(self, alternates: str = "") -> dict[str, str]:
        """Return nothing: no hook looks."""
        return {}

    def loose_bytes(self) -> int:
        """Return 0: there are no loose objects."""
        return 0

    def discard(self) -> None:
        """Remove what didn't get its name; nothing to do after that."""
        path, self._file = self._file, ""
        if path:
            for name in temporary_names(path).values():
                with suppress(FileNotFoundError):
                    os.unlink(name)

    def _pack_stems(self) -> list[str]:
        return [f"pack-{self.checksum.hex()}"] if self.checksum else []

    def _migrate_loose(self, fsync: bool) -> tuple[str, ...]:
        return ()

    def _migrate_pack(self, stem: str, fsync: bool) -> None:
        """Give the files their names, .idx last."""
        names = temporary_names(self._file)
        # The mode of a pack is that of its index: what the umask leaves of 0444.
        os.chmod(names[".pack"], os.stat(names[".idx"]).st_mode & 0o444)
        for suffix, source in names.items():
            target = f"{self.pack_dir}/{stem}{suffix}"
            if suffix == ".pack" and os.path.lexists(target) and not same_content(source, target):
                raise MigrationFailed(f"{target} exists and is different")
            if suffix != ".rev" or os.path.lexists(source):
                self._migrate_file(source, target, fsync)
        self._file = ""
