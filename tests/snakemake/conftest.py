"""Projects to run workflows in."""

from pathlib import Path

import pytest
from snakemake_workflows import Project, new_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a folder of its own with an instance, for one workflow."""
    return new_project(tmp_path / "study")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return one project for all tests of a module: each makes its own assertions on one run."""
    return new_project(tmp_path_factory.mktemp("shared") / "study")
