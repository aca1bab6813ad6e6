"""Names of repositories, and patterns over them.

A URL may name one repository in several ways, since git guesses suffixes: /team/app, /team/app.git, /team/app/.git
and /team/app.git/.git. All of them are judged as "team/app", or a rule about one would not hold for the other. The
name is made from the URL alone, so it is known (and judged) before the disk is looked at.

Patterns are git's own path patterns (see config/wildmatch): `*` stays within one folder, `**` crosses them. A
pattern is brought to the same form as the names: "/team/*.git" is "team/*".
"""

from govc.config.wildmatch import PATTERN_CHARS_MAX, Wildmatch

_SPECIAL = "*?[\\"


class BadPattern(ValueError):
    """A pattern that could match nothing, or not what it seems to."""


def repository_name(path: str) -> str:
    """Return the one name under which a URL path (or a path below the root) is judged."""
    name = path.strip("/")
    while True:
        shorter = "" if name == ".git" else name.removesuffix("/.git").removesuffix(".git").rstrip("/")
        if shorter == name:
            return name
        name = shorter


class _Pattern:
    """A pattern made ready: most names are ruled out by the plain text at its ends, before the matcher is asked."""

    __slots__ = ("_head", "_is_plain", "_tail", "_wild", "text")

    def __init__(self, text: str, form: str) -> None:
        """`text` is as it was written, `form` what is compared. Raises BadPattern."""
        if len(form) > PATTERN_CHARS_MAX:
            raise BadPattern(f"longer than {PATTERN_CHARS_MAX} characters")
        self.text = text
        self._wild = Wildmatch(form)
        if not self._wild.is_valid:
            raise BadPattern(f"{form!r} is no pattern: a bracket that isn't closed, or a backslash at the end")
        first = min((form.find(char) for char in _SPECIAL if char in form), default=len(form))
        self._is_plain = first == len(form)
        self._head = form[:first]
        self._tail = _plain_tail(form)

    def matches(self, name: str) -> bool:
        """Say whether the pattern covers this name."""
        if self._is_plain:
            return name == self._head
        return name.startswith(self._head) and name.endswith(self._tail) and self._wild.matches(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class RepositoryPattern(_Pattern):
    """A pattern over repositories' names, as `repository_name` gives them."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        """Raises BadPattern."""
        super().__init__(text, _canonical(text))


class RefPattern(_Pattern):
    """A pattern over full refnames, such as refs/heads/release/*."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        """Raises BadPattern."""
        if not text.startswith("refs/"):
            raise BadPattern(f"{text!r} is no full refname: write refs/heads/NAME or refs/tags/NAME")
        _check_parts(text)
        super().__init__(text, text)


def _plain_tail(form: str) -> str:
    """Return plain text that every match ends with."""
    last = max(form.rfind(char) for char in (*_SPECIAL, "]"))
    if last >= 0 and form[last] == "\\":
        last += 1
    tail = form[last + 1 :]
    # "**/x" is also about x alone.
    return tail.removeprefix("/") if form[: last + 1].endswith("**") else tail


def _check_parts(text: str) -> None:
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise BadPattern(f"{text!r} matches nothing: a part of it is empty, '.' or '..'")


def _canonical(text: str) -> str:
    if text.strip("/") == "":
        if text == "/":
            return ""
        raise BadPattern("an empty pattern; '/' is the root itself, '**' is everything")
    if text.endswith("/"):
        raise BadPattern(f"{text!r} ends with a slash: write {text}** for all below it")
    form = text.removeprefix("/")
    _check_parts(form)
    if form.endswith("**.git"):
        raise BadPattern(f"{text!r}: write '*' for one folder or '**' for all below")
    return repository_name(form)
