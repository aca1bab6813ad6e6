"""The last bytes of an answer whose maker isn't done: a push is answered, and then what it makes due is started.

Whoever sends an answer may send it whole when it meets one, and need not wait for the end of what makes it.
"""


class LastChunk(bytes):
    """Bytes behind which none follow."""

    __slots__ = ()
