"""Clients that are not git: libgit2 (pygit2), dulwich, JGit and isomorphic-git.

A client that is not installed skips its scenarios, unless GOVC_REQUIRE_CLIENTS is set. compat/install.sh
helps.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from compat.conftest import Server, lacking
from compat.gitclient import Git

dulwich = pytest.importorskip("dulwich")
pygit2 = pytest.importorskip("pygit2")
from dulwich import porcelain  # noqa: E402 # after importorskip on purpose

pytestmark = pytest.mark.rows("HB-03", "HB-04", "U0-55", "U0-56")
ISOMORPHIC_GIT = "isomorphic-git@1"
JGIT_JARS = [
    "org.eclipse.jgit.jar",
    "slf4j-api.jar",
    "slf4j-nop.jar",
    "javaewah.jar",
    "commons-codec.jar",
    "httpclient.jar",
    "httpcore.jar",
    "jsch.jar",
    "jzlib.jar",
]


def signature() -> Any:
    """Who commits, for libgit2."""
    return pygit2.Signature("Ada Example", "ada@example.com", 1_700_000_000, 0)


def commit_with_libgit2(repository: Any, name: str) -> str:
    """A commit on the current branch; its id."""
    blob = repository.create_blob(name.encode())
    builder = repository.TreeBuilder(repository.head.peel().tree)
    builder.insert(name, blob, pygit2.enums.FileMode.BLOB)
    oid = repository.create_commit(
        repository.head.name, signature(), signature(), name, builder.write(), [repository.head.target]
    )
    return str(oid)


@pytest.mark.every_frontend
@pytest.mark.parametrize("template", ["small", "merges"])
def test_libgit2_clones_fetches_and_pushes(server: Server, git: Git, template: str) -> None:
    repo = server.create_repo(template)
    mine = pygit2.clone_repository(repo.url, str(git.cwd / "clone"))
    assert repo.rev("main") == str(mine.head.target)
    tip = commit_with_libgit2(mine, "libgit2.txt")
    mine.remotes["origin"].push(["refs/heads/main", "refs/heads/main:refs/heads/from/libgit2"])
    assert tip == repo.rev("main") == repo.rev("from/libgit2")
    repo.run("update-ref", "refs/heads/main", "main~1")
    repo.run("branch", "extra", "from/libgit2")
    mine.remotes["origin"].fetch()
    assert tip == str(mine.references["refs/remotes/origin/extra"].target)
    mine.remotes["origin"].push([":refs/heads/extra"])
    assert "refs/heads/extra" not in repo.refs()
    git.fsck("clone")


def test_libgit2_clones_shallow_and_lists(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    mine = pygit2.clone_repository(repo.url, str(git.cwd / "clone"), depth=3)
    assert len(list(mine.walk(mine.head.target))) == 3
    heads = {head.name if hasattr(head, "name") else head["name"] for head in remote_heads(mine)}
    assert {"HEAD", "refs/heads/main"} <= heads
    git.fsck("clone")


def remote_heads(repository: Any) -> list[Any]:
    """What the remote lists, under the name this release of pygit2 gives it."""
    remote = repository.remotes["origin"]
    return list(remote.list_heads() if hasattr(remote, "list_heads") else remote.ls_remotes())


def test_libgit2_pushes_into_an_empty_repository(server: Server, git: Git) -> None:
    source, repo = server.create_repo("merges"), server.create_repo("empty")
    mine = pygit2.clone_repository(source.url, str(git.cwd / "clone"))
    mine.remotes.create("other", repo.url)
    mine.remotes["other"].push(["refs/heads/main"])
    assert source.rev("main") == repo.rev("main")


@pytest.mark.every_frontend
@pytest.mark.parametrize("version", [0, 2])
def test_dulwich_clones_fetches_and_pushes(server: Server, git: Git, version: int) -> None:
    repo = server.create_repo()
    with (
        open(os.devnull, "wb") as quiet,
        open(os.devnull, "w") as quiet_text,
        porcelain.clone(repo.url, str(git.cwd / "clone"), errstream=quiet, protocol_version=version) as mine,
    ):
        assert repo.rev("main").encode() == mine.head()
        (git.cwd / "clone/dulwich.txt").write_text("x")
        porcelain.add(mine, [str(git.cwd / "clone/dulwich.txt")])
        tip = porcelain.commit(mine, message=b"dulwich", author=b"A <a@b>", committer=b"A <a@b>").decode()
        porcelain.push(
            mine,
            repo.url,
            [b"refs/heads/main", b"refs/heads/main:refs/heads/from/dulwich"],
            outstream=quiet,
            errstream=quiet,
        )
        assert tip == repo.rev("main") == repo.rev("from/dulwich")
        repo.run("branch", "extra", "main~1")
        result: Any = porcelain.fetch(mine, repo.url, outstream=quiet_text, errstream=quiet)
        assert repo.rev("extra").encode() == result.refs[b"refs/heads/extra"]
    git.fsck("clone")


def test_dulwich_clones_shallow_and_sha256(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    with (
        open(os.devnull, "wb") as quiet,
        porcelain.clone(repo.url, str(git.cwd / "clone"), errstream=quiet, depth=2) as mine,
    ):
        assert len(list(mine.get_walker())) == 2
    git.fsck("clone")


JAVA = """
    import java.io.File;
    import java.nio.file.Files;
    import org.eclipse.jgit.api.Git;
    import org.eclipse.jgit.lib.ObjectId;
    import org.eclipse.jgit.transport.RefSpec;

    public class Drive {
        public static void main(String[] words) throws Exception {
            File folder = new File(words[1]);
            try (Git git = Git.cloneRepository().setURI(words[0]).setDirectory(folder).call()) {
                System.out.println(git.getRepository().resolve("HEAD").name());
                Files.write(new File(folder, "jgit.txt").toPath(), "x".getBytes());
                git.add().addFilepattern("jgit.txt").call();
                ObjectId tip = git.commit().setMessage("jgit").setAuthor("A", "a@b").setCommitter("A", "a@b")
                    .call();
                System.out.println(tip.name());
                RefSpec side = new RefSpec("refs/heads/main:refs/heads/from/jgit");
                git.push().setRefSpecs(new RefSpec("refs/heads/main"), side).call()
                    .forEach(result -> result.getRemoteUpdates().forEach(System.err::println));
                git.push().setRefSpecs(new RefSpec(":refs/heads/topic")).call();
                git.fetch().setRemoveDeletedRefs(true).call();
                System.out.println(git.getRepository().exactRef("refs/remotes/origin/topic") == null);
            }
        }
    }
"""


@pytest.fixture(scope="session")
def jgit(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the Java program above."""
    folder = Path("/usr/share/java")
    if not shutil.which("javac") or not (folder / JGIT_JARS[0]).exists():
        lacking("JGit is not installed: run compat/install.sh")
    place = tmp_path_factory.mktemp("jgit")
    (place / "Drive.java").write_text(textwrap.dedent(JAVA))
    path = ":".join([str(place), *[str(folder / name) for name in JGIT_JARS if (folder / name).exists()]])
    subprocess.run(["javac", "-cp", path, "Drive.java"], cwd=place, check=True, stdout=subprocess.DEVNULL)
    return ["java", "-cp", path, f"-Duser.home={place}", "Drive"]


@pytest.mark.every_frontend
def test_jgit_clones_pushes_and_fetches(server: Server, git: Git, jgit: list[str]) -> None:
    repo = server.create_repo()
    before = repo.rev("main")
    done = subprocess.run(
        [*jgit, repo.url, git.cwd / "clone"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    head, tip, gone = done.stdout.split()
    assert before == head
    assert tip == repo.rev("main") == repo.rev("from/jgit")
    assert gone == "true"
    assert "refs/heads/topic" not in repo.refs()
    git.fsck("clone")


SCRIPT = """
    const git = require("isomorphic-git"), http = require("isomorphic-git/http/node"), fs = require("fs");
    const [url, dir] = process.argv.slice(2);
    (async () => {
        await git.clone({ fs, http, dir, url, noCheckout: false });
        const head = await git.resolveRef({ fs, dir, ref: "HEAD" });
        fs.writeFileSync(dir + "/isomorphic.txt", "x");
        await git.add({ fs, dir, filepath: "isomorphic.txt" });
        const tip = await git.commit({ fs, dir, message: "js", author: { name: "A", email: "a@b" } });
        const pushed = await git.push({ fs, http, dir, remote: "origin", ref: "main" });
        const from = { fs, http, dir, remote: "origin", ref: "main" };
        const side = await git.push({ ...from, remoteRef: "refs/heads/from/js" });
        await git.push({ ...from, remoteRef: "refs/heads/topic", delete: true });
        await git.fetch({ fs, http, dir, remote: "origin", prune: true });
        const shallow = dir + "-shallow";
        await git.clone({ fs, http, dir: shallow, url, depth: 2, singleBranch: true });
        const log = await git.log({ fs, dir: shallow });
        console.log(JSON.stringify({ head, tip, ok: pushed.ok && side.ok, log: log.length }));
    })().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="session")
def isomorphic(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the script above, with isomorphic-git installed beside it."""
    if not shutil.which("node") or not shutil.which("npm"):
        lacking("node and npm are not installed: run compat/install.sh")
    place = tmp_path_factory.mktemp("isomorphic")
    (place / "package.json").write_text(json.dumps({"name": "drive", "version": "1.0.0", "private": True}))
    (place / "drive.js").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", ISOMORPHIC_GIT],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lacking(f"npm could not install isomorphic-git: {done.stderr[-300:]}")
    return ["node", str(place / "drive.js")]


@pytest.mark.every_frontend
def test_isomorphic_git_clones_pushes_and_fetches(server: Server, git: Git, isomorphic: list[str]) -> None:
    repo = server.create_repo()
    before = repo.rev("main")
    done = subprocess.run(
        [*isomorphic, repo.url, git.cwd / "clone"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {"head": before, "tip": repo.rev("main"), "ok": True, "log": said["log"]} == said
    assert said["tip"] == repo.rev("from/js")
    assert "refs/heads/topic" not in repo.refs()
    assert said["log"] >= 2
    git.fsck("clone")
