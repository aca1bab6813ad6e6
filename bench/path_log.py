"""The history of a path with libgit2: what a program does that has pygit2, with git's default simplification.

libgit2 has no `log -- path`, so this walks by date as git does: a commit is followed to the first parent that has the
same at the path, else to all of them, and is shown when no parent has the same. Entries are remembered by root tree.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import pygit2


def log_of_path(repository: pygit2.Repository, head: pygit2.Oid, path: str) -> list[pygit2.Oid]:
    """Return the commits that `git rev-list HEAD -- path` lists."""
    known: dict[pygit2.Oid, tuple[int, pygit2.Oid] | None] = {}

    def entry_of(commit: Any) -> tuple[int, pygit2.Oid] | None:
        tree_id = commit.tree_id
        if tree_id not in known:
            try:
                entry = commit.tree[path]
                known[tree_id] = (entry.filemode, entry.id)
            except KeyError:
                known[tree_id] = None
        return known[tree_id]

    shown = []
    seen = {head}
    start = repository[head]
    heap: list[tuple[int, int, Any]] = [(-start.commit_time, 0, start)]
    while heap:
        commit = heappop(heap)[2]
        entry = entry_of(commit)
        parents = commit.parents
        same = next((parent for parent in parents if entry_of(parent) == entry), None)
        if same is not None:
            parents = [same]
        elif parents or entry is not None:
            shown.append(commit.id)
        for parent in parents:
            if parent.id not in seen:
                seen.add(parent.id)
                heappush(heap, (-parent.commit_time, len(seen), parent))
    return shown
