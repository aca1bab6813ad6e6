"""The configuration of how refs are kept and written."""

from pathlib import Path

import pytest

from govc.errors import RepositoryRefused
from govc.protocol.oid import SHA1
from govc.refs.plan import RefUpdate
from govc.refs.reftable.stack import Stack
from govc.repo.journal import JournalOptions
from govc.repo.ref_options import read_write_options
from govc.repo.repository import Repository
from govc.repo.writing import Origin, RefWriter
from tests.repo.test_watching_reftable import make_stack
from tests.repo.watch_lines import refs
from tests.repo.worlds import Site, repository


def opened_with(site: Site, path: Path, text: str) -> Repository:
    with open(path / "config", "a") as file:
        file.write(text)
    opened = repository(path, site.environ)
    opened.snapshot()
    return opened


def push(opened: Repository, *updates: RefUpdate) -> None:
    origin = Origin(committer=b"C <c@example.com>", message=b"push")
    writer = RefWriter(opened, opened.snapshot(), origin, JournalOptions())
    assert writer.change(updates) == {}
    opened.close()


@pytest.mark.rows("CF-86")
def test_the_shape_of_tables(site: Site) -> None:
    path = make_stack(site)
    text = "[reftable]\n\tblockSize = 1k\n\trestartInterval = 4\n\tindexObjects = false\n\tgeometricFactor = 3\n"
    opened = opened_with(site, path, text)
    options = read_write_options(opened.layout, opened.snapshot().config, sleep=lambda _: None).reftable
    assert (1024, 4, False, 3) == (
        options.block_size,
        options.restart_interval,
        options.index_objects,
        options.geometric_factor,
    )
    push(opened, *(RefUpdate(b"refs/heads/n%03d" % number, SHA1.zero, site.first) for number in range(200)))
    table = Stack(str(path / "reftable"), SHA1).open_tables()[-1]
    assert table.header.block_size == 1024
    assert table.footer.ref_index > 0
    assert table.footer.obj == 0


@pytest.mark.rows("CF-86", "CF-58")
def test_defaults_and_what_git_dies_on(site: Site) -> None:
    path = make_stack(site)
    opened = opened_with(site, path, "[reftable]\n\tblockSize = 0\n\tlockTimeout = 70\n")
    options = read_write_options(opened.layout, opened.snapshot().config, sleep=lambda _: None).reftable
    assert (4096, 16, True, 2, 70) == (
        options.block_size,
        options.restart_interval,
        options.index_objects,
        options.geometric_factor,
        options.lock_timeout_ms,
    )
    for bad in "blockSize = 16777216", "restartInterval = 65536", "geometricFactor = 256", "lockTimeout = -2":
        with pytest.raises(RepositoryRefused, match="reftable"):
            broken = opened_with(site, path, f"[reftable]\n\t{bad}\n")
            read_write_options(broken.layout, broken.snapshot().config, sleep=lambda _: None)
        config = (path / "config").read_text()
        (path / "config").write_text(config.replace(f"\t{bad}\n", ""))


@pytest.mark.rows("FS-49")
@pytest.mark.parametrize("is_absolute", [False, True])
def test_refs_in_another_folder(site: Site, is_absolute: bool) -> None:
    path = make_stack(site)
    elsewhere = site.folder / "elsewhere"
    elsewhere.mkdir()
    (path / "reftable").rename(elsewhere / "reftable")
    config = (path / "config").read_text()
    value = f"reftable://{elsewhere if is_absolute else '../elsewhere'}"
    (path / "config").write_text(config.replace("refstorage = reftable", f"refstorage = {value}"))
    opened = repository(path, site.environ)
    assert {"refs/heads/main": site.first} == refs(opened.snapshot())
    push(opened, RefUpdate(b"refs/heads/main", site.first, site.second))
    assert {"refs/heads/main": site.second} == refs(repository(path, site.environ).snapshot())
    assert not (path / "reftable").exists()
