"""An instance in SQLite that one may only read: in a folder of others, or on a read-only disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import lamindb as ln
from lamindb import instance
from lamindb.db import migrate
from lamindb.errors import DatabaseUnreachableError
from read_only import seen_read_only

FOLDER = Path("mydata/.lamindb")
DATABASE = FOLDER / "lamindb.sqlite"
# what lets root write anywhere
_CAPABILITIES = "--bounding-set=-dac_override,-dac_read_search,-fowner"


@pytest.fixture(autouse=True)
def made(tmp_path: Path) -> ln.File:
    """A file that a run made, in an instance that nobody has open."""
    ln.setup.init("./mydata")
    ln.track(transform=ln.Transform("clean", type="pipeline"))
    Path("a.csv").write_text("a")
    made = ln.add(ln.File("a.csv", key="a.csv"))
    ln.finish()
    instance.reset()
    assert not logs()
    return made


@pytest.fixture(params=["another's file and folder", "another's file", "another's folder", "disk"])
def prefix(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What to put before a command that may not write."""
    if request.param == "disk":
        yield seen_read_only(Path("mydata").resolve())
        return
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("no setpriv here, to do without root's rights")
    for path, word in ((FOLDER, "folder"), (DATABASE, "file")):
        if word in request.param:
            path.chmod(path.stat().st_mode & ~0o222)
    yield ["setpriv", _CAPABILITIES] if os.geteuid() == 0 else []
    FOLDER.chmod(0o755)


def done(prefix: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, *arguments], capture_output=True, text=True, timeout=60
    )


def logs() -> list[Path]:
    """The files that are beside the database while somebody has it open."""
    return list(FOLDER.glob("lamindb.sqlite-*"))


READ = """
from click.testing import CliRunner
from lamindb.cli import main
for command in "runs", "files", "show a.csv", "lineage a.csv", "doctor":
    done = CliRunner().invoke(main, command.split())
    expected = "Everything is as recorded" if command == "doctor" else "clean"
    assert done.exit_code == 0 and expected in done.output, done.output
"""


def test_whoever_may_only_read_can(prefix: list[str]) -> None:
    found = done(prefix, "-c", READ)
    assert (found.returncode, found.stderr) == (0, "")
    assert not logs()


def test_whoever_may_only_read_is_told_so_when_writing(prefix: list[str]) -> None:
    code = "import lamindb as ln; ln.select(ln.File).one(); ln.add(ln.Transform('new'))"
    found = done(prefix, "-c", code)
    assert "DatabaseUnreachableError" in found.stderr and "cannot be written" in found.stderr
    assert ln.select(ln.Transform).one().name == "clean"


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process finds that it may not write, whoever runs it."""
    monkeypatch.setattr("lamindb.db.database.os.access", lambda *_: False)


@pytest.mark.usefixtures("reading")
def test_a_reader_sees_what_others_write_while_they_do_and_afterwards() -> None:
    def name() -> str:
        return str(ln.select(ln.Transform).one().name)

    assert name() == "clean"
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as writer:
        for new in ("one", "two"):
            writer.execute("UPDATE transform SET name = ?", (new,))
            assert name() == new
        writer.execute("UPDATE transform SET name = 'three'")
    assert not logs()
    assert name() == "three"


@pytest.mark.usefixtures("reading")
def test_outside_of_wal_mode_a_reader_waits_for_a_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 0.3)
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=DELETE")
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnreachableError, match="locked"):
            ln.select(ln.Transform).one()
    assert ln.select(ln.Transform).one().name == "clean"


@pytest.mark.usefixtures("reading")
def test_an_older_database_that_cannot_be_written_is_not_upgraded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(migrate, "HEAD", "0002")
    with pytest.raises(DatabaseUnreachableError, match="cannot be written"):
        ln.select(ln.Transform).one()
    assert not list(FOLDER.glob("*.backup"))
