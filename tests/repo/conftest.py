from pathlib import Path

import pytest

from tests.repo.worlds import Site


@pytest.fixture(scope="session")
def site_template(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(site_template: Site, tmp_path: Path) -> Site:
    return site_template.copy_to(tmp_path / "site")
