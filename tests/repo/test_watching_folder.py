"""The folder itself, its owner and its marker: looked at by each request."""

import os
import shutil
from pathlib import Path

import pytest

from govc.errors import RepositoryNotFound, RepositoryRefused
from govc.repo.runtime import PLAIN
from govc.repo.snapshot import Snapshot
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.settings import Settings
from tests.repo.watch_lines import has, ref, refs, set_value, value
from tests.repo.worlds import Site, put


@pytest.fixture
def backend(site: Site) -> Backend:
    return Backend(Settings(root=str(site.folder), helper_processes_max=0), PLAIN, site.environ)


def opened(backend: Backend, name: str = "r.git") -> Snapshot:
    return backend.open(f"/{name}", context=RequestContext(service=UPLOAD_PACK)).snapshot


def export(*folders: Path) -> None:
    for folder in folders:
        put(folder / "git-daemon-export-ok", "")


def test_the_export_marker_counts_at_once(site: Site, backend: Backend) -> None:
    for _ in range(2):
        with pytest.raises(RepositoryNotFound):
            opened(backend)
        export(site.repo)
        assert opened(backend) is not None
        (site.repo / "git-daemon-export-ok").unlink()


def test_another_owner_is_refused_at_once(site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    export(site.repo)
    assert opened(backend) is not None
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(RepositoryRefused):
        opened(backend)
    site.git("config", "--global", "safe.directory", site.repo)
    assert opened(backend) is not None


def test_a_deleted_repository_is_gone_at_once(site: Site, backend: Backend) -> None:
    export(site.repo)
    opened(backend)
    shutil.rmtree(site.repo)
    with pytest.raises(RepositoryNotFound):
        opened(backend)


def test_a_renamed_repository_is_at_its_new_path_only(site: Site, backend: Backend) -> None:
    export(site.repo)
    site.git("config", f"includeIf.gitdir:{site.folder}/new.git.path", "included")
    put(site.repo / "included", set_value(1))
    assert value(opened(backend)) is None
    site.repo.rename(site.folder / "new.git")
    with pytest.raises(RepositoryNotFound):
        opened(backend)
    assert value(opened(backend, "new.git")) == "1"


@pytest.mark.parametrize("is_inode_reused", [False, True])
def test_a_repository_replaced_at_the_same_path_is_another(
    is_inode_reused: bool, site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_inode_reused:
        monkeypatch.setattr("govc.repo.pool.identity_of", lambda gitdir: (1, 1))
        monkeypatch.setattr("govc.repo.repository.identity_of", lambda gitdir: (1, 1))
    export(site.repo, site.other)
    assert has(site.first, site.foreign)(opened(backend)) == [True, False]
    site.repo.rename(site.folder / "old.git")
    site.other.rename(site.repo)
    snapshot = opened(backend)
    assert has(site.first, site.foreign)(snapshot) == [False, True]
    assert {"refs/heads/main": site.foreign} == refs(snapshot)
    shutil.rmtree(site.repo)
    site.git("init", "-q", "--bare", "--object-format=sha256", site.repo, cwd=site.folder)
    export(site.repo)
    snapshot = opened(backend)
    assert (snapshot.algo.name, refs(snapshot)) == ("sha256", {})


def test_a_link_to_a_repository_leads_elsewhere_at_once(site: Site, backend: Backend) -> None:
    export(site.repo, site.other)
    link = site.folder / "link.git"
    for folder, oid in ((site.repo, site.first), (site.other, site.foreign)):
        link.symlink_to(folder)
        assert oid == ref("refs/heads/main")(opened(backend, "link.git"))
        link.unlink()
