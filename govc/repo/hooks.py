"""Which hooks a repository has. This version runs none, so the ones that could have said no must not be passed over.

    <hooks>/<name>     executable; <hooks> is core.hooksPath, relative to the git folder, or <commondir>/hooks

Source: githooks, git-config "core.hooksPath"; rows RP-83, RP-84.
"""

import os

from govc.config.config import Config
from govc.repo.layout import RepositoryLayout

VETO_HOOKS = ("pre-receive", "update", "reference-transaction", "proc-receive")
"""Hooks that can refuse or change a push."""

LATER_HOOKS = ("post-receive", "post-update")
"""Hooks that are told of a push."""


def find_hooks(layout: RepositoryLayout, config: Config, names: tuple[str, ...]) -> list[str]:
    """Return those of `names` that git would run. Raises BadConfig for a bad core.hooksPath."""
    folder = os.path.join(layout.commondir, "hooks")
    configured = config.get_path("core.hookspath") if config.find_entry("core.hookspath") is not None else None
    if configured is not None:
        folder = os.path.join(layout.gitdir, configured)
    return [name for name in names if _is_executable(os.path.join(folder, name))]


def _is_executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
