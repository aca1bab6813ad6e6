"""No proof outlives a change: the table of test_watching again, through the door, by the real clock."""

import os
import shutil
import time

import pytest

from govc.errors import GovcError, RepositoryNotFound
from govc.repo import proof as proof_room
from govc.repo.discover import enter_repository
from govc.repo.proof import Proof, stamp_path
from govc.repo.runtime import PLAIN
from govc.service import backend as backend_room
from govc.service.backend import Backend
from govc.service.context import RECEIVE_PACK, UPLOAD_PACK, RequestContext
from govc.service.known import KnownListing
from govc.settings import Settings
from tests.repo import watched_config, watched_objects, watched_refs  # noqa: F401  they register their lines
from tests.repo.watch_lines import LINES
from tests.repo.worlds import Site, put

SETTLED_SECONDS = 0.025


@pytest.fixture
def backend(site: Site) -> Backend:
    settings = Settings(root=str(site.folder), export_all=True, helper_processes_max=0, cache_bytes_max=0)
    return Backend(settings, PLAIN, site.environ)


def opened(backend: Backend, name: str = "r.git", service: str = UPLOAD_PACK):
    return backend.open(f"/{name}", context=RequestContext(service=service, is_discovery=True)).snapshot


def settle(backend: Backend, name: str = "r.git", service: str = UPLOAD_PACK):
    """Ask until a proof is there, and return the snapshot that it holds for."""
    time.sleep(SETTLED_SECONDS)
    return opened(backend, name, service)


@pytest.mark.parametrize("service", [UPLOAD_PACK, RECEIVE_PACK])
def test_what_another_thread_has_just_forgotten_is_no_fault(
    service: str, site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a WSGI server with threads two may find at once that a proof doesn't hold any more."""
    settle(backend, service=service)
    asked = []

    def forget(proof: Proof) -> bool:
        asked.append(proof)
        backend._proved.clear()
        backend._places.clear()
        return False

    monkeypatch.setattr(Proof, "holds", forget)
    assert opened(backend, service=service).layout.gitdir == str(site.repo)
    assert len(asked) == 1


@pytest.mark.parametrize("service", [UPLOAD_PACK, RECEIVE_PACK])
@pytest.mark.parametrize("name", LINES)
def test_no_proof_outlives_a_change(name: str, service: str, site: Site, backend: Backend) -> None:
    """Neither of what a repository holds nor, for pushes, of where it is."""
    line = LINES[name]
    for number, (look, expected) in enumerate(line.run(site)):
        try:
            enter_repository(str(site.folder / line.gitdir))
        except RepositoryNotFound:  # a HEAD that the door doesn't let in
            with pytest.raises(RepositoryNotFound):
                opened(backend, line.gitdir, service)
            continue
        assert expected == look(opened(backend, line.gitdir, service)), f"step {number}"
        assert expected == look(settle(backend, line.gitdir, service)), f"step {number}, settled"
        assert expected == look(opened(backend, line.gitdir, service)), f"step {number}, proved"


@pytest.mark.parametrize("name", LINES)
def test_no_known_answer_outlives_a_change(name: str, site: Site, backend: Backend) -> None:
    """What was answered is had again only where asking in full would give the same."""
    line, path = LINES[name], f"/{LINES[name].gitdir}"
    context = RequestContext(service=UPLOAD_PACK)
    known: list[KnownListing] = []
    for number, _ in enumerate(line.run(site)):
        again = [backend.answer_known(one) for one in known]
        try:
            fresh: bytes | None = backend.open(path, context=context).advertise(context)
        except GovcError:  # a HEAD that the door doesn't let in, say
            fresh = None
        assert {*again} <= {None, fresh}, f"step {number}"
        if fresh is None:
            continue
        time.sleep(SETTLED_SECONDS)
        handle = backend.open(path, context=context)
        answer = handle.advertise(context)
        one = handle.known_listing(path, context, None)
        if one is not None:
            known.append(one)
            assert backend.answer_known(one) == answer


def test_a_known_answer_is_had_without_a_look(site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    context = RequestContext(service=UPLOAD_PACK)
    settle(backend)
    handle = backend.open("/r.git", context=context)
    assert handle.known_listing("/r.git", context, None) is None  # not answered yet
    answer = handle.advertise(context)
    known = handle.known_listing("/r.git", context, None)
    assert known is not None
    monkeypatch.setattr(backend, "open", lambda *_, **__: pytest.fail("opened"))
    assert backend.answer_known(known) == answer
    push = RequestContext(service=RECEIVE_PACK)
    assert handle.known_listing("/r.git", push, None) is None


def test_a_settled_repository_is_proved_and_not_looked_at(
    site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = settle(backend)
    monkeypatch.setattr("govc.service.backend.find_repository", lambda *_, **__: pytest.fail("looked at"))
    assert opened(backend) is snapshot
    with pytest.raises(BaseException, match="looked at"):
        opened(backend, service=RECEIVE_PACK)  # the first push looks for itself


def test_where_a_push_goes_is_looked_for_once(site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(backend, service=RECEIVE_PACK)
    real = backend_room.find_repository
    monkeypatch.setattr("govc.service.backend.find_repository", lambda *_, **__: pytest.fail("looked at"))
    site.git("update-ref", "refs/heads/new", "main")
    assert opened(backend, service=RECEIVE_PACK).table.resolve(b"refs/heads/new") is not None  # what is there is read
    backend.pool._drop(str(site.repo))
    with pytest.raises(BaseException, match="looked at"):
        opened(backend, service=RECEIVE_PACK)  # a repository that was dropped is opened by the long way
    monkeypatch.setattr("govc.service.backend.find_repository", real)
    settle(backend, service=RECEIVE_PACK)
    assert backend._places
    shutil.rmtree(site.repo)
    with pytest.raises(RepositoryNotFound):
        opened(backend, service=RECEIVE_PACK)


def test_absent_files_whose_folder_is_known_cost_nothing(site: Site, backend: Backend) -> None:
    settle(backend)
    (proved,) = backend._proved.values()
    absent = proved.proof.stamps.absent
    present = {path for path, _ in proved.proof.stamps.present}
    assert not [path for path in absent if os.path.dirname(path) in present]
    assert {str(site.repo), f"{site.repo}/HEAD", f"{site.repo}/objects/pack", f"{site.repo}/packed-refs"} <= {
        *present,
        *absent,
        f"{site.repo}/packed-refs",
    }


@pytest.mark.parametrize("what", ["objects", "refs", "HEAD", "git-daemon-export-ok"])
def test_links_inside_are_not_proved(site: Site, backend: Backend, what: str) -> None:
    place = site.repo / what
    aside = site.folder / "aside"
    if place.exists():
        place.rename(aside)
    else:
        aside.touch()
    place.symlink_to("refs/heads/main" if what == "HEAD" else aside)
    settle(backend)
    settle(backend, service=RECEIVE_PACK)
    assert not backend._proved and not backend._places


def test_a_link_to_a_repository_and_a_gitfile_are_not_proved(site: Site, backend: Backend) -> None:
    (site.folder / "link.git").symlink_to(site.repo)
    put(site.folder / "file", f"gitdir: {site.repo}\n")
    for name in ("link.git", "file"):
        settle(backend, name)
        settle(backend, name, RECEIVE_PACK)
    assert not backend._proved and not backend._places
    assert stamp_path(str(site.folder / "link.git")) is None


def test_another_owner_is_not_proved(site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site.home / ".gitconfig", "[safe]\n\tdirectory = *\n")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(proof_room.os, "geteuid", lambda: os.getuid() + 1)
    settle(backend)
    settle(backend, service=RECEIVE_PACK)
    assert not backend._proved and not backend._places


def test_a_change_of_mode_is_a_change(site: Site, backend: Backend) -> None:
    settle(backend)
    (proved,) = backend._proved.values()
    assert proved.proof.holds()
    settle(backend, service=RECEIVE_PACK)
    (place,) = backend._places._places.values()
    assert place.proof.holds()
    os.chmod(site.repo / "objects", 0o700)
    assert not proved.proof.holds() and not place.proof.holds()


def test_a_deleted_and_a_replaced_repository(site: Site, backend: Backend) -> None:
    first = settle(backend)
    shutil.rmtree(site.repo)
    with pytest.raises(RepositoryNotFound):
        opened(backend)
    shutil.copytree(site.other, site.repo)
    assert opened(backend).table.resolve(b"refs/heads/main") == site.foreign
    assert first.table.resolve(b"refs/heads/main") != site.foreign
