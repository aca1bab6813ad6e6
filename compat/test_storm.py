"""Many who want the same: one production, whatever happens to workers, clients and the cache's folder on the way."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import FLUSH, Reply, demux, lines, parse_packets, request, upload
from compat.test_streams import PACKS_ONLY, find_helper, frozen_helper, start_clone
from tests.waiting import wait_until

CLIENTS = 16
SECONDS = 120
MANY = 1200
"""Commits of a repository whose clone is made in a helper."""


Wide = Callable[..., Repo]


@pytest.fixture(scope="module")
def wide_repo(tmp_path_factory: pytest.TempPathFactory) -> Wide:
    """Makes repositories whose clone is worth keeping: each commit brings some bytes that nothing makes smaller."""
    folder = tmp_path_factory.mktemp("wide")
    git = Git(folder / "home", folder)
    built: dict[tuple[int, int], Path] = {}

    def build(commits: int, noise: int) -> Path:
        path = folder / f"{commits}-{noise}.git"
        git("init", "-q", "--bare", "-b", "main", path)
        stream = (
            f"commit refs/heads/main\ncommitter a <a@b> {1700000000 + n} +0000\ndata 0\n"
            f"M 100644 inline f{n % 300}\ndata {2 * noise}\n{os.urandom(noise).hex()}\n"
            for n in range(commits)
        )
        git("-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", cwd=path, input="".join(stream).encode())
        return path

    def make(server: Server, commits: int = 300, noise: int = 2048) -> Repo:
        if (commits, noise) not in built:
            built[commits, noise] = build(commits, noise)
        path = server.root / f"wide-{time.monotonic_ns():x}.git"
        shutil.copytree(built[commits, noise], path)
        (path / "git-daemon-export-ok").touch()
        return server.adopt(path)

    return make


def everything(repo: Repo, *capabilities: str) -> bytes:
    """The request of a clone of main."""
    words = " ".join(("side-band-64k", "ofs-delta", *capabilities))
    return lines(f"want {repo.rev('main')} {words}", FLUSH, "done")


def pack_of(reply: Reply) -> bytes:
    bands = demux(reply.packets)
    assert (reply.status, bands.fatal, bands.ended, reply.cut) == (200, b"", True, False)
    return bands.data


def check_pack(git: Git, pack: bytes, repo: Repo) -> None:
    """The pack is whole: git takes it, and what it holds is what main reaches."""
    place = git.cwd / f"check-{time.monotonic_ns():x}.git"
    git("init", "-q", "--bare", place)
    git("index-pack", "--stdin", "--strict", cwd=place, input=pack)
    wanted = set(repo.run("rev-list", "--objects", "--no-object-names", "main").split())
    assert wanted == git.objects(place)


def counted(server: Server) -> dict[str, float]:
    """What the cache of bodies has counted, over all workers."""
    text = request(server.url, "GET", "/-/metrics").body.decode()
    found = re.findall(r'^govc_body_cache_total\{result="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def cache_folder(server: Server) -> Path:
    """The folder of bodies of a private server."""
    assert server.running.log is not None
    (place,) = [path for path in server.running.log.parent.rglob("bodies-3-*") if path.is_dir()]
    return place


def worker_of(helper: psutil.Process) -> psutil.Process:
    parent = helper.parent()
    assert parent is not None
    return parent


def stop_helper(server: Server) -> tuple[psutil.Process, psutil.Process] | None:
    """Let a helper that is at work stand still; it and its worker. None when it was quicker."""
    helper = find_helper(server)
    if helper is None:
        return None
    try:
        helper.suspend()
        return helper, worker_of(helper)
    except psutil.NoSuchProcess:
        return None


def has_clients_elsewhere(worker: psutil.Process) -> bool:
    """Does another worker than this one hold a connection of a client?"""
    master = worker.parent()
    assert master is not None
    siblings = [process for process in master.children() if process != worker]
    return any(link.status == psutil.CONN_ESTABLISHED for each in siblings for link in each.net_connections("tcp"))


@pytest.mark.every_frontend
@pytest.mark.rows("HB-48", "U0-54", "U0-58")
def test_many_clones_at_once_are_one_production(
    private_server: Callable[..., Server], git: Git, wide_repo: Wide
) -> None:
    server = private_server()
    repo = wide_repo(server, MANY)
    body = everything(repo)
    with ThreadPoolExecutor(CLIENTS) as pool:
        replies = list(pool.map(lambda _: upload(repo.url, body), range(CLIENTS)))
    packs = {pack_of(reply) for reply in replies}
    assert len(packs) == 1
    check_pack(git, packs.pop(), repo)
    progress = {demux(reply.packets).progress for reply in replies}
    assert all(re.search(rb"Enumerating objects: \d+, done\.\n.*Total \d+", text, re.DOTALL) for text in progress)
    again = upload(repo.url, body)
    assert pack_of(again) in {pack_of(reply) for reply in replies}
    if server.name != "cgi":  # whose processes have nobody to count for
        seen = counted(server)
        assert seen["miss"] == 1
        assert seen.get("follow", 0) + seen["hit"] == CLIENTS


@pytest.mark.every_frontend
@pytest.mark.rows("HB-32", "HB-48")
def test_a_cached_answer_has_the_headers_and_the_bytes_of_a_fresh_one(
    private_server: Callable[..., Server], git: Git, wide_repo: Wide
) -> None:
    server = private_server()
    repo = wide_repo(server)
    fresh, cached = (upload(repo.url, everything(repo)) for _ in range(2))
    assert fresh.body == cached.body
    left_out = {"date", "connection", "transfer-encoding", "content-length", "keep-alive"}
    for name in {*fresh.headers, *cached.headers} - left_out:
        assert fresh.headers.get(name) == cached.headers.get(name), name
    if server.running.log is not None and server.name != "cgi":
        wait_until(lambda: server.running.log.read_text().count(f"status=200 bytes={len(fresh.body)} ") == 2)  # type: ignore[union-attr]
    other = upload(repo.url, everything(repo, "no-progress"))
    assert pack_of(other) == pack_of(fresh)
    assert other.body != fresh.body
    git("clone", "-q", "--bare", repo.url, "copy")
    assert git.rev("copy", "main") == repo.rev("main")


@pytest.mark.rows("HB-48")
def test_a_push_elsewhere_leaves_the_body_and_a_push_to_what_is_wanted_makes_another(
    private_server: Callable[..., Server], wide_repo: Wide
) -> None:
    server = private_server()
    repo = wide_repo(server)
    first = upload(repo.url, everything(repo))
    repo.run("update-ref", "refs/heads/other", "main~5")
    assert upload(repo.url, everything(repo)).body == first.body
    assert counted(server)["miss"] == 1
    repo.run("update-ref", "refs/heads/main", "main~1")
    assert upload(repo.url, everything(repo)).body != first.body
    assert counted(server)["miss"] == 2
    # A repack changes no object, and so no answer.
    before = upload(repo.url, everything(repo)).body
    repo.run("repack", "-adfq")
    assert upload(repo.url, everything(repo)).body == before
    assert counted(server)["miss"] == 2


def test_clients_that_leave_end_only_their_own_streams(private_server: Callable[..., Server], wide_repo: Wide) -> None:
    server = private_server()
    repo = wide_repo(server, MANY)
    body = everything(repo)
    leavers = [start_clone(repo) for _ in range(6)]
    for connection in leavers:
        assert connection.recv(1000)
    with ThreadPoolExecutor(CLIENTS) as pool:
        replies = pool.map(lambda _: upload(repo.url, body), range(6))
        for connection in leavers:
            connection.close()
        assert len({pack_of(reply) for reply in replies}) == 1


def test_a_slow_reader_keeps_nobody_waiting(private_server: Callable[..., Server], wide_repo: Wide) -> None:
    server = private_server()
    repo = wide_repo(server)
    slow = start_clone(repo)
    try:
        assert slow.recv(1000)
        whole = upload(repo.url, everything(repo, "no-progress"))
        again = upload(repo.url, everything(repo, "no-progress"))
        assert pack_of(whole) == pack_of(again)
        # And he, who has read nothing meanwhile, gets all of it in the end.
        received, end = 0, b""
        slow.settimeout(SECONDS)
        while not end.endswith(b"0\r\n\r\n"):
            piece = slow.recv(1 << 20)
            assert piece
            received += len(piece)
            end = (end + piece)[-16:]
        assert received > len(pack_of(whole))
    finally:
        slow.close()


def test_a_killed_worker_takes_only_its_own_clients_with_it(
    private_server: Callable[..., Server], git: Git, wide_repo: Wide
) -> None:
    server = private_server(PACKS_ONLY)
    replies: list[Reply | None] = []

    def ask() -> None:
        try:
            replies.append(upload(repo.url, body))
        except (OSError, ValueError, ConnectionError) as error:  # its own worker was killed
            assert "timed out" not in str(error)
            replies.append(None)

    clients: list[threading.Thread] = []

    def start_client() -> None:
        clients.append(threading.Thread(target=ask))
        clients[-1].start()

    def have_joined() -> bool:
        return counted(server).get("follow", 0) - before >= len(clients) - 1

    before = 0.0
    with frozen_helper(server) as caught:
        for _ in range(10):
            # Listed for longer than it mostly takes to have the helper stand still; who was slower tries another.
            repo = wide_repo(server, 4 * MANY, noise=64)
            body = everything(repo)
            for _ in range(CLIENTS):
                start_client()
            wait_until(lambda: caught or len(replies) == len(clients))
            if caught:
                break
            clients.clear()
            replies.clear()
            before = counted(server).get("follow", 0)
        assert caught, "each pack was made before its helper stood still"
        worker = worker_of(caught[0])
        # The kernel hands out connections as it likes: sixteen may all have gone to the worker that will die.
        while not has_clients_elsewhere(worker):
            start_client()
            wait_until(have_joined)
        wait_until(have_joined)
        worker.kill()
        for client in clients:
            client.join(SECONDS)
        assert not any(client.is_alive() for client in clients)
    whole = [reply for reply in replies if reply is not None and not reply.cut]
    # Nobody had pack data yet: those of the other worker have gone on by themselves.
    assert 0 < len(whole) < len(clients)
    assert len({pack_of(reply) for reply in whole}) == 1
    check_pack(git, pack_of(whole[0]), repo)
    assert pack_of(upload(repo.url, body))


def test_a_worker_killed_in_the_middle_leaves_nobody_with_half_a_pack(
    private_server: Callable[..., Server], wide_repo: Wide
) -> None:
    server = private_server(PACKS_ONLY)
    for _ in range(10):
        repo = wide_repo(server, 3 * MANY)
        connections = [start_clone(repo) for _ in range(10)]
        received: dict[socket.socket, bytearray] = {connection: bytearray() for connection in connections}
        first = connections[0]
        while b"\1PACK" not in received[first]:
            received[first] += first.recv(1 << 16)
        caught = stop_helper(server)
        if caught is not None:
            break
        for connection in connections:
            connection.close()
    else:
        pytest.skip("each pack was made before the worker could be killed")
    helper, worker = caught
    worker.kill()
    helper.kill()
    ends = []
    for connection in connections:
        connection.settimeout(SECONDS)
        try:
            while piece := connection.recv(1 << 20):
                received[connection] += piece
                if received[connection].endswith(b"\r\n0\r\n\r\n"):
                    break
        except ConnectionError:
            pass
        finally:
            connection.close()
        ends.append(bytes(received[connection]))
    for text in ends:
        is_whole = text.endswith(b"\r\n0\r\n\r\n")
        assert is_whole == (b"\n0000\r\n" in text[-40:] or b"0000\r\n0\r\n\r\n" in text[-40:])
    assert pack_of(upload(repo.url, everything(repo)))


def test_the_folder_may_be_deleted_at_any_moment(
    private_server: Callable[..., Server], git: Git, wide_repo: Wide
) -> None:
    server = private_server()
    repo = wide_repo(server)
    body = everything(repo)
    first = pack_of(upload(repo.url, body))
    cache = cache_folder(server).parent
    shutil.rmtree(cache)
    assert pack_of(upload(repo.url, body)) == first
    stop = threading.Event()

    def delete() -> None:
        while not stop.wait(0.02):
            shutil.rmtree(cache, ignore_errors=True)

    deleter = threading.Thread(target=delete)
    deleter.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: upload(repo.url, body), range(24)))
    finally:
        stop.set()
        deleter.join()
    for pack in {pack_of(reply) for reply in replies}:
        check_pack(git, pack, repo)


def test_a_cache_that_cannot_be_made_costs_nothing_but_time(
    private_server: Callable[..., Server], tmp_path: Path, git: Git, wide_repo: Wide
) -> None:
    (tmp_path / "file").touch()
    server = private_server({"GOVC_CACHE_DIR": str(tmp_path / "file" / "cache")})
    repo = wide_repo(server)
    check_pack(git, pack_of(upload(repo.url, everything(repo))), repo)
    assert counted(server)["direct"] == 1


# Who may see what


def tag_in(pack: bytes, git: Git, oid: str) -> bool:
    place = git.cwd / f"tags-{hashlib.sha1(pack).hexdigest()}-{time.monotonic_ns():x}.git"
    git("init", "-q", "--bare", place)
    git("index-pack", "--stdin", cwd=place, input=pack)
    return oid in git.objects(place)


@pytest.mark.every_frontend
@pytest.mark.rows("U0-68", "CF-06", "U0-25")
def test_hidden_refs_are_never_served_from_before_they_were_hidden(
    private_server: Callable[..., Server], git: Git, wide_repo: Wide
) -> None:
    server = private_server()
    repo = wide_repo(server)
    repo.run("tag", "-a", "-m", "secret", "secret", "main")
    repo.run("update-ref", "refs/secret/tip", repo.run("commit-tree", "-p", "main", "-m", "hidden", "main^{tree}"))
    tag, tip = repo.rev("refs/tags/secret"), repo.rev("refs/secret/tip")
    with_tags = everything(repo, "include-tag")
    want_tip = lines(f"want {tip} side-band-64k ofs-delta", FLUSH, "done")
    for is_hidden in (False, True, False):
        repo.run("config", "--unset-all", "transfer.hideRefs", check=False)
        if is_hidden:
            repo.run("config", "--add", "transfer.hideRefs", "refs/tags/secret")
            repo.run("config", "--add", "transfer.hideRefs", "refs/secret")
        for _ in range(2):
            assert tag_in(pack_of(upload(repo.url, with_tags)), git, tag) is not is_hidden
            answer = upload(repo.url, want_tip)
            if is_hidden:
                assert [f"ERR upload-pack: not our ref {tip}".encode()] == parse_packets(answer.body)
            else:
                assert pack_of(answer)


@pytest.mark.rows("HB-70", "V2-54")
def test_namespaces_share_nothing(
    private_server: Callable[..., Server], tmp_path: Path, git: Git, wide_repo: Wide
) -> None:
    cache = str(tmp_path / "one-cache")
    plain = private_server({"GOVC_CACHE_DIR": cache})
    inside = private_server({"GOVC_CACHE_DIR": cache, "GIT_NAMESPACE": "n"})
    repo = wide_repo(plain)
    repo.run("update-ref", "refs/namespaces/n/refs/heads/main", "main")
    repo.run("tag", "-a", "-m", "outside", "outside", "main")
    body = everything(repo, "include-tag")
    url_inside = repo.url.replace(plain.url, inside.url)
    for _ in range(2):
        assert tag_in(pack_of(upload(repo.url, body)), git, repo.rev("outside"))
        assert not tag_in(pack_of(upload(url_inside, body)), git, repo.rev("outside"))


def test_a_repository_replaced_at_the_same_path_has_its_own_answers(
    private_server: Callable[..., Server], git: Git, wide_repo: Wide
) -> None:
    server = private_server()
    repo = wide_repo(server)
    body = everything(repo)
    assert pack_of(upload(repo.url, body))
    aside = repo.path.with_name("aside.git")
    repo.path.rename(aside)
    repo.git("init", "-q", "--bare", repo.path)
    (repo.path / "git-daemon-export-ok").touch()
    oid = re.search(rb"want (\w+)", body)
    assert oid is not None
    assert parse_packets(upload(repo.url, body).body) == [b"ERR upload-pack: not our ref " + oid[1]]
    repo.path.rename(repo.path.with_name("successor.git"))  # not removed: its server may be at work in it
    aside.rename(repo.path)
    check_pack(git, pack_of(upload(repo.url, body)), repo)


# nginx


def test_when_nginx_finds_no_file_govc_sends_the_body(
    private_server: Callable[..., Server], frontend: object, tmp_path: Path, wide_repo: Wide
) -> None:
    """X-Accel-Redirect to a file that has just been deleted: here, one that nginx looks for elsewhere."""
    from compat import frontends

    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    server = private_server()
    repo = wide_repo(server)
    shutil.copytree(repo.path, root / "r.git")
    real = frontends.nginx_configuration
    nowhere = str(tmp_path / "nowhere")

    def elsewhere(source: str, **more: object) -> str:
        return real(source, **{**more, "cache_dir": nowhere})  # type: ignore[arg-type]

    frontends.nginx_configuration = elsewhere
    try:
        with frontends.start("nginx", root, scratch) as running:
            url = f"{running.url}/r.git"
            bodies = [upload(url, everything(repo)) for _ in range(3)]
            assert {reply.status for reply in bodies} == {200}
            assert len({reply.body for reply in bodies}) == 1
            assert pack_of(bodies[2])
            assert running.log is not None
            assert "X-Govc" not in running.log.read_text()
    finally:
        frontends.nginx_configuration = real


def test_only_trusted_proxies_are_told_of_files(private_server: Callable[..., Server], wide_repo: Wide) -> None:
    server = private_server({"GOVC_ACCEL_LOCATION": "/-/cache", "GOVC_TRUSTED_PROXIES": "192.0.2.0/24"})
    repo = wide_repo(server)
    for _ in range(2):
        reply = upload(repo.url, everything(repo))
        assert "x-accel-redirect" not in reply.headers
        assert pack_of(reply)


def test_the_internal_location_is_closed_to_clients(private_server: Callable[..., Server], wide_repo: Wide) -> None:
    from compat import frontends

    server = private_server()
    root, scratch = server.root.parent / "n-root", server.root.parent / "n-scratch"
    root.mkdir()
    scratch.mkdir()
    with frontends.start("nginx", root, scratch) as running:
        repo = wide_repo(server)
        shutil.copytree(repo.path, root / "r.git")
        assert pack_of(upload(f"{running.url}/r.git", everything(repo)))
        wait_until(lambda: list(scratch.rglob("*.body")))
        (place,) = scratch.rglob("*.body")
        reply = request(running.url, "GET", f"/-/cache/{place.parent.name}/{place.name}")
        assert (reply.status, reply.body[:4]) == (404, reply.body[:4])
        assert b"PACK" not in reply.body
