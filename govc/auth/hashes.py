"""Password hashes, by the libraries that do nothing else. Imported only where passwords are configured.

Both let go of the GIL while they compute: in a thread they stall nobody.
"""

import argon2
import bcrypt

from govc.auth.htpasswd import Entry, HashKind

BCRYPT_BYTES_MAX = 72
"""bcrypt never looks further, nor does `htpasswd -B`, which made the hash."""

_HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)
"""46 MiB, one pass, one lane: the first choice of OWASP's password storage cheat sheet. More lanes would be more
threads per login on a server that has other work.
"""


def hash_password(password: bytes) -> str:
    """Return a new hash, for the file."""
    return _HASHER.hash(password)


def verify_password(entry: Entry, password: bytes) -> bool:
    """Say whether the password is the one that was hashed. Costs CPU: call it in a thread."""
    if entry.kind is HashKind.BCRYPT:
        # A NUL would end the password for some implementations. It is no password; it costs what one costs.
        tried = password[:BCRYPT_BYTES_MAX].replace(b"\0", b"?")
        matches = bcrypt.checkpw(tried, entry.text.encode("ascii"))
        return matches and b"\0" not in password
    try:
        return _HASHER.verify(entry.text, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
