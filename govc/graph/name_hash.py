"""git's hash of a path: of its last sixteen bytes, so that versions of a file, and files of a kind, are neighbours.

    for each byte that is no space:   hash = (hash >> 2) + (byte << 24), 32 bits

What stands sixteen bytes before the end has been shifted out. The hash of a path goes on from its folder's: over a
slash and the name. git sorts by it what it looks for deltas among, and keeps it beside bitmaps, for what they find has
no path.

Source: git's pack-objects.h (pack_name_hash); gitformat-bitmap "Name-hash cache".
"""

_SPACES = frozenset(b" \t\n\r")
_MASK = 0xFFFFFFFF


def hash_path(path: bytes, so_far: int = 0) -> int:
    """Return the hash of a path; `so_far` that of what stands before it."""
    for byte in path:
        if byte not in _SPACES:
            so_far = ((so_far >> 2) + (byte << 24)) & _MASK
    return so_far
