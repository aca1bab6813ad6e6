"""The arguments of `git archive`, as a client of upload-archive sends them.

Options may stand before, between and after the positional arguments, long ones may be shortened to any prefix that
names only one, and `--` ends them, as in git's own parser. What a remote must not ask for (`--remote`, `--exec`,
`--output`, added files) is refused in git's words.

Source: git-archive "OPTIONS"; rows HB-86, SEC-27.
"""

from dataclasses import dataclass, field

from govc.errors import GovcError

_WITH_VALUE = ("format", "prefix", "add-file", "add-virtual-file", "output", "mtime", "remote", "exec")
_FLAGS = ("worktree-attributes", "verbose", "list")
_SHORT = {"o": "output", "v": "verbose", "l": "list"}
USAGE = (
    "usage: git archive [<options>] <tree-ish> [<path>...]\n"
    "   or: git archive --list\n"
    "   or: git archive --remote <repo> [--exec <cmd>] [<options>] <tree-ish> [<path>...]\n"
    "   or: git archive --remote <repo> [--exec <cmd>] --list\n"
)


class ArchiveRefused(GovcError):
    """The archive can't be made; the text is git's and the client may read it. `is_usage`: no `fatal:` before it."""

    def __init__(self, text: str, *, is_usage: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.is_usage = is_usage

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """What was asked for. `level` None: the container's own; `mtime` None: the commit's time."""

    format: str = "tar"
    prefix: bytes = b""
    level: int | None = None
    verbose: bool = False
    list: bool = False
    worktree_attributes: bool = False
    mtime: str | None = None
    arguments: tuple[bytes, ...] = ()


@dataclass
class _Seen:
    values: dict[str, bytes] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    added: bool = False
    level: int | None = None
    positional: list[bytes] = field(default_factory=list)


def parse_archive_options(arguments: list[bytes]) -> ArchiveOptions:
    """Parse the arguments. Raises ArchiveRefused."""
    seen = _Seen()
    waiting = list(reversed(arguments))
    while waiting:
        argument = waiting.pop()
        if argument == b"--":
            seen.positional.extend(reversed(waiting))
            break
        if argument.startswith(b"--"):
            _take_long(argument[2:].decode("utf-8", "surrogateescape"), waiting, seen)
        elif argument.startswith(b"-") and argument != b"-":
            _take_short(argument[1:].decode("utf-8", "surrogateescape"), waiting, seen)
        else:
            seen.positional.append(argument)
    return _check(seen)


def _take_long(text: str, waiting: list[bytes], seen: _Seen) -> None:
    name, equals, given = text.partition("=")
    negated = False
    full = _complete(name)
    if full is None and name.startswith("no-"):
        negated, full = True, _complete(name[3:])
    if full is None or (negated and full == "mtime"):
        raise ArchiveRefused(f"error: unknown option `{name}'\n{USAGE}", is_usage=True)
    if full in _FLAGS:
        if equals:
            raise ArchiveRefused(f"error: option `{full}' takes no value\n", is_usage=True)
        seen.flags[full] = not negated
    elif negated:
        seen.values.pop(full, None)
    elif equals:
        _set_value(full, given.encode("utf-8", "surrogateescape"), seen)
    elif waiting:
        _set_value(full, waiting.pop(), seen)
    else:
        raise ArchiveRefused(f"error: option `{full}' requires a value\n", is_usage=True)


def _set_value(name: str, value: bytes, seen: _Seen) -> None:
    if name.startswith("add-"):
        seen.added = True
    else:
        seen.values[name] = value


def _complete(name: str) -> str | None:
    """Return the one option that `name` is a prefix of (or is), else None."""
    every = (*_WITH_VALUE, *_FLAGS)
    if name in every:
        return name
    found = [full for full in every if name and full.startswith(name)]
    return found[0] if len(found) == 1 else None


def _take_short(text: str, waiting: list[bytes], seen: _Seen) -> None:
    if text.isascii() and text.isdigit():
        seen.level = int(text[:9])
        return
    while text:
        letter, text = text[0], text[1:]
        name = _SHORT.get(letter)
        if name is None:
            raise ArchiveRefused(f"error: unknown switch `{letter}'\n{USAGE}", is_usage=True)
        if name in _FLAGS:
            seen.flags[name] = True
        elif text or waiting:
            _set_value(name, text.encode("utf-8", "surrogateescape") if text else waiting.pop(), seen)
            return
        else:
            raise ArchiveRefused(f"error: switch `{letter}' requires a value\n", is_usage=True)


def _check(seen: _Seen) -> ArchiveOptions:
    for name, text in (
        ("remote", "Unexpected option --remote"),
        ("exec", "the option '--exec' requires '--remote'"),
        ("output", "Unexpected option --output"),
    ):
        if name in seen.values:
            raise ArchiveRefused(text)
    if seen.added:
        raise ArchiveRefused("options '--add-file' and '--remote' cannot be used together")
    is_list = seen.flags.get("list", False)
    if is_list and seen.positional:
        extra = seen.positional[0].decode("utf-8", "replace")
        raise ArchiveRefused(f"extra command line parameter '{extra}'")
    if not is_list and not seen.positional:
        raise ArchiveRefused(USAGE, is_usage=True)
    mtime = seen.values.get("mtime")
    return ArchiveOptions(
        format=seen.values.get("format", b"tar").decode("utf-8", "replace"),
        prefix=seen.values.get("prefix", b""),
        level=seen.level,
        verbose=seen.flags.get("verbose", False),
        list=is_list,
        worktree_attributes=seen.flags.get("worktree-attributes", False),
        mtime=mtime.decode("utf-8", "replace") if mtime is not None else None,
        arguments=tuple(seen.positional),
    )
