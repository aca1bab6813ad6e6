"""May this request touch this repository? Asked with the name, before the disk is looked at, and again with the place.

The name in the URL decides first: who has nothing on a name is told 404 whether or not there is such a repository,
and at the same cost. Then the folder that was found: a linked worktree or a submodule's folder lies inside another
repository and gives what that one holds, so it has that one's name as well, and the lowest level counts.

A symbolic link that an admin made is a name of its own, with rules of its own.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from govc.auth.branches import BranchRules
from govc.auth.patterns import repository_name
from govc.auth.permissions import Policy
from govc.auth.principal import AccessDenied, Level, Principal
from govc.repo.discover import is_git_directory
from govc.service.context import RECEIVE_PACK, RequestContext


@dataclass(frozen=True, slots=True)
class Access:
    """What a request was allowed, by one version of the policy, kept to its end."""

    policy: Policy
    principal: Principal
    names: tuple[str, ...]
    level: Level

    def branch_rules(self) -> BranchRules:
        """Return the rules of branches that bind a push of this request."""
        return self.policy.branch_rules(self.principal, self.names, self.level)


class AccessGuard:
    """Asks the policy."""

    def __init__(self, current_policy: Callable[[], Policy], root: str) -> None:
        """`root` is the folder that names are relative to."""
        self._current_policy = current_policy
        self._root = root

    def check_name(self, path_info: str, context: RequestContext) -> Access:
        """Judge the name in a URL. Raises AccessDenied."""
        return self._check(self._current_policy(), (repository_name(path_info),), context)

    def check_place(self, access: Access, gitdir: str, context: RequestContext) -> Access:
        """Judge where the repository lies. Raises AccessDenied."""
        around = self._names_around(gitdir)
        if not around:
            return access
        return self._check(access.policy, (*access.names, *around), context)

    def _check(self, policy: Policy, names: tuple[str, ...], context: RequestContext) -> Access:
        wanted = Level.WRITE if context.service == RECEIVE_PACK else Level.READ
        level = policy.level(context.principal, names)
        if level < wanted:
            raise AccessDenied(names[-1], context.principal.user, wanted=wanted, has=level)
        return Access(policy, context.principal, names, level)

    def _names_around(self, gitdir: str) -> tuple[str, ...]:
        """Return the names of the repositories below the root that `gitdir` lies inside of."""
        root = os.path.realpath(self._root)
        prefix = root if root.endswith("/") else root + "/"
        real = os.path.realpath(gitdir)
        if not real.startswith(prefix):
            return ()
        parts = real[len(prefix) :].split("/")
        found = []
        for depth in range(len(parts)):
            inside = "/".join(parts[:depth])
            if is_git_directory(prefix + inside):
                found.append(repository_name(inside))
        return tuple(found)
