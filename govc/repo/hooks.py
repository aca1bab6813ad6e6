"""Which hooks a repository has for an event.

    hook.<name>.event, .command     from configuration, run by the shell, in the order of configuration
    <hooks>/<event>                 after those; an executable file. <hooks> is core.hooksPath, relative to the git
                                    folder (where hooks run), or <commondir>/hooks

`hook.<name>.enabled=false` switches one off, `hook.<event>.enabled=false` all configured ones of an event, an empty
`.event` takes a hook off the events named before. `.parallel` and `hook.jobs` are passed over: hooks run one after the
other, which is git's default.

A file that is not executable is no hook; it is told of once per process in the log, as git does it on its error output,
unless `advice.ignoredHook` is false.

Source: githooks; git-config "core.hooksPath", "hook.<friendly-name>"; rows RP-83..RP-85, CF-48, CF-81, CF-82.
"""

import logging
import os
from dataclasses import dataclass

from govc.config.config import Config, ConfigEntry
from govc.config.values import BadConfigValue, find_bool_word
from govc.repo.layout import RepositoryLayout

log = logging.getLogger(__name__)

_told: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One thing to run for an event: a file, or a line for the shell."""

    event: str
    path: str = ""
    command: str = ""

    def arguments(self, extra: tuple[str, ...]) -> list[str]:
        """Return the program's arguments. A configured command is a line of shell that gets `extra` at its end."""
        if not self.command:
            return [self.path, *extra]
        line = f'{self.command} "$@"' if extra else self.command
        return ["/bin/sh", "-c", line, self.command, *extra]


def list_hook_files(layout: RepositoryLayout, config: Config) -> frozenset[str] | None:
    """Return the names in the hooks folder, so that it is asked once for all events; None when it can't be listed."""
    try:
        return frozenset(os.listdir(_hooks_folder(layout, config)))
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None


def find_hooks(
    layout: RepositoryLayout, config: Config, event: str, names: frozenset[str] | None = None
) -> tuple[Hook, ...]:
    """Return what runs for an event, in order. Raises BadConfigValue where git dies.

    `names`: those of `list_hook_files`.
    """
    found = [Hook(event=event, command=command) for command in _configured_commands(config, event)]
    file = find_hook_file(layout, config, event) if names is None or event in names else None
    return (*found, file) if file is not None else tuple(found)


def find_hook_file(layout: RepositoryLayout, config: Config, event: str) -> Hook | None:
    """Return the hook of the hooks folder, None when there is none that may be executed."""
    path = f"{_hooks_folder(layout, config)}/{event}"
    if os.access(path, os.X_OK):
        return Hook(event=event, path=path)
    if os.path.exists(path) and path not in _told and config.get_bool("advice.ignoredhook", True):
        _told.add(path)
        log.warning("the '%s' hook was ignored because it's not set as executable", path)
    return None


def _hooks_folder(layout: RepositoryLayout, config: Config) -> str:
    if config.find_entry("core.hookspath") is not None:
        configured = config.get_path("core.hookspath")
        if configured is not None:
            return os.path.join(layout.gitdir, configured)
    return f"{layout.commondir}/hooks"


def _configured_commands(config: Config, event: str) -> list[str]:
    """Return the shell lines of `hook.<name>` for an event."""
    if not config.remembered(has_configured_hooks):
        return []
    names: list[str] = []
    commands: dict[str, str] = {}
    switched_off: set[str] = set()
    known: set[str] = set()
    for name, key, entry in config.iter_section("hook"):
        if name is None:
            continue
        if key in ("event", "command", "parallel"):
            known.add(name)
        if key == "enabled":
            word = find_bool_word(_required(entry))
            if word is not None:
                switched_off = switched_off - {name} if word else switched_off | {name}
        elif key == "command":
            commands[name] = _required(entry)
        elif key == "event":
            value = _required(entry)
            if value in ("", event) and name in names:
                names.remove(name)
            if value == event:
                names.append(name)
    if event in switched_off and event not in known:
        return []
    names = [name for name in names if name not in switched_off]
    for name in names:
        if name not in commands:
            entry = config.find_entries(f"hook.{name}.event")[-1]
            reason = f"'hook.{name}.command' must be configured or 'hook.{name}.event' must be removed"
            raise BadConfigValue(entry.source, entry.line, reason)
    return [commands[name] for name in names]


def has_configured_hooks(config: Config) -> bool:
    """Say whether the configuration says anything of hooks."""
    return any(True for _ in config.iter_section("hook"))


def _required(entry: ConfigEntry) -> str:
    if entry.value is None:
        raise BadConfigValue(entry.source, entry.line, f"missing value for '{entry.key}'")
    return entry.value
