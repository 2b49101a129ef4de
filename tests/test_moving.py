"""``lamin migrate``: an instance in another database and storage, whole and the same."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, text, update

import lamindb as ln
from forking import WarmProcess
from lamindb import config, instance, recorder, spool
from lamindb.cli import main
from lamindb.db import migrate, schema
from lamindb.db.database import Database
from lamindb.doctor import examine
from lamindb.errors import DatabaseUnfinishedError, SetupError, StorageError
from lamindb.hooks import (
    FileRead,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
    emit,
    environment,
    run_id,
)
from lamindb.moving import move, objects, rows
from lamindb.storage.store import Store
from postgres import Server

LAMIN = [sys.executable, "-m", "lamindb"]
BY_ENGINE = run_id("test", "child")


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    process = WarmProcess("s3fs", "test_moving")
    yield process
    process.close()


# --- an instance with something of everything -----------------------------------------------------


@pytest.fixture
def source() -> config.InstanceConfig:
    """An instance with versions, a directory, keyless files, files in place, runs of engines."""
    made = ln.setup.init("./mydata", name="old")
    os.environ["LAMINDB_USER"] = "ada"
    ln.track(transform=ln.Transform("by hand", type="pipeline"), params={"seed": 3})
    for content in ("one", "two"):
        ln.add(ln.File(written("data.txt", content), key="tables/data.txt"))
    ln.add(ln.File(written("keyless.tar.gz", "no key")))
    for name in ("a.txt", "deep/b.txt"):
        written(f"folder/{name}", name)
    ln.add(ln.File(Path("folder"), key="folder"))
    ln.finish()
    by_engine()
    instance.reset()
    ln.setup.load("old")
    return made


def by_engine() -> None:
    """Runs that an engine tells of, whose child comes before its parent and has a file in place."""
    parent = run_id("test", "parent")
    code = InferredTransform("fit", "lab/fit", "function", source_hash="1")
    emit(
        RunStarted(
            run=BY_ENGINE, engine="test", parent=parent, transform=code,
            params={"x": 1.5, "s": "é"}, environment=environment(), user="grace",
            details={"n": [1, None]},
        )
    )  # fmt: skip
    path = written("in place.csv", "a,b\n")
    stat = FileStat.of(path)
    emit(FileRead(run=BY_ENGINE, uri=str(path.resolve()), stat=stat, how="declared"))
    out = written("result.csv", "1,2\n")
    emit(FileWritten(run=BY_ENGINE, uri=str(out.resolve()), stat=FileStat.of(out), how="declared"))
    emit(RunFinished(run=BY_ENGINE, status="failed", error="line 1\nline 2"))
    emit(RunLinked(run=BY_ENGINE, other=parent, role="informed_by"))
    emit(RunFinished(run=parent, status="completed"))
    recorder.flush()


def written(name: str, content: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@contextmanager
def database_of(configuration: config.InstanceConfig) -> Iterator[Database]:
    database = Database(configuration)
    try:
        yield database
    finally:
        database.dispose()


def contents(configuration: config.InstanceConfig) -> dict[str, list[dict[str, Any]]]:
    """Return every row of an instance, but where its own storage is."""
    found = {}
    with database_of(configuration) as database, database.read() as connection:
        for table in schema.metadata.sorted_tables:
            keys = [each.name for each in table.primary_key.columns]
            each = [dict(row) for row in connection.execute(select(table)).mappings()]
            found[table.name] = sorted(each, key=lambda row: [row[name] for name in keys])
    for row in found["storage"]:
        if row["managed"]:
            row.update(root="", host="", type="")
    return found


def bytes_of_all() -> dict[str, bytes]:
    """Return what every record of the instance in use holds, as a user gets it."""
    here = instance.current().default_storage_id
    return {
        f"{record.id}/{path.name if record.suffix == '' else ''}": path.read_bytes()
        for record in ln.select(ln.File, all_versions=True, storage_id=here).all()
        for staged in [record.stage()]
        for path in ([staged] if staged.is_file() else staged.rglob("*.txt"))
    }


def tree(folder: str | Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def lamin(*arguments: str) -> Result:
    instance.reset()
    return CliRunner().invoke(main, arguments)


def test_what_stays_in_another_managed_storage_is_said_to_be_shared_by_both(
    source: config.InstanceConfig, tmp_path: Path
) -> None:
    further = tmp_path / "further"
    further.mkdir()
    ln.add(ln.Storage(further, managed=True))
    (further / "b.txt").write_text("b")
    ln.add(ln.File(further / "b.txt"))
    done = lamin("migrate", "--to", f"sqlite:///{tmp_path}/n.sqlite", "--storage", f"{tmp_path}/n")
    assert done.exit_code == 0
    assert f"1 file in {further}: left in place." in done.stdout
    assert "either may delete or replace what lies in a managed storage" in done.stdout


# --- to where ------------------------------------------------------------------------------------


def test_an_instance_is_the_same_in_postgresql_and_s3(
    source: config.InstanceConfig, postgres: Server, bucket: str
) -> None:
    before, held, old = contents(source), bytes_of_all(), tree("mydata")
    lineage = ln.lineage(ln.select(ln.File, name="result.csv").one()).upstream()
    db = postgres.database()
    done = lamin("migrate", "--to", db, "--storage", f"{bucket}/lab")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "file 6 6 row by row" in lines
    assert "objects 4 4 by hash, 27 B" in lines
    assert f"2 files in {Path.cwd()}: left in place." in lines
    assert "Of what was left in folders, other hosts see the records alone" in done.stdout
    assert lines[-4:] == [
        "The old instance is as it was. Next:",
        "lamin load lab",
        "and in folders that lead to the old one, and for everybody else:",
        f"lamin init --storage {bucket}/lab --db {db}",
    ]
    # what belongs to the old one has not changed, and it stays in use
    assert (contents(source), tree("mydata")) == (before, old)
    assert json.loads(lamin("info", "--json").stdout)["instance"] == "old"

    made = ln.setup.load("lab")
    assert (made.db, made.storage) == (db, f"{bucket}/lab")
    assert contents(made) == before
    assert bytes_of_all() == held
    assert not list(examine(hashes=True))
    assert ln.lineage(ln.select(ln.File, name="result.csv").one()).upstream().equals(lineage)
    # and it is one to work with
    assert {user.handle for user in ln.select(ln.User).all()} == {"testuser", "ada", "grace"}
    third = ln.add(ln.File(written("data.txt", "three"), key="tables/data.txt"))
    assert ln.select(ln.File, key="tables/data.txt").one().id == third.id
    # for everybody else
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    shutil.rmtree(config.config_dir())
    assert ln.setup.init(f"{bucket}/lab", db=db).name == "lab"
    assert ln.select(ln.File, key="tables/data.txt").one().id == third.id


def test_an_instance_moves_to_another_folder_and_file(source: config.InstanceConfig) -> None:
    before, held = contents(source), bytes_of_all()
    moved = move("sqlite:///new.sqlite", "./new", "fresh")
    assert (moved.objects, moved.left, moved.was_there) == (4, [], False)
    assert contents(moved.config) == before
    shutil.rmtree("mydata")
    assert ln.setup.load("./new").name == "fresh"
    assert bytes_of_all() == held
    assert not list(examine(hashes=True))
    assert ln.setup.init("./new").db == moved.config.db


def test_without_a_storage_the_objects_stay_where_they_are(
    source: config.InstanceConfig, postgres: Server
) -> None:
    before, held, old = contents(source), bytes_of_all(), tree("mydata")
    db = postgres.database()
    done = lamin("migrate", "--to", db, "--name", "shared")
    assert done.exit_code == 0, done.output
    assert f'set in {source.storage}/.lamindb/instance.toml\n  db = "{db}"' in done.output
    assert tree("mydata") == old
    made = ln.setup.load("shared")
    assert contents(made) == before
    assert bytes_of_all() == held


def test_what_is_being_done_is_shown_on_a_terminal_only(source: config.InstanceConfig) -> None:
    command = [*LAMIN, "migrate", "--to", "sqlite:///new.sqlite", "--storage", "new"]
    reader, terminal = pty.openpty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    assert done.returncode == 0
    assert b"records" in os.read(reader, 100_000)
    os.close(reader)
    assert "compared" in done.stdout


def test_what_only_sqlite_can_hold_is_made_fit(
    source: config.InstanceConfig, postgres: Server
) -> None:
    with database_of(source) as database, database.begin() as connection:
        connection.execute(
            update(schema.run)
            .where(schema.run.c.id == BY_ENGINE)
            .values(error="a\0b", params={"a\0": ["b\0"]})
        )
    moved = move(postgres.database(), name="strict")
    ln.setup.load(moved.config.name)
    run = ln.select(ln.Run, id=BY_ENGINE).one()
    assert (run.error, run.params) == ("ab", {"a": ["b"]})


# --- what the source does not hold --------------------------------------------------------------


def test_what_the_source_lacks_is_named_and_all_else_copied(
    source: config.InstanceConfig,
) -> None:
    Path("mydata/tables/data.txt").write_text("changed by hand")
    lost = next(Path("mydata").glob("*.tar.gz"))
    lost.unlink()
    done = lamin("migrate", "--to", "sqlite:///new.sqlite", "--storage", "new", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["objects"] == 2
    assert {(each["name"], each["problem"].split()[-1]) for each in found["left"]} == {
        ("data.txt", "lamindb"),
        ("keyless.tar.gz", str(lost.resolve())),
    }
    assert not Path("new/tables/data.txt").exists()
    assert Path("new/folder/deep/b.txt").read_text() == "deep/b.txt"
    assert Path("mydata/tables/data.txt").read_text() == "changed by hand"


# --- refused -------------------------------------------------------------------------------------


def test_a_target_that_holds_something_else_is_refused(
    source: config.InstanceConfig, postgres: Server, bucket: str
) -> None:
    written("taken/file.txt", "somebody's")
    other = ln.setup.init("./other", name="other")
    ln.setup.load("old")
    foreign = postgres.database()
    empty = config.config_from_storage("x", foreign)
    with database_of(empty) as database, database.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
    cases = {
        "is the database of the instance 'old'": (source.db, None),
        "holds the records of an instance already": (other.db, "new"),
        "holds other tables": (foreign, "new"),
        "holds something already": ("sqlite:///new.sqlite", "taken"),
        "give a place of its own": ("sqlite:///new.sqlite", "mydata/inside"),
        "is no SQLAlchemy URL|kept in SQLite or PostgreSQL": ("mysql://a/b", "new"),
    }
    before = tree(".")
    for message, (db, storage) in cases.items():
        with pytest.raises(SetupError, match=message):
            move(db, storage)
    assert tree(".") == before
    with pytest.raises(SetupError, match="another instance is named 'other'"):
        move("sqlite:///new.sqlite", "new", "other")


def test_a_source_that_is_being_told_of_things_is_refused(
    source: config.InstanceConfig, warm: WarmProcess
) -> None:
    living = warm.fork(tell_and_stop)
    living.wait_until_stopped()
    with pytest.raises(SetupError, match="1 event of other processes wait to be"):
        move("sqlite:///new.sqlite", "new")
    living.kill()
    # what a dead one has left is recorded, and goes along
    ln.setup.load("old")
    moved = move("sqlite:///new.sqlite", "new")
    ln.setup.load(moved.config.name)
    assert ln.select(ln.Run, engine="told").count() == 1


def tell_and_stop() -> None:
    here = config.find_config()
    file = spool.SpoolFile(here)
    file.append(RunStarted(run=run_id("told", "1"), engine="told"))
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_source_that_changes_meanwhile_is_copied_once_more(
    source: config.InstanceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, changes = objects.copy, iter(("two more", None))

    def meanwhile(*arguments: Any) -> None:
        copy(*arguments)
        if content := next(changes):
            ln.add(ln.File(written("data.txt", content), key="tables/data.txt"))

    monkeypatch.setattr(objects, "copy", meanwhile)
    moved = move("sqlite:///new.sqlite", "new")
    assert contents(moved.config) == contents(source)
    ln.setup.load(moved.config.name)
    assert "two more" in {each.decode() for each in bytes_of_all().values()}
    assert not list(examine(hashes=True))


def test_a_source_that_never_rests_is_refused(
    source: config.InstanceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = objects.copy

    def meanwhile(*arguments: Any) -> None:
        copy(*arguments)
        ln.add(ln.Transform("another"))

    monkeypatch.setattr(objects, "copy", meanwhile)
    with pytest.raises(SetupError, match="is being written to"):
        move("sqlite:///new.sqlite", "new")


# --- killed, interrupted, run again -------------------------------------------------------------


def in_steps(kill_at: int) -> None:
    """Migrate in small steps, and die right before the nth of them."""
    rows.CHUNK, objects.CHUNK = 2, 1
    left = kill_at

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **named)

        return call

    Database.begin = counted(Database.begin)  # type: ignore[method-assign]
    for name in ("create_root", "write_marker", "_write_local", "_write_remote"):
        setattr(Store, name, counted(getattr(Store, name)))
    config.instances._write_text = counted(config.instances._write_text)
    moved = move(os.environ["TO_DB"], os.environ["TO_STORAGE"], "new")
    print(moved.objects if not moved.was_there else "all there")


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.full)])
def test_killed_at_any_step_it_goes_on_when_run_again(
    source: config.InstanceConfig, warm: WarmProcess, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    before, held, old = contents(source), bytes_of_all(), tree("mydata")
    outcomes = set()
    for step in range(1, 200, stride):
        monkeypatch.setenv("TO_DB", f"sqlite:///new{step}.sqlite")
        monkeypatch.setenv("TO_STORAGE", f"new{step}")
        died = warm.fork(in_steps, step)
        if died.wait() == 0:
            break
        assert died.wait() == -signal.SIGKILL, died.output.read_text()
        outcomes.add(warm.fork(in_steps, -1).join().strip())
        made = ln.setup.load(f"./new{step}")
        assert contents(made) == before
        assert bytes_of_all() == held
        assert not list(examine(hashes=True))
        ln.setup.load("old")
        config.forget_config(made)
        shutil.rmtree(f"new{step}")
    assert step > 30
    assert outcomes == {"4", "all there"} if stride == 1 else "4" in outcomes
    assert (contents(source), tree("mydata")) == (before, old)


@pytest.mark.full
def test_killed_on_its_way_to_postgresql_and_s3_it_goes_on(
    source: config.InstanceConfig,
    warm: WarmProcess,
    postgres: Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = contents(source)
    db = postgres.database()
    monkeypatch.setenv("TO_DB", db)
    monkeypatch.setenv("TO_STORAGE", f"{bucket}/lab")
    for step in (3, 8, 20, 3, 4):
        assert warm.fork(in_steps, step).wait() == -signal.SIGKILL
    with pytest.raises(DatabaseUnfinishedError, match="run it again in the old instance"):
        ln.setup.init(f"{bucket}/lab", db=db)
    with (
        database_of(config.config_from_storage("x", db)) as database,
        pytest.raises(DatabaseUnfinishedError, match="run it again in the old instance"),
    ):
        migrate.upgrade(database)
    ln.setup.load("old")
    with pytest.raises(SetupError, match="unfinished migration of another instance"):
        move(db, f"{bucket}/other")
    assert warm.fork(in_steps, -1).join().strip() == "4"
    assert warm.fork(in_steps, -1).join().strip() == "all there"
    made = ln.setup.load("new")
    assert contents(made) == before
    assert not list(examine(hashes=True))


def test_half_an_object_that_a_killed_one_has_left_is_written_anew(
    source: config.InstanceConfig, warm: WarmProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_THREADS", 1)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "write", refuse)
        with pytest.raises(StorageError, match="no space"):
            move("sqlite:///new.sqlite", "new")
    assert not (config.config_dir() / "instances" / "new.toml").exists()
    for half in ("new/tables/data.txt", "new/folder/a.txt"):
        written(half, "ha")
    move("sqlite:///new.sqlite", "new")
    assert Path("new/tables/data.txt").read_text() == "two"
    assert Path("new/folder/a.txt").read_text() == "a.txt"
    ln.setup.load("./new")
    assert not list(examine(hashes=True))


def refuse(*arguments: Any) -> None:
    raise StorageError("no space")


def test_two_at_once_are_one(source: config.InstanceConfig, warm: WarmProcess) -> None:
    first = warm.fork(migrate_and_stop)
    first.wait_until_stopped()
    with pytest.raises(SetupError, match=f"process {first.pid} is doing this migration"):
        move("sqlite:///new.sqlite", "new")
    first.resume()
    assert first.join().strip() == "4"


def migrate_and_stop() -> None:
    copy = objects.copy

    def stop(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        copy(*arguments)

    objects.copy = stop
    print(move("sqlite:///new.sqlite", "new").objects)
