"""libgit2 by pygit2: actions as in README.md."""

import sys

import pygit2

action, url, folder = sys.argv[1:]

if action == "clone":
    pygit2.clone_repository(url, folder)
elif action == "shallow":
    pygit2.clone_repository(url, folder, depth=2)
else:
    repository = pygit2.Repository(folder)
    remote = repository.remotes["origin"]
    if action == "fetch":
        remote.fetch()
    elif action == "push":
        who = pygit2.Signature("A", "a@b", 1700000000, 0)
        blob = repository.create_blob(b"x")
        builder = repository.TreeBuilder(repository.head.peel().tree)
        builder.insert("pygit2.txt", blob, 0o100644)
        repository.create_commit("refs/heads/main", who, who, "pygit2", builder.write(), [repository.head.target])
        remote.push(["refs/heads/main"])
    elif action == "delete":
        remote.push([":refs/heads/topic"])
