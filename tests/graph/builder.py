"""A repository in memory that tests build object by object, and the slow, plain truth about it.

`RepositoryBuilder` is an `ObjectReader`. Numbers are given in order of creation. `tick` moves the clock of commits.
"""

from collections.abc import Iterable, Mapping

from govc.objects.types import BLOB, COMMIT, TAG, TREE, TYPE_NAMES, hash_object
from govc.protocol.oid import SHA1, HashAlgorithm

Tree = Mapping[bytes, "bytes | Tree"]


class RepositoryBuilder:
    def __init__(self, algo: HashAlgorithm = SHA1) -> None:
        self.algo = algo
        self.now = 1_600_000_000
        self.objects: list[tuple[bytes, int, bytes]] = []
        self.numbers: dict[bytes, int] = {}
        self.reads = 0

    # ObjectReader

    def find(self, oid: bytes) -> int:
        return self.numbers.get(oid, -1)

    def oid_of(self, number: int) -> bytes:
        return self.objects[number][0]

    def read(self, number: int) -> tuple[int, bytes]:
        self.reads += 1
        return self.objects[number][1:]

    def type_of(self, number: int) -> int:
        return self.objects[number][1]

    def size_of(self, number: int) -> int:
        return len(self.objects[number][2])

    # Building

    def add(self, type_number: int, data: bytes) -> bytes:
        oid = hash_object(self.algo, type_number, data)
        if oid not in self.numbers:
            self.numbers[oid] = len(self.objects)
            self.objects.append((oid, type_number, data))
        return oid

    def tick(self, seconds: int = 1) -> int:
        self.now += seconds
        return self.now

    def blob(self, data: bytes) -> bytes:
        return self.add(BLOB, data)

    def raw_tree(self, entries: Iterable[tuple[bytes, bytes, bytes]]) -> bytes:
        return self.add(TREE, b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries))

    def blob_oid(self, data: bytes) -> bytes:
        """Return the name of a blob without adding it."""
        return hash_object(self.algo, BLOB, data)

    def tree(self, entries: Tree) -> bytes:
        """Names to contents of blobs, or to trees of the same kind."""
        rows = []
        for name in sorted(entries, key=lambda n: n + b"/" if isinstance(entries[n], Mapping) else n):
            value = entries[name]
            if isinstance(value, bytes):
                rows.append((b"100644", name, self.blob(value)))
            else:
                rows.append((b"40000", name, self.tree(value)))
        return self.raw_tree(rows)

    def commit(
        self, tree: Tree | bytes, parents: Iterable[bytes] = (), *, time: int | None = None, text: str = ""
    ) -> bytes:
        tree_oid = tree if isinstance(tree, bytes) else self.tree(tree)
        when = self.tick() if time is None else time
        lines = [f"tree {tree_oid.hex()}"]
        lines += [f"parent {parent.hex()}" for parent in parents]
        lines += [f"author A <a@b> {when} +0000", f"committer A <a@b> {when} +0000", "", text or str(when), ""]
        return self.add(COMMIT, "\n".join(lines).encode())

    def tag(self, target: bytes, name: str = "v1", *, type_number: int | None = None) -> bytes:
        kind = TYPE_NAMES[self.type_of(self.find(target)) if type_number is None else type_number].decode()
        text = f"object {target.hex()}\ntype {kind}\ntag {name}\ntagger A <a@b> {self.now} +0000\n\nx\n"
        return self.add(TAG, text.encode())

    def forget(self, oid: bytes) -> None:
        """Make an object missing."""
        del self.numbers[oid]

    # The plain truth

    def links(self, oid: bytes, shallow: frozenset[bytes] = frozenset()) -> list[bytes]:
        _oid, kind, data = self.objects[self.numbers[oid]]
        if kind == COMMIT:
            lines = data.split(b"\n\n")[0].split(b"\n")
            out = [bytes.fromhex(lines[0][5:].decode())]
            if oid not in shallow:
                out += [bytes.fromhex(x[7:].decode()) for x in lines if x.startswith(b"parent ")]
            return out
        if kind == TAG:
            return [bytes.fromhex(data.split(b"\n")[0][7:].decode())]
        if kind == TREE:
            out = []
            at = 0
            while at < len(data):
                nul = data.index(b"\0", at)
                end = nul + 1 + self.algo.oid_size
                if not data[at:].startswith(b"160000"):
                    out.append(data[nul + 1 : end])
                at = end
            return out
        return []

    def reachable(self, oids: Iterable[bytes], shallow: frozenset[bytes] = frozenset()) -> set[bytes]:
        seen: set[bytes] = set()
        stack = list(oids)
        while stack:
            oid = stack.pop()
            if oid not in seen:
                seen.add(oid)
                stack.extend(self.links(oid, shallow))
        return seen

    def names(self, numbers: Iterable[int]) -> list[bytes]:
        return [self.oid_of(number) for number in numbers]
