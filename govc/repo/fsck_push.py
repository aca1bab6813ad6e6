"""Whether a repository checks what is pushed to it, and how strictly.

    receive.fsckObjects        on or off; transfer.fsckObjects when it isn't set
    receive.fsck.<message-id>  error, warn or ignore (fsck.<message-id> is another command's)
    receive.fsck.skipList      a file of oids that are let off: one per line, "#" to the end of the line is a comment

As in git, a key that names no message is passed over with a warning in the log; a bad severity, or one that lowers
what can't be lowered, makes every push fail.

Source: git-config "receive.fsckObjects", "receive.fsck.<msg-id>"; git's builtin/receive-pack.c, oidset.c.
"""

import logging
import os

from govc.config.config import Config, ConfigEntry
from govc.config.values import BadConfigValue
from govc.objects.fsck_messages import FsckPolicy, find_message
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

SKIP_LIST_BYTES_MAX = 64 << 20

_SKIP_LIST = "receive.fsck.skiplist"


def checks_pushed_objects(config: Config) -> bool:
    """Say whether received objects are checked. Raises BadConfigValue."""
    wanted = config.find_bool("receive.fsckobjects")
    return config.get_bool("transfer.fsckobjects", False) if wanted is None else wanted


def push_fsck_policy(config: Config, algo: HashAlgorithm, git_dir: str) -> FsckPolicy | None:
    """Return how received objects are checked, None when they aren't.

    Paths of skip lists are relative to `git_dir`. Raises BadConfigValue where git dies.
    """
    if not checks_pushed_objects(config):
        return None
    pairs: list[tuple[str, str]] = []
    skip_oids: set[bytes] = set()
    for subsection, name, entry in config.iter_section("receive"):
        if subsection != "fsck":
            continue
        if name == "skiplist":
            skip_oids |= _read_skip_list(entry, config, algo, git_dir)
        elif find_message(name) is None:
            log.warning("skipping unknown msg id '%s'", name)
        else:
            pairs.append((name, _value_of(entry)))
            _check_pair(pairs[-1], entry)
    return FsckPolicy.from_pairs(pairs, skip_oids=frozenset(skip_oids))


def _value_of(entry: ConfigEntry) -> str:
    if entry.value is None:
        raise BadConfigValue(entry.source, entry.line, f"missing value for '{entry.key}'")
    return entry.value


def _check_pair(pair: tuple[str, str], entry: ConfigEntry) -> None:
    """Refuse a pair here, where its line is known."""
    try:
        FsckPolicy.from_pairs((pair,))
    except ValueError as error:
        raise BadConfigValue(entry.source, entry.line, str(error)) from error


def _read_skip_list(entry: ConfigEntry, config: Config, algo: HashAlgorithm, git_dir: str) -> set[bytes]:
    path = Config((entry,), config.home).get_path(_SKIP_LIST)
    if path is None:
        return set()
    try:
        with open(os.path.join(git_dir, path), "rb") as file:
            content = file.read(SKIP_LIST_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise _bad(entry, f"could not open object name list: {path}") from error
    if len(content) > SKIP_LIST_BYTES_MAX:
        raise _bad(entry, f"object name list is larger than {SKIP_LIST_BYTES_MAX} bytes: {path}")
    return _parse_skip_list(content, entry, algo)


def _parse_skip_list(content: bytes, entry: ConfigEntry, algo: HashAlgorithm) -> set[bytes]:
    oids = set()
    for line in content.split(b"\n"):
        text = line.partition(b"#")[0].strip()
        if not text:
            continue
        oid = algo.parse_hex(text)
        if oid is None:
            raise _bad(entry, f"invalid object name: {text.decode('utf-8', 'replace')}")
        oids.add(oid)
    return oids


def _bad(entry: ConfigEntry, reason: str) -> BadConfigValue:
    return BadConfigValue(entry.source, entry.line, reason)
