"""Secrets never reach a log: what looks like one is cut out of a line, whoever put it there.

We log no headers, no bodies and no query strings. But a path, an error of a library or an exception's text may hold
what a client sent, and clients put tokens into strange places. Cut out are

    govc_…                    our access tokens (their public id stays)
    eyJ….….…                  signed tokens of others
    Basic … and Bearer …      what follows these words, as in an Authorization header
    user:password@            in URLs
    Invalid request …: '…'    what gunicorn quotes of a request that it can't parse: a header without its colon, say

`RedactingFilter` does it for a handler, exceptions and their tracebacks included.
"""

import logging
import re
import time

CUT = "[secret]"

_OURS = re.compile(r"(govc_[0-9A-Za-z]{10})[0-9A-Za-z]{8,}")
_JWT = re.compile(r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]*")
_HEADER = re.compile(r"(Basic|Bearer)((?:\s|%20|\+)+)[^\s\"',;)\\]{6,}", re.IGNORECASE)
_URL = re.compile(r"(://[^/\s:@\"']{0,256}:)[^/\s@\"']+@")
_UNPARSED = re.compile(r"(Invalid request from ip=[^'\"]*)['\"].*", re.DOTALL)


def redact(text: str) -> str:
    """Return the text without what looks like a secret."""
    # One after the other, by hand: every request's line comes here, and mostly ends here. Whatever matches below in
    # any case has to be let through in any case.
    if not (
        "govc_" in text
        or "eyJ" in text
        or "asic" in (lowered := text.lower())
        or "earer" in lowered
        or "://" in text
        or "Invalid request" in text
    ):
        return text
    # What gunicorn quotes goes first: nothing after it is kept.
    text = _UNPARSED.sub(r"\1[peer's words]", text)
    text = _OURS.sub(rf"\1{CUT}", text)
    text = _JWT.sub(CUT, text)
    text = _HEADER.sub(rf"\1\2{CUT}", text)
    return _URL.sub(rf"\1{CUT}@", text)


class CleanRecord(logging.LogRecord):
    """A record of a text that was redacted before. Made cheaply: nobody asks where in the source it comes from.

    `like` is a record whose other fields are the same.
    """

    def __init__(self, like: logging.LogRecord, text: str) -> None:
        now = time.time()
        self.__dict__.update(like.__dict__, msg=text, created=now, msecs=int(now * 1000) % 1000)


class RedactingFilter(logging.Filter):
    """Redacts every record that passes a handler, its traceback too."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in its final form; always lets it pass."""
        if isinstance(record, CleanRecord):
            return True
        message = record.getMessage()
        record.msg, record.args = redact(message), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True
