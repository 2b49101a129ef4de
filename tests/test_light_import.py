"""Importing costs a user nothing: no heavy library, no file, no network, no set-up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = {
    "IPython",
    "alembic",
    "boto3",
    "fsspec",
    "numpy",
    "pandas",
    "prefect",
    "pyarrow",
    "s3fs",
    "snakemake",
    "sqlalchemy",
}
INTERFACE = {"click", "rich"}
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"
HELP = """
import sys
from lamindb.cli import main
sys.argv = ["lamin", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "package",
    [
        "lamindb",
        "lamindb.hooks",
        "lamindb_plain",
        "lamindb_prefect",
        "lamindb_prefect.plugin",
        "lamindb_snakemake",
    ],
)
def test_importing_loads_no_heavy_library_and_writes_nothing(package: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    output = run_python(f"import {package}\n{LOADED}")
    assert (LIBRARIES | INTERFACE).intersection(json.loads(output)) == set()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_line_shows_its_help_without_database_libraries() -> None:
    help_page, loaded = run_python(f"{HELP}\n{LOADED}").rstrip().rsplit("\n", 1)
    assert "lamin" in help_page
    assert LIBRARIES.intersection(json.loads(loaded)) == set()


def run_python(code: str) -> str:
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    return child.stdout
