"""dulwich, in any release since 0.19: actions as in README.md."""

import io
import os
import sys

from dulwich import porcelain
from dulwich.repo import Repo

action, url, folder = sys.argv[1:]
quiet = io.BytesIO()


def call(function, *arguments, **options):
    """Call with the streams that this release knows."""
    for names in (("outstream", "errstream"), ("errstream",), ("outstream",), ()):
        try:
            return function(*arguments, **options, **{name: quiet for name in names})
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
    return None


if action == "clone":
    call(porcelain.clone, url, folder)
elif action == "shallow":
    call(porcelain.clone, url, folder, depth=2)
elif action == "fetch":
    found = porcelain.fetch(Repo(folder), url)
    refs = getattr(found, "refs", found)
    Repo(folder).refs[b"refs/remotes/origin/main"] = refs[b"refs/heads/main"]
elif action == "push":
    with open(os.path.join(folder, "dulwich.txt"), "w") as file:
        file.write("x")
    porcelain.add(folder, [os.path.join(folder, "dulwich.txt")])
    porcelain.commit(folder, message=b"dulwich", author=b"A <a@b>", committer=b"A <a@b>")
    call(porcelain.push, folder, url, b"refs/heads/main:refs/heads/main")
elif action == "delete":
    call(porcelain.push, folder, url, b":refs/heads/topic")
