"""What a reader of object contents raises. It knows the content only; its caller knows the name."""

from govc.errors import Corrupt


class MalformedObject(Corrupt):
    """The content of a commit, tree or tag doesn't parse. The caller adds the oid."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"malformed {kind}: {reason}")
        self.kind = kind
        self.reason = reason
