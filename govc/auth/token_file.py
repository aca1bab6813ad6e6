"""The file of access tokens: one JSON object a line (docs/formats/tokens.md).

Who changes it (`govc token`) holds a lock file beside it, writes a new file and renames it over the old one. So
readers, which take no lock, see one version or the other, whole, and two admins at once lose nothing. The file is
readable for its owner only; whoever may write it can give himself any permission.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from govc.auth.patterns import BadPattern, RepositoryPattern
from govc.auth.principal import LEVELS, BadAuthFile, Grant, Level, is_user_name
from govc.auth.replacing import locked, replace_file
from govc.auth.tokens import ID_CHARS, TokenRecord
from govc.auth.watched import FILE_BYTES_MAX, decode_text
from govc.watch import read_regular

GRANTS = {"read": Level.READ, "write": Level.WRITE}

_ID = re.compile(rf"[0-9A-Za-z]{{{ID_CHARS}}}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_FIELDS = {"id", "hash", "user", "grants", "created_at", "expires_at", "description"}
_OPTIONAL = {"description", "expires_at"}


def parse_tokens(content: bytes, path: str) -> Mapping[str, TokenRecord]:
    """Return the records by id. Raises BadAuthFile."""
    records: dict[str, TokenRecord] = {}
    for number, line in enumerate(decode_text(content, path).split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            record = _parse_record(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise BadAuthFile(path, number, f"no token: {_reason(error)}") from error
        if record.id in records:
            raise BadAuthFile(path, number, f"the token {record.id} is there twice")
        records[record.id] = record
    return records


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg}"
    return str(error) if isinstance(error, ValueError) else "nested too deeply"


def _parse_record(value: Any) -> TokenRecord:
    """Return a record. Raises ValueError that names the field; the hash's text is not in it."""
    if not isinstance(value, dict):
        raise ValueError("a line is one JSON object")
    unknown = sorted(value.keys() - _FIELDS)
    missing = sorted(_FIELDS - _OPTIONAL - value.keys())
    if unknown or missing:
        raise ValueError(f"unknown field {unknown[0]!r}" if unknown else f"field {missing[0]!r} is missing")
    hash_match = _HASH.fullmatch(value["hash"]) if isinstance(value["hash"], str) else None
    if hash_match is None:
        raise ValueError("'hash' wants sha256: and 64 hex digits")
    if not (isinstance(value["id"], str) and _ID.fullmatch(value["id"])):
        raise ValueError(f"'id' wants {ID_CHARS} letters and digits")
    if not (isinstance(value["user"], str) and is_user_name(value["user"])):
        raise ValueError("'user' can't be a user's name")
    description = value.get("description", "")
    if not isinstance(description, str):
        raise ValueError("'description' is text")
    return TokenRecord(
        id=value["id"],
        hash=bytes.fromhex(hash_match[1]),
        user=value["user"],
        grants=_parse_grants(value["grants"]),
        created_at=_parse_seconds("created_at", value["created_at"]),
        expires_at=None if value.get("expires_at") is None else _parse_seconds("expires_at", value["expires_at"]),
        description=description,
    )


def _parse_seconds(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name!r} wants seconds since 1970")
    return value


def _parse_grants(value: Any) -> tuple[Grant, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("'grants' wants a list of [pattern, level]")
    grants = []
    for item in value:
        if not (isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)):
            raise ValueError("'grants' wants a list of [pattern, level]")
        if item[1] not in GRANTS:
            raise ValueError(f"a token's level is {' or '.join(GRANTS)}, not {item[1]!r}")
        try:
            grants.append(Grant(RepositoryPattern(item[0]), GRANTS[item[1]]))
        except BadPattern as error:
            raise ValueError(str(error)) from error
    return tuple(grants)


def format_record(record: TokenRecord) -> str:
    """Return a record as its line, without the line feed."""
    words = {level: word for word, level in LEVELS.items()}
    return json.dumps(
        {
            "id": record.id,
            "hash": f"sha256:{record.hash.hex()}",
            "user": record.user,
            "grants": [[grant.pattern.text, words[grant.level]] for grant in record.grants],
            "created_at": record.created_at,
            "expires_at": record.expires_at,
            "description": record.description,
        }
    )


@contextlib.contextmanager
def changing_tokens(path: str) -> Iterator[dict[str, TokenRecord]]:
    """Give the records to change; what is left in the dict when the block ends becomes the file, on disk and synced.

    An exception in the block changes nothing. Lines that hold no record (comments) are not kept. Raises BadAuthFile,
    OSError.
    """
    with locked(path):
        records = dict(parse_tokens(read_regular(path, FILE_BYTES_MAX) or b"", path))
        yield records
        replace_file(path, "".join(f"{format_record(record)}\n" for record in records.values()).encode())
