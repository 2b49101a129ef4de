"""Several computers write into one PostgreSQL at once: exact counts, and no trouble for anybody.

A host is told from another by its name alone, so processes with names of their own stand for some.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select

import lamindb as ln
from forking import WarmProcess
from lamindb import config, instance, recorder, spool
from lamindb.db import schema
from lamindb.doctor import examine
from lamindb.hooks import (
    FileRead,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunStarted,
    emit,
    environment,
    run_id,
)
from postgres import Server

HOSTS, WRITERS, FILES = 4, 2, 10
WORKFLOW = run_id("test", "workflow")
STEP = InferredTransform("step", "lab/step", "pipeline", source_hash="1")


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    process = WarmProcess("psycopg", "s3fs", "test_hosts")
    yield process
    process.close()


def work(name: str, runs: int) -> None:
    """Half of the runs are plain code that adds its files, the others an engine's."""
    Path(name).mkdir()
    Path(name, "raw.txt").write_text("raw")
    for number in range(runs):
        folder = Path(name, str(number)).resolve()
        folder.mkdir()
        paths = [folder / f"{file}.txt" for file in range(FILES)]
        for path in paths:
            path.write_text(f"{name} {number} {path.name}")
        (by_code if number % 2 else by_engine)(name, number, paths)
    recorder.close(120)


def by_code(name: str, number: int, paths: list[Path]) -> None:
    ln.track(transform=ln.Transform("what all run", type="pipeline"), params={"n": number})
    ln.add([ln.File(path, key=f"{name}/{number}/{path.name}") for path in paths])
    ln.finish()


def by_engine(name: str, number: int, paths: list[Path]) -> None:
    run = run_id("test", f"{name}/{number}")
    emit(RunStarted(run=WORKFLOW, engine="test", transform=STEP))
    emit(
        RunStarted(
            run=run, engine="test", transform=STEP, parent=WORKFLOW, environment=environment(),
            host=config.host(), pid=os.getpid(), user=f"user of {config.host()}",
        )
    )  # fmt: skip
    raw = Path("raw.txt").resolve()
    emit(FileRead(run=run, uri=str(raw), stat=FileStat.of(raw), how="declared"))
    for path in paths:
        emit(FileWritten(run=run, uri=str(path), stat=FileStat.of(path), how="declared"))
    emit(RunFinished(run=run, status="completed"))


@pytest.mark.parametrize(
    ("runs", "is_remote"),
    [
        pytest.param(5, False, id="few"),
        pytest.param(250, True, id="many", marks=[pytest.mark.full, pytest.mark.timeout(1500)]),
    ],
)
def test_two_processes_on_each_of_four_hosts_write_all_of_it_once(
    runs: int,
    is_remote: bool,
    postgres: Server,
    warm: WarmProcess,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    storage = request.getfixturevalue("bucket") if is_remote else "./mydata"
    db = postgres.database()
    ln.setup.init(storage, name="lab", db=db)
    Path("raw.txt").write_text("raw")
    writers = []
    for host in range(HOSTS):
        monkeypatch.setenv("LAMINDB_HOST", f"host{host}")
        monkeypatch.setenv("LAMINDB_USER", f"user of host{host}")
        # a host has a disk of its own for what waits
        monkeypatch.setenv("LAMINDB_STATE_DIR", str(Path.cwd().parent / f"state{host}"))
        writers += [warm.fork(work, f"h{host}w{each}", runs) for each in range(WRITERS)]
    assert [writer.join() for writer in writers] == [""] * len(writers)

    for host in range(HOSTS):
        monkeypatch.setenv("LAMINDB_STATE_DIR", str(Path.cwd().parent / f"state{host}"))
        assert not spool.waiting(config.config_named("lab"))
    ln.setup.load("lab")
    all_runs, by_engines = runs * len(writers), (runs + 1) // 2 * len(writers)
    assert count(schema.run) == all_runs + 1
    assert count(schema.file, "output") == all_runs * FILES
    # what all have read is one file a host, which may have another under that path
    assert count(schema.run_file) == all_runs * FILES + by_engines
    assert count(schema.transform) == 2
    assert {run.status for run in ln.select(ln.Run).all() if run.id != WORKFLOW} == {"completed"}
    users = Counter(run.created_by.handle for run in ln.select(ln.Run).all() if run.id != WORKFLOW)
    assert users == {f"user of host{host}": runs * WRITERS for host in range(HOSTS)}
    keys = [file.key for file in ln.select(ln.File, storage_id=managed()).all()]
    assert len(keys) == len(set(keys)) == (all_runs - by_engines) * FILES
    assert deadlocks(db) == 0
    assert not list(examine(hashes=not is_remote))


def managed() -> str:
    return instance.current().default_storage_id


def count(table: object, role: str | None = None) -> int:
    query = select(func.count()).select_from(table)  # type: ignore[arg-type]
    if role is not None:
        links = schema.run_file
        query = select(func.count(func.distinct(links.c.file_id))).where(links.c.role == role)
    with instance.current().database.read() as connection:
        return int(connection.execute(query).scalar_one())


def deadlocks(db: str) -> int:
    with psycopg.connect(db.replace("+psycopg", ""), autocommit=True) as connection:
        time.sleep(1.1)  # a session tells of it at its end, or a second later
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])
