"""The shortest prefix of an object's id that names only it, as git chooses it.

At least seven digits, and more in a large repository (half the bits of its number of packed objects), then as many
as it takes.

Source: git-config "core.abbrev".
"""

from bisect import bisect_left

from govc.odb.loose import iter_loose_oids
from govc.odb.packs import PackFile
from govc.odb.store import ObjectStore

DIGITS_MIN = 7
LOOSE_OBJECTS_MAX = 50_000


class Shortener:
    """Shortens ids of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        count = sum(pack.count for pack in store.packs)
        self._digits_min = max(DIGITS_MIN, (count.bit_length() + 1) // 2)
        self._loose: list[bytes] | None = None

    def __call__(self, oid: bytes) -> bytes:
        """Return the digits."""
        digits = self._digits_min
        own = oid.hex()
        for pack in self._store.packs:
            digits = max(digits, *(_common_digits(own, other.hex()) + 1 for other in _neighbours(pack, oid)), digits)
        for other in self._loose_oids():
            if other != oid:
                digits = max(digits, _common_digits(own, other.hex()) + 1)
        return own[:digits].encode("ascii")

    def candidates(self, prefix: str) -> list[bytes]:
        """Return the ids that begin with these hex digits, at most two."""
        low = bytes.fromhex(prefix.ljust(2 * self._store.algo.oid_size, "0"))
        found: dict[bytes, None] = {}
        for pack in self._store.packs:
            position = bisect_left(range(pack.count), low, key=pack.index.oid_at)
            for oid in (pack.index.oid_at(at) for at in range(position, min(position + 2, pack.count))):
                if oid.hex().startswith(prefix):
                    found[oid] = None
        for oid in self._loose_oids():
            if oid.hex().startswith(prefix):
                found[oid] = None
        return list(found)[:2]

    def _loose_oids(self) -> list[bytes]:
        if self._loose is None:
            self._loose = []
            for directory in self._store.directories:
                for oid in iter_loose_oids(directory, self._store.algo):
                    if len(self._loose) >= LOOSE_OBJECTS_MAX:
                        break
                    self._loose.append(oid)
        return self._loose


def _neighbours(pack: PackFile, oid: bytes) -> list[bytes]:
    position = bisect_left(range(pack.count), oid, key=pack.index.oid_at)
    near = range(max(0, position - 1), min(position + 2, pack.count))
    return [other for at in near if (other := pack.index.oid_at(at)) != oid]


def _common_digits(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))
