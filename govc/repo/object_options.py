"""What a repository's configuration says of how its objects are kept and walked.

    core.looseCompression    zlib's level for loose objects; core.compression when it isn't set, else 1
    pack.indexVersion        1 or 2: of which version the indexes of packs are
    core.bigFileThreshold    blobs larger than this are read in pieces
    core.maxTreeDepth        trees nested deeper than this are refused, by fetches, pushes and archives alike

Source: git-config; git's environment.c, config.c (git_default_core_config).
"""

from govc.config.config import Config
from govc.config.values import BadConfigValue
from govc.graph.trees import TREE_DEPTH_MAX

LOOSE_LEVEL = 1
"""git's default: Z_BEST_SPEED."""

INDEX_VERSION = 2
BIG_FILE_BYTES = 512 << 20

_LEVELS = range(-1, 10)


def read_loose_level(config: Config) -> int:
    """Return zlib's level for loose objects. Raises BadConfigValue."""
    level = LOOSE_LEVEL
    for key in ("core.compression", "core.loosecompression"):
        entry = config.find_entry(key)
        if entry is None:
            continue
        level = config.get_int(key, LOOSE_LEVEL, bits=32)
        if level not in _LEVELS:
            raise BadConfigValue(entry.source, entry.line, f"bad zlib compression level {level}")
    return level


def read_index_version(config: Config) -> int:
    """Return of which version pack indexes are written. Raises BadConfigValue."""
    version = config.get_int("pack.indexversion", INDEX_VERSION, bits=32)
    if version not in (0, 1, 2):
        entry = config.find_entry("pack.indexversion")
        assert entry is not None
        raise BadConfigValue(entry.source, entry.line, f"bad pack.indexVersion={version}")
    return version or 1  # zero is no version; git makes the first of it


def read_big_file_bytes(config: Config) -> int:
    """Return from which size on blobs are streamed. Raises BadConfigValue."""
    return config.get_unsigned("core.bigfilethreshold", BIG_FILE_BYTES)


def read_tree_depth_max(config: Config) -> int:
    """Return how deep trees may be nested. Raises BadConfigValue."""
    return config.get_int("core.maxtreedepth", TREE_DEPTH_MAX, bits=32)
