"""The meaning of one configuration value: bool, number, path, expiry date.

What: functions from text to a value, with git's spellings. Not here: which key, which file (`config`).

    bool     true yes on | false no off "" | any number (0 is false); no value at all is true
    number   [blank] [+-] decimal | 0octal | 0xhex, then nothing or one of k m g (1024, 1024**2, 1024**3)
    path     "~/..." "~user/..." "%(prefix)/..."; ":(optional)" before it drops a path that does not exist
    expiry   never false | now all | seconds since 1970 | YYYY-MM-DD[ HH:MM[:SS]] | yesterday | "2.weeks.ago"

Of git's free-form dates only these spellings are read; anything else is an error, never a guess.

Source: git-config "Values".
"""

import os
import pwd
import re
from datetime import UTC, datetime, timedelta

from govc.errors import BadConfig, GovcError

NEVER_SECONDS = 0
"""The expiry "never": nothing is older than the epoch."""
NOW_SECONDS = (1 << 64) - 1
"""The expiry "now" or "all": everything is older than this."""
INSTALL_PREFIX = "/usr"
"""What "%(prefix)" stands for: where distributions install git."""
OPTIONAL_PATH_PREFIX = ":(optional)"

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off", ""})
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([kKmMgG]?)", re.ASCII)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_DIGITS_MAX = 70  # base 8 needs 22 digits for 64 bits; longer is out of range, or zeros without end

_RELATIVE = re.compile(r"(\d{1,9})[ .]+(second|minute|hour|day|week|month|year)s?[ .]+ago", re.ASCII | re.IGNORECASE)
_CALENDAR = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?", re.ASCII)
_EPOCH = re.compile(r"@?(\d{9,19})", re.ASCII)
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


class BadConfigValue(BadConfig):
    """A value that git would die on when it reads the key."""

    def __init__(self, source: str, line: int, text: str) -> None:
        where = f" in file {source}" + (f" at line {line}" if line else "") if source else ""
        GovcError.__init__(self, text + where)
        self.source = source
        self.line = line
        self.reason = text


class BadValue(ValueError):
    """Text that does not follow its type; `reason` is git's word for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_int(text: str, *, bits: int = 64) -> int:
    """Return a signed number that fits into `bits`. Raises BadValue ("invalid unit" or "out of range")."""
    number = _parse_number(text)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise BadValue("out of range")
    return number


def parse_unsigned(text: str, *, bits: int = 64) -> int:
    """Return a number from 0 that fits into `bits`. Raises BadValue."""
    if "-" in text:
        raise BadValue("invalid unit")
    number = _parse_number(text)
    if number >= 1 << bits:
        raise BadValue("out of range")
    return number


def _parse_number(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadValue("invalid unit")
    sign, digits, unit = match.groups()
    if len(digits) > _DIGITS_MAX:
        raise BadValue("out of range")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    number = int(digits, base) * _FACTORS[unit.lower()]
    return -number if sign == "-" else number


def find_bool_word(text: str | None) -> bool | None:
    """Return the bool that a word spells (no value: true), or None when it is no such word."""
    if text is None:
        return True
    word = text.lower()
    return True if word in _TRUE else False if word in _FALSE else None


def parse_bool(text: str | None) -> bool:
    """Return the bool that a word or a 32-bit number spells. Raises BadValue."""
    word = find_bool_word(text)
    if word is not None or text is None:
        return word is not False
    return parse_int(text, bits=32) != 0


def expand_path(text: str, home: str | None) -> str | None:
    """Return the path with "~", "~user" or "%(prefix)" replaced; None when there is no such home."""
    if text.startswith("%(prefix)/"):
        return INSTALL_PREFIX + text[len("%(prefix)") :]
    if not text.startswith("~"):
        return text
    user, slash, rest = text[1:].partition("/")
    if not user:
        return None if home is None else home + slash + rest
    try:
        return pwd.getpwnam(user).pw_dir + slash + rest
    except (KeyError, UnicodeError, ValueError):
        return None


def parse_path(text: str, home: str | None) -> str | None:
    """Return the expanded path, or None for an ":(optional)" one that does not exist. Raises BadValue."""
    plain = text.removeprefix(OPTIONAL_PATH_PREFIX)
    path = expand_path(plain, home)
    if path is None:
        raise BadValue(f"failed to expand user dir in: '{plain}'")
    return None if plain != text and not os.path.lexists(path) else path


def parse_expiry(text: str, now_seconds: int) -> int:
    """Return the moment before which things expire, in seconds since 1970 (see NEVER_, NOW_).

    Raises BadValue.
    """
    word = text.strip().lower()
    if word in ("never", "false"):
        return NEVER_SECONDS
    if word in ("now", "all"):
        return NOW_SECONDS
    if word == "yesterday":
        return now_seconds - 86400
    if match := _EPOCH.fullmatch(word):
        return min(int(match[1]), NOW_SECONDS)
    try:
        if match := _RELATIVE.fullmatch(word):
            return _before(now_seconds, int(match[1]), match[2])
        if match := _CALENDAR.fullmatch(text.strip()):
            parts = [int(part or 0) for part in match.groups()]
            return int(datetime(*parts[:6], tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]
    except (ValueError, OverflowError) as error:
        raise BadValue("not a valid timestamp") from error
    raise BadValue("not a valid timestamp")


def _before(now_seconds: int, count: int, unit: str) -> int:
    seconds = _UNIT_SECONDS.get(unit)
    if seconds is not None:
        return max(now_seconds - count * seconds, 0)
    now = datetime.fromtimestamp(now_seconds, UTC)
    months = now.year * 12 + now.month - 1 - count * (12 if unit == "year" else 1)
    if months < 1970 * 12:
        return 0
    # A day that the shorter month lacks runs over into the next, as mktime does it.
    first = now.replace(year=months // 12, month=months % 12 + 1, day=1)
    return int((first + timedelta(days=now.day - 1)).timestamp())
