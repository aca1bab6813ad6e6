"""A disk on which something happens before each change: what its user makes of that is `step`."""

from govc import disk


class SteppingDisk(disk.Disk):
    """`step` is called before each change; what it raises keeps the change from happening."""

    def step(self) -> None:
        """Come before a change."""
        raise NotImplementedError

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        self.step()
        return super().open(path, flags, mode)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self.step()
        return super().write(descriptor, data)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self.step()
        return super().pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self.step()
        super().sync(descriptor)

    def rename(self, source: str, target: str) -> None:
        self.step()
        super().rename(source, target)

    def link(self, source: str, target: str) -> None:
        self.step()
        super().link(source, target)

    def unlink(self, path: str) -> None:
        self.step()
        super().unlink(path)
