"""What only a database server can do to us: be away, be restarted, be full, undo what we did."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.exc import IntegrityError

import lamindb as ln
from forking import WarmProcess
from lamindb import config, instance, recorder, recording, spool
from lamindb.cli import main
from lamindb.db import migrate, schema
from lamindb.db.database import Database, serialise
from lamindb.doctor import examine
from lamindb.errors import (
    DatabaseOutdatedError,
    DatabaseTooNewError,
    DatabaseUnreachableError,
)
from lamindb.hooks import (
    FileRetracted,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunStarted,
    emit,
    run_id,
)
from lamindb.recording.state import FileState
from postgres import Server
from test_schema import write_second_migration

LAMIN = [sys.executable, "-m", "lamindb"]


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    process = WarmProcess("psycopg", "test_postgres")
    yield process
    process.close()


@pytest.fixture
def db(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
def lab(db: str) -> config.InstanceConfig:
    return ln.setup.init("./mydata", name="lab", db=db)


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


# --- set-up -------------------------------------------------------------------------------------


def init(db: str, number: int) -> None:
    ln.setup.init("./data", name="lab", db=db)
    ln.add(ln.Transform(f"by {number}"))


def test_any_number_may_init_in_one_new_database_at_once(db: str, warm: WarmProcess) -> None:
    workers = [warm.fork(init, db, number) for number in range(8)]
    for worker in workers:
        worker.join()
    ln.setup.load("lab")
    assert ln.select(ln.Transform).count() == 8
    assert ln.select(ln.Storage).count() == 1
    assert ln.select(ln.User).count() == 1


def test_what_is_wrong_with_a_url_is_said(db: str, postgres: Server) -> None:
    gone = postgres.url("nowhere")
    with pytest.raises(DatabaseUnreachableError, match='database "nowhere" does not exist'):
        ln.setup.init("./a", db=gone)
    with pytest.raises(DatabaseUnreachableError, match='role "nobody" does not exist'):
        ln.setup.init("./a", db=db.replace("postgres@", "nobody@"))
    with pytest.raises(DatabaseUnreachableError, match="does not answer"):
        ln.setup.init("./a", db="postgresql://postgres@/x?host=/tmp/no-such-folder")
    with pytest.raises(DatabaseUnreachableError, match="does not answer"):
        ln.setup.init("./a", db="postgresql://postgres@127.0.0.1:9/x")


def upgrade(number: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        write_second_migration(Path(f"version{number}").resolve(), monkeypatch)
        done = CliRunner().invoke(main, ["db", "upgrade"])
        assert (done.exit_code, done.output) == (0, "upgraded from revision 0001 to 0002\n")


def test_only_db_upgrade_upgrades_a_shared_database_and_many_at_once_do_it_once(
    lab: config.InstanceConfig, warm: WarmProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.reset()
    with monkeypatch.context() as newer:
        newer.setattr(migrate, "HEAD", "0002")
        with pytest.raises(DatabaseOutdatedError, match="run 'lamin db upgrade'"):
            ln.setup.load("lab")
        seen = CliRunner().invoke(main, ["files"])
        assert seen.exit_code == 1 and "run 'lamin db upgrade'" in seen.output
    with psycopg.connect(plain(lab.db)) as connection:
        # somebody is in the middle of it
        connection.execute('ALTER TABLE "user" ADD COLUMN other INTEGER')
        upgrades = [warm.fork(upgrade, number) for number in range(3)]
        time.sleep(0.5)
    for each in upgrades:
        each.join()
    with pytest.raises(DatabaseTooNewError, match="upgrade the package"):
        ln.setup.load("lab")
    monkeypatch.setattr(migrate, "HEAD", "0002")
    ln.setup.load("lab")
    assert ln.select(ln.User).count() == 1


def test_a_newer_shared_database_is_refused_with_a_clear_word(lab: config.InstanceConfig) -> None:
    with instance.current().database.begin() as connection:
        migrate.set_revision(connection, "9999")
    instance.reset()
    with pytest.raises(DatabaseTooNewError, match=r"at revision 9999.*upgrade the package"):
        ln.setup.load("lab")
    done = subprocess.run([*LAMIN, "db", "upgrade"], capture_output=True, text=True)
    assert done.returncode == 1 and "upgrade the package" in done.stderr


# --- what it does not take ----------------------------------------------------------------------


def test_what_postgresql_cannot_hold_is_recorded_without_it(
    lab: config.InstanceConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_id("test", "1")
    transform = InferredTransform("a\0b", "lab/a\0b", "pipeline", source_hash="1")
    odd = {"nan": float("nan"), "inf": [float("-inf")], "nul": "a\0b", "n\0l": 1}
    emit(RunStarted(run=run, engine="test", transform=transform, params=odd, details=odd))
    emit(RunFinished(run=run, status="failed", error="a\0b", result="r\0"))
    found = ln.select(ln.Run, id=run).one()
    assert (found.status, found.error, found.transform.name) == ("failed", "ab", "ab")
    assert found.params == {"nan": "nan", "inf": ["-inf"], "nul": "ab", "nl": 1}
    tracked = ln.track(transform=ln.Transform("t\0", type="pipeline"), params={"a": "\0"})
    ln.finish()
    assert ln.select(ln.Run, id=tracked.id).one().params == {"a": ""}
    assert caplog.records == []


# --- others at once -----------------------------------------------------------------------------


def test_a_transaction_that_the_server_undoes_is_done_again(
    lab: config.InstanceConfig, caplog: pytest.LogCaptureFixture
) -> None:
    here = instance.current()
    run = run_id("test", "a")
    recording.record_runs(here, [RunStarted(run=run, engine="test")])
    code = InferredTransform("fit", "lab/fit", "function", source_hash="1")
    start = RunStarted(run=run, engine="test", transform=code)
    with here.database.begin() as other:
        serialise(other, "transform lab/fit")
        thread = threading.Thread(target=recording.record_runs, args=(here, [start]))
        thread.start()
        # it has the run and waits for the transform; now we wait for the run
        with psycopg.connect(plain(lab.db), autocommit=True) as watcher:
            while not watcher.execute(
                "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database "
                "WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
            ).fetchone():
                time.sleep(0.01)
        other.execute(text("UPDATE run SET name = 'x'"))
    thread.join()
    assert ln.select(ln.Run).one().name == "fit"
    instance.reset()
    deadline = time.monotonic() + 20
    while not deadlocks(lab) and time.monotonic() < deadline:
        time.sleep(0.1)  # a session tells of it at its end
    assert deadlocks(lab) == 1
    assert caplog.records == []


def deadlocks(lab: config.InstanceConfig) -> int:
    with psycopg.connect(plain(lab.db), autocommit=True) as connection:
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_what_is_done_again_is_not_spoken_of(
    lab: config.InstanceConfig, caplog: pytest.LogCaptureFixture
) -> None:
    here = instance.current()
    recording.record_runs(here, [RunStarted(run="r1", engine="test")])
    change = update(schema.run).where(schema.run.c.id == "r1")
    change = change.values(created_by_id=bindparam("by"))
    # what the first is refused for is known while the last are on their way
    with pytest.raises(IntegrityError), here.begin() as connection:
        connection.execute(change, [{"by": "nobody"}] * 3000)
    assert caplog.text == ""


def test_a_lock_that_somebody_keeps_is_waited_for_no_longer_than_was_said(
    lab: config.InstanceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("a.txt")
    file.write_text("a")
    ln.add(ln.Transform("known"))
    monkeypatch.setattr(config.settings, "busy_timeout_s", 0.2)
    with psycopg.connect(plain(lab.db)) as other:
        other.execute('LOCK TABLE "transform"')
        with pytest.raises(DatabaseUnreachableError, match="stayed locked by another process"):
            ln.add(ln.Transform("new"))
    assert ln.add(ln.Transform("new")).name == "new"


def test_an_output_taken_back_while_its_run_ends_leaves_what_the_end_says(
    lab: config.InstanceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, run, output = instance.current(), run_id("test", "1"), Path("out.txt").resolve()
    output.touch()
    recording.record_files(here, [FileWritten(run=run, uri=str(output))])
    end = RunFinished(run=run, status="completed", details={"test": {"exit": 0}})
    ending = threading.Thread(target=recording.record_runs, args=(here, [end]))

    def update_once_it_ends(table: Any) -> Any:
        if table is schema.run and ending.ident is None:
            ending.start()
            ending.join(1.0)  # or it waits for us
        return update(table)

    monkeypatch.setattr("lamindb.recording.files.update", update_once_it_ends)
    back = FileRetracted(run=run, uri=str(output), reason="undone")
    recording.record_files(here, [back])
    ending.join()
    assert (ln.select(ln.Run).one().details or {}).keys() == {"test", "lamindb"}


def test_a_run_is_not_deleted_while_its_files_are_recorded(
    lab: config.InstanceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, run, output = instance.current(), run_id("test", "1"), Path("out.txt").resolve()
    output.touch()
    recording.record_runs(here, [RunStarted(run=run, engine="test")])

    def delete_it() -> None:
        with psycopg.connect(plain(lab.db)) as other, suppress(psycopg.errors.ForeignKeyViolation):
            other.execute("DELETE FROM run WHERE id = %s", [run])

    deleting = threading.Thread(target=delete_it)

    def state_once_it_is_deleted(*given: Any) -> FileState:
        deleting.start()
        deleting.join(1.0)  # or it waits for us
        return FileState(*given)

    monkeypatch.setattr("lamindb.recording.files.FileState", state_once_it_is_deleted)
    recording.record_files(here, [FileWritten(run=run, uri=str(output))])
    deleting.join()
    assert ln.select(ln.File, key="out.txt").one().run.id == run


def test_a_reader_sees_one_state_whatever_others_write_meanwhile(
    lab: config.InstanceConfig,
) -> None:
    transform = ln.add(ln.Transform("one"))
    database, names = instance.current().database, select(schema.transform.c.name)
    with database.read() as connection:
        assert connection.execute(names).scalars().all() == ["one"]
        ln.add(ln.Transform("other"))
        ln.delete(transform)
        assert connection.execute(names).scalars().all() == ["one"]
    with database.read() as connection:
        assert connection.execute(names).scalars().all() == ["other"]
    with database.begin() as connection:
        level = connection.execute(text("SHOW transaction_isolation")).scalar()
    assert level == "read committed"


def test_a_full_server_is_waited_for(own_postgres: Server) -> None:
    ln.setup.init("./mydata", name="full", db=own_postgres.url())
    instance.reset()
    with psycopg.connect(plain(own_postgres.url()), autocommit=True) as connection:
        # of superusers, these are
        connection.execute("CREATE ROLE somebody LOGIN")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO somebody")
        connection.execute("ALTER ROLE somebody CONNECTION LIMIT 1")
    url = own_postgres.url().replace("postgres@", "somebody@")
    held = psycopg.connect(plain(url))
    threading.Timer(1.0, held.close).start()
    database = Database(config.config_from_storage("./mydata", url, "full"))
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    database.dispose()


def test_who_may_only_read_is_told_about_the_instance(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init("./mydata", name="shared", db=own_postgres.url())
    instance.reset()
    with psycopg.connect(plain(own_postgres.url()), autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    url = own_postgres.url().replace("postgres@", "reader@")
    instance.use(config.config_from_storage("./mydata", url, "shared"))
    monkeypatch.setenv("LAMINDB_USER", "reader")
    found = ln.setup.info()
    assert (found.user, found.counts["user"]) == ("reader", 1)


def test_more_threads_than_connections_are_kept_all_read(lab: config.InstanceConfig) -> None:
    database = instance.current().database
    together = threading.Barrier(30)
    found: list[Any] = []

    def read() -> None:
        with database.read() as outer:
            together.wait()
            with database.read() as inner:
                found.append((outer.execute(text("SELECT 1")).scalar(), inner is outer))

    threads = [threading.Thread(target=read) for _ in range(30)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [(1, False)] * 30


# --- forks --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_has_connections_of_its_own(lab: config.InstanceConfig) -> None:
    def backend() -> int:
        with instance.current().database.read() as connection:
            return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    ours = backend()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def child(number: int) -> None:
        answers.put(backend())
        ln.add(ln.Transform(f"by {number}"))

    with instance.current().database.begin() as connection:
        ln_rows = connection.execute(text("SELECT count(*) FROM transform")).scalar()
        children = [context.Process(target=child, args=(number,)) for number in range(4)]
        for each in children:
            each.start()
        for each in children:
            each.join(30)
        assert [each.exitcode for each in children] == [0] * 4
        # the children's ends have not closed what the parent is in the middle of
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == ours
        assert ln_rows == 0
    theirs = {answers.get() for _ in range(4)}
    assert len(theirs) == 4 and ours not in theirs
    assert ln.select(ln.Transform).count() == 4


# --- restarted, stopped, gone -------------------------------------------------------------------

RESTARTED = """
import sys, time
from pathlib import Path
import lamindb as ln

run = ln.track(params={"n": 1})
Path("first.csv").write_text("1")
print("restart", flush=True)
input()
Path("second.csv").write_text("2")
print(ln.context.run.id == run.id)
"""


@pytest.mark.observing
@pytest.mark.full
@pytest.mark.parametrize("is_back", [True, False], ids=["restarted", "stopped"])
def test_a_server_restarted_or_stopped_in_a_script_loses_nothing(
    own_postgres: Server, is_back: bool
) -> None:
    ln.setup.init("./mydata", name="lab", db=own_postgres.url())
    instance.reset()
    Path("script.py").write_text(RESTARTED)
    script = subprocess.Popen(
        [sys.executable, "script.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "LAMINDB_OBSERVE": "1"},
    )  # fmt: skip
    assert script.stdin is not None and script.stdout is not None
    assert script.stdout.readline() == "restart\n"
    own_postgres.stop("immediate")
    if is_back:
        own_postgres.start()
    out, err = script.communicate("\n")
    assert (script.returncode, out) == (0, "True\n"), err
    if not is_back:
        assert len(err.splitlines()) == 1 and "recorded when the instance" in err, err
        own_postgres.start()
    ln.setup.load("lab")
    run = ln.select(ln.Run).one()
    assert run.status == "completed"
    assert {file.key for file in run.outputs} == {"first.csv", "second.csv"}
    assert None not in {file.hash for file in run.outputs}
    assert not spool.waiting(config.configuration())
    instance.reset()


def test_events_told_while_a_server_is_away_are_recorded_when_it_is_back(
    own_postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    ln.setup.init("./mydata", name="lab", db=own_postgres.url())
    runs = [run_id("test", str(number)) for number in range(40)]
    for number, run in enumerate(runs):
        if number == 10:
            assert recorder.flush()
            own_postgres.stop("immediate")
        if number == 30:
            own_postgres.start()
        emit(RunStarted(run=run, engine="test"))
        path = Path(f"{number}.txt")
        path.write_text(str(number))
        emit(FileWritten(run=run, uri=str(path.resolve()), stat=FileStat.of(path)))
        emit(RunFinished(run=run, status="completed"))
    deadline = time.monotonic() + 40
    while not recorder.flush(1) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ln.select(ln.Run, status="completed").count() == 40
    assert ln.select(ln.File).count() == 40
    assert not list(examine())
    instance.reset()


def test_sessions_that_the_server_ends_are_made_anew(
    lab: config.InstanceConfig,
) -> None:
    ln.track(transform=ln.Transform("long", type="pipeline"))
    with psycopg.connect(plain(lab.db), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
            "datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert ln.select(ln.Run).one().status == "started"
    ln.finish()
    assert ln.select(ln.Run).one().status == "completed"


def test_what_fits_into_no_field_holds_up_no_other_event(
    lab: config.InstanceConfig, caplog: pytest.LogCaptureFixture
) -> None:
    emit(RunStarted(run="good1", engine="test"))
    emit(RunStarted(run="bad", engine="an engine with a long name" * 10))
    emit(RunStarted(run="good2", engine="test"))
    assert {run.id for run in ln.select(ln.Run, engine="test").all()} == {"good1", "good2"}
    assert "RunStarted of bad was not recorded: RecordError: a value does not fit" in caplog.text
