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


def test_a_script_tracked_into_sqlite_loads_no_other_database_and_no_data_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_python("import lamindb as ln; ln.setup.init(storage='data')")
    Path("script.py").write_text(
        f"import lamindb as ln\nln.track()\nopen('out.txt', 'w').write('x')\n{LOADED}"
    )
    loaded = json.loads(run_python("script.py").splitlines()[-1])
    assert LIBRARIES.intersection(loaded) == {"sqlalchemy"}
    assert "sqlalchemy.dialects.postgresql" not in loaded


def run_python(code: str) -> str:
    """Run a script, or text that is none; returns what it prints."""
    given = [code] if code.endswith(".py") else ["-c", code]
    child = subprocess.run([sys.executable, "-W", "error", *given], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return child.stdout
