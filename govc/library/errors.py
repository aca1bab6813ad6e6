"""What the library raises beside the errors of the rooms below:

`ObjectMissing`, `Corrupt`, `RepositoryNotFound` and so on.
"""

from govc.errors import GovcError


class RevisionNotFound(GovcError):
    """An expression that names nothing, or not one thing, or not a thing of the kind that was asked for."""

    def __init__(self, expression: str, reason: str) -> None:
        super().__init__(f"{expression!r}: {reason}")
        self.expression = expression
        self.reason = reason


class RefNotFound(GovcError, KeyError):
    """No ref of that name that leads to an object."""

    def __init__(self, name: bytes) -> None:
        super().__init__(f"no ref {name!r}")
        self.name = name

    def __str__(self) -> str:
        """Not the quoted form that KeyError gives."""
        return f"no ref {self.name!r}"


class RepositoryClosed(GovcError, ValueError):
    """A repository was asked something after `close`."""
