"""`python -m bench.fetching NAME=PATH ...`: what one fetch request costs the server, beside git http-backend.

Both are given the same bytes (protocol v2, "done" included), in turn: govc in this process (user and system time of all
its threads; the answer is read chunk by chunk and dropped), git as the CGI program, its children included. Neither HTTP
nor a client is measured. For each repository two copies are made, one with a bitmap and one without, both repacked; the
goal is measured against the one with, the bytes against the smaller answer. Every answer of govc is checked: what its
pack holds, and that `index-pack --fix-thin` completes it over what the client has.

A repository's rows are: clone of everything, the first after opening (the index is filled, its file not read yet) and
again; fetches of the newest 1, 10, 100 and 1,000 commits of HEAD's first-parent line; depth 1; blob:none; 500 blobs.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.__main__ import parse_repository
from bench.generate import build_real
from compat.gitclient import Git
from govc.cache.span import FileSpan
from govc.protocol.oid import SHA1
from govc.protocol.pktline import DELIM, FLUSH, encode_text
from govc.repo.introducing import IntroduceTask, fill_introductions
from govc.repo.runtime import PLAIN
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.settings import Settings

DISTANCES = (1, 10, 100, 1000)
BLOBS_WANTED = 500
CPU_GOAL = 10.0
FIRST_CLONE_GOAL = 8.0
BYTES_GOAL = 1.25
HEADING = (
    "| | govc CPU ms (least to most) | git with bitmap, ms | ratio | git without, ms | ratio | bytes "
    "| of git's smaller | goal met |"
)


@dataclass(frozen=True)
class Case:
    """One request: its name, its body, what the client has, and the goal."""

    name: str
    body: bytes
    haves: tuple[str, ...] = ()
    goal: float = CPU_GOAL
    is_whole: bool = True


def encode_fetch(lines: Sequence[str]) -> bytes:
    """A v2 fetch request."""
    head = [b"command=fetch", b"agent=git/bench", b"object-format=sha1"]
    body = b"".join(map(encode_text, head)) + DELIM
    return body + b"".join(encode_text(line.encode()) for line in lines) + FLUSH


def iter_cases(git: Git, path: Path) -> Iterator[Case]:
    """The rows of one repository."""
    options = ["thin-pack", "no-progress", "include-tag", "ofs-delta"]
    tips = sorted(set(git("for-each-ref", "--format=%(objectname)", cwd=path).stdout.split()))
    everything = encode_fetch([*options, *(f"want {oid}" for oid in tips), "done"])
    yield Case("full clone, first after a restart", everything, goal=FIRST_CLONE_GOAL)
    yield Case("full clone, again", everything, goal=FIRST_CLONE_GOAL)
    head = git("rev-parse", "HEAD", cwd=path).stdout.strip()
    for distance in DISTANCES:
        done = git("rev-parse", "-q", "--verify", f"HEAD~{distance}", cwd=path, check=False)
        if done.code:
            continue
        have = done.stdout.strip()
        body = encode_fetch([*options, f"want {head}", f"have {have}", "done"])
        yield Case(f"{distance:,} commits behind", body, (have,))
    yield Case("clone --depth 1", encode_fetch([*options, f"want {head}", "deepen 1", "done"]), is_whole=False)
    filtered = [*options, *(f"want {oid}" for oid in tips), "filter blob:none", "done"]
    yield Case("clone --filter=blob:none", encode_fetch(filtered), is_whole=False)
    tree = git("ls-tree", "-r", "HEAD~5", cwd=path).stdout.splitlines()
    blobs = list(dict.fromkeys(line.split()[2] for line in tree if line.split()[1] == "blob"))[:BLOBS_WANTED]
    lazy = ["no-progress", "ofs-delta", *(f"want {oid}" for oid in blobs), "filter blob:none", "done"]
    yield Case(f"lazy fetch of {len(blobs)} blobs", encode_fetch(lazy), is_whole=False)


def split_pack(answer: bytes) -> bytes:
    """The pack out of a v2 answer's side band. Raises RuntimeError with the server's error."""
    pack = []
    at = 0
    while at < len(answer):
        size = int(answer[at : at + 4], 16)
        data = answer[at + 4 : at + size] if size > 4 else b""
        at += max(size, 4)
        if data[:1] == b"\1":
            pack.append(data[1:])
        elif data[:1] == b"\3" or data[:3] == b"ERR":
            raise RuntimeError(data.decode())
    return b"".join(pack)


def check_answer(git: Git, path: Path, case: Case, pack: bytes, folder: Path) -> int:
    """Complete the pack over what the client has, and look whether everything is there; its number of objects."""
    target = folder / "checked.git"
    subprocess.run(["rm", "-rf", str(target)], check=True)
    git("init", "-q", "--bare", str(target))
    if case.haves:
        git("fetch", "-q", "--no-tags", f"file://{path}", f"{case.haves[0]}:refs/heads/have", cwd=target, timeout=1800)
    (target / "objects/pack/in.pack").write_bytes(pack)
    command = ["git", "-C", str(target), "index-pack", "--stdin", "--fix-thin"]
    subprocess.run(command, input=pack, check=True, capture_output=True)
    (target / "objects/pack/in.pack").unlink()
    if case.is_whole:
        wants = [line.split()[1] for line in case.body.decode("latin1").split("\n") if "want " in line[:9]]
        subprocess.run(["git", "-C", str(target), "rev-list", "--objects", "--quiet", *wants], check=True)
    return int.from_bytes(pack[8:12], "big")


def run_git(path: Path, case: Case) -> tuple[float, int]:
    """CPU s of git http-backend for a case, and the bytes of its pack."""
    environ = {
        **os.environ,
        "GIT_PROJECT_ROOT": str(path.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": "version=2",
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/{path.name}/git-upload-pack",
        "CONTENT_TYPE": "application/x-git-upload-pack-request",
        "CONTENT_LENGTH": str(len(case.body)),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["git", "http-backend"], input=case.body, env=environ, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer = done.stdout.partition(b"\r\n\r\n")[2]
    return cpu, len(split_pack(answer))


class Server:
    """govc over one folder, in this process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        settings = Settings(
            root=str(self._root), export_all=True, helper_processes_max=0, introductions=False, cache_bytes_max=0
        )
        self._backend = Backend(settings, PLAIN)
        gc.collect()

    def ask(self, name: str, body: bytes, keep: bool) -> tuple[float, bytes]:
        """CPU s of an answer, and the answer if it is to be kept."""
        context = RequestContext(service=UPLOAD_PACK, protocol_version=2)
        started = time.process_time()
        handle = self._backend.open(f"/{name}", context=context)
        kept = []
        for item in handle.upload_pack(context, body):
            for chunk in item.iter_bytes() if isinstance(item, FileSpan) else (item,):
                if keep:
                    kept.append(chunk)
        return time.process_time() - started, b"".join(kept)

    def fill(self, name: str) -> float:
        """Fill the index; CPU s."""
        handle = self._backend.open(f"/{name}", context=RequestContext(service=UPLOAD_PACK, protocol_version=2))
        started = time.process_time()
        fill_introductions(IntroduceTask.of(handle.snapshot))
        return time.process_time() - started


def format_row(
    case: Case, ours: list[float], bitmap: list[float], plain: list[float], sizes: tuple[int, int, int]
) -> str:
    """One line of the table."""
    mine, theirs, other = map(statistics.median, (ours, bitmap, plain))
    size, size_bitmap, size_plain = sizes
    share = size / min(size_bitmap, size_plain)
    met = "yes" if theirs / mine >= case.goal and (share <= BYTES_GOAL or not case.haves) else "no"
    return (
        f"| {case.name} | {mine * 1e3:.2f} ({min(ours) * 1e3:.2f} to {max(ours) * 1e3:.2f}) | {theirs * 1e3:.1f} | "
        f"{theirs / mine:.1f}x | {other * 1e3:.1f} | {other / mine:.1f}x | {size:,} | {share:.2f} "
        f"| {case.goal:.0f}x {met} |"
    )


def measure(git: Git, folder: Path, name: str, source: Path, rounds: int, say: Callable[[str], None]) -> None:
    """All rows of one repository."""
    plain = build_real(git, folder / f"{name}.git", source)
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("config", key, "true", cwd=plain)
    with_bitmap = folder / f"{name}-bitmap.git"
    subprocess.run(["cp", "-a", str(plain), str(with_bitmap)], check=True)
    git("-c", "repack.writeBitmaps=false", "repack", "-adq", cwd=plain, timeout=1800)
    for bitmap in plain.glob("objects/pack/*.bitmap"):
        bitmap.unlink()
    git("repack", "-adbq", cwd=with_bitmap, timeout=1800)
    server = Server(folder)
    seconds = server.fill(plain.name)
    index_bytes = sum(file.stat().st_size for file in (plain / "govc/introductions").iterdir())
    say(f"\n## {name}: index filled in {seconds:.1f} CPU s, {index_bytes:,} bytes\n")
    say(HEADING)
    say("|---" * 9 + "|")
    for case in iter_cases(git, plain):
        is_first = "restart" in case.name
        server.restart()
        if not is_first:
            server.ask(plain.name, case.body, keep=False)
        ours: list[float] = []
        theirs: list[float] = []
        others: list[float] = []
        sizes = (0, 0)
        for _ in range(rounds):
            if is_first:
                server.restart()
            ours.append(server.ask(plain.name, case.body, keep=False)[0])
            cpu, size_bitmap = run_git(with_bitmap, case)
            theirs.append(cpu)
            cpu, size_plain = run_git(plain, case)
            others.append(cpu)
            sizes = (size_bitmap, size_plain)
        pack = split_pack(server.ask(plain.name, case.body, keep=True)[1])
        check_answer(git, plain, case, pack, folder)
        say(format_row(case, ours, theirs, others, (len(pack), *sizes)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fetching", description=__doc__)
    parser.add_argument("repositories", nargs="+", type=parse_repository, metavar="NAME=PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    with tempfile.TemporaryDirectory(prefix="govc-bench-") as text:
        folder = Path(text)
        git = Git(folder / "home", folder)
        say(f"# One fetch request, in process ({SHA1.name}, median of {options.rounds})")
        for name, source in options.repositories:
            measure(git, folder, name, source, options.rounds, say)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
