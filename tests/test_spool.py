"""Events outlive their process, and wait on disk while the database is out of reach."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import text

import lamindb as ln
from lamindb import config, instance, lanes, recorder, recording, spool
from lamindb.doctor import examine
from lamindb.hooks import (
    Event,
    FileWritten,
    RunFinished,
    RunStarted,
    emit,
    hookimpl,
    plugins,
    run_id,
)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

TELL = """
import os, signal, sys, time
from lamindb.hooks import *
run = run_id("test", sys.argv[1])
emit(RunStarted(run=run, engine="test", name=sys.argv[1], pid=os.getpid()))
path = os.path.abspath(sys.argv[1] + ".csv")
open(path, "w").write(sys.argv[1])
emit(FileWritten(run=run, uri=path, stat=FileStat.of(path)))
emit(RunFinished(run=run, status="completed"))
"""


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[Path]:
    ln.setup.init(storage="mydata")
    yield Path("mydata/.lamindb/lamindb.sqlite").resolve()
    recorder.close(5)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]


def told(name: str = "one") -> tuple[str | None, list[str | None]]:
    """Return the status of a run that TELL told of, and what it wrote."""
    found = ln.select(ln.Run, id=run_id("test", name)).one_or_none()
    return (None, []) if found is None else (found.status, [file.key for file in found.outputs])


def waiting() -> int:
    return sum(spool.waiting(config.configuration()).values())


COMPLETE = ("completed", ["one.csv"])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os._exit(3)", 3),
        ("sys.exit(3)", 3),
        ("raise RuntimeError", 1),
        ("", 0),
    ],
    ids=["SIGKILL", "SIGTERM", "_exit", "exit", "exception", "end"],
)
def test_a_process_that_ends_loses_nothing(end: str, code: int) -> None:
    done = subprocess.run(python(TELL + end, "one"), stderr=subprocess.DEVNULL)
    assert done.returncode == code
    ln.setup.load("mydata")
    assert told() == COMPLETE
    assert waiting() == 0


def test_what_the_last_line_was_cut_off_in_is_not_lost_with_it() -> None:
    subprocess.run(python(TELL + "os.kill(os.getpid(), signal.SIGKILL)", "one"), check=False)
    [path] = spool.waiting(config.configuration())
    with path.open("ab") as stream:
        stream.write(b'no event\n{"event":"RunTeleported","run":"x"}\n{"event":"RunFini')
    ln.setup.load("mydata")
    assert told() == COMPLETE
    assert not path.exists()


KEEP = """
import time
from lamindb import config, spool
from lamindb.hooks import RunStarted, RunFinished, run_id
file, run = spool.SpoolFile(config.configuration()), run_id("test", "one")
file.append(RunStarted(run=run, engine="test"))
file.append(RunFinished(run=run, status="completed"))
print("kept", flush=True)
time.sleep(60)
"""


def test_events_of_a_process_that_lives_are_left_to_it() -> None:
    with subprocess.Popen(python(KEEP), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"kept\n"
        ln.setup.load("mydata")
        assert told() == (None, [])
        assert (waiting(), list(examine())) == (2, [])
        process.kill()
    assert [finding.problem for finding in examine()] == ["events-waiting"]
    assert [finding.mended for finding in examine(fix=True)] == [True]
    assert told() == ("completed", [])


def test_the_spool_of_another_host_is_taken_over_when_it_was_silent_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAMINDB_HOST", "elsewhere")
    subprocess.run(python(TELL + "os.kill(os.getpid(), signal.SIGKILL)", "one"), check=False)
    monkeypatch.delenv("LAMINDB_HOST")
    [path] = spool.waiting(config.configuration())
    assert spool.abandoned(config.configuration()) == []
    long_ago = time.time() - spool.SILENT_S - 60
    os.utime(path, (long_ago, long_ago))
    ln.setup.load("mydata")
    assert told()[0] == "completed"


def killed(name: str = "one", **environment: str | bytes) -> Path:
    """Tell of a run in a process that is killed at once; returns the file that it leaves."""
    subprocess.run(
        python(TELL + "os.kill(os.getpid(), signal.SIGKILL)", name),
        env=os.environb | {os.fsencode(k): os.fsencode(v) for k, v in environment.items()},
        check=False,
    )
    [path] = spool.waiting(config.configuration())
    return path


def test_the_spool_of_a_killed_container_is_taken_over_when_it_was_silent_for_long() -> None:
    path = killed()
    # a container of the same host name, whose processes cannot be seen from here
    header, *events = path.read_text().splitlines(keepends=True)
    said = json.loads(header)
    said["owner"]["namespace"] = "pid:[1]"
    path.write_text("".join([json.dumps(said) + "\n", *events]))
    assert spool.abandoned(config.configuration()) == []
    long_ago = time.time() - spool.SILENT_S - 60
    os.utime(path, (long_ago, long_ago))
    ln.setup.load("mydata")
    assert told() == COMPLETE


def test_a_process_that_was_wrongly_taken_for_dead_goes_on_in_a_new_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = spool.SpoolFile(config.configuration())
    file.append(RunStarted(run="r1", engine="test"))
    file.path.unlink()  # another host has recorded it, and removes it
    half_an_hour_later = time.time() + spool.SILENT_S
    monkeypatch.setattr(spool.time, "time", lambda: half_an_hour_later)
    file.append(RunFinished(run="r1", status="completed"))
    assert [type(event).__name__ for event in spool.read(file.path)] == ["RunFinished"]
    file.clear(lambda: True)
    file.close()
    assert not file.path.exists()


def test_events_are_recorded_in_the_name_of_who_told_them(monkeypatch: pytest.MonkeyPatch) -> None:
    killed(LAMINDB_USER="bob")
    monkeypatch.setenv("LAMINDB_USER", "carl")
    ln.setup.load("mydata")
    assert told() == COMPLETE
    run = ln.select(ln.Run).one()
    assert {each.created_by.handle for each in (run, *run.outputs)} == {"bob"}
    emit(RunStarted(run="r2", engine="test"))
    assert ln.select(ln.Run, id="r2").one().created_by.handle == "carl"


def test_a_user_whose_name_is_no_unicode_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    killed()
    monkeypatch.setenv("LAMINDB_USER", os.fsdecode(b"J\xf6rg"))
    ln.setup.load("mydata")
    assert told() == COMPLETE
    ln.track(ln.Transform("mine"))
    assert ln.context.run is not None
    assert ln.context.run.created_by.handle == "J?rg"


def test_events_that_are_refused_are_kept_and_doctor_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = killed()
    record = recording.record_runs

    def refuse(here: instance.Instance, events: Sequence[Event]) -> None:
        # whatever a later version of the tables may not take
        if any(isinstance(event, RunFinished) for event in events):
            raise ValueError("no such end")
        record(here, events)

    monkeypatch.setattr(recording, "record_runs", refuse)
    ln.setup.load("mydata")
    assert told() == ("started", ["one.csv"])
    [finding] = examine()
    assert (finding.problem, finding.mended) == ("events-refused", False)
    kept = Path(finding.subject)
    assert (kept.stem, path.exists()) == (path.stem, False)
    assert len(list(spool.read(kept))) == 3
    assert f"1 events were refused: they are kept in {kept}" in caplog.text


def test_two_processes_that_take_over_at_once_record_everything_once() -> None:
    for number in range(4):
        subprocess.run(
            python(TELL + "os.kill(os.getpid(), signal.SIGKILL)", f"n{number}"), check=False
        )
    look = "import lamindb as ln; print(ln.select(ln.File).count())"
    processes = [
        subprocess.Popen(python(look), stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        assert process.communicate()[0]
        assert process.returncode == 0
    assert {told(f"n{number}")[0] for number in range(4)} == {"completed"}
    assert ln.select(ln.File, all_versions=True).count() == 4


# --- forks, spawns, threads -----------------------------------------------------------------------


def refuse_to_start(thread: threading.Thread) -> None:
    """As the interpreter that ends does, from Python 3.12 on."""
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_an_observer_may_read_the_records_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Observer:
        @hookimpl
        def ln_event_recorded(self, event: Event) -> None:
            seen.append((type(event).__name__, ln.select(ln.Run).count()))

    seen: list[tuple[str, int]] = []
    observer = Observer()
    plugins().register(observer)
    try:
        monkeypatch.setattr(threading.Thread, "start", refuse_to_start)
        emit(RunStarted(run=run_id("test", "one"), engine="test"))
        emit(RunFinished(run=run_id("test", "one"), status="completed"))
        assert ln.select(ln.Run).one().status == "completed"
    finally:
        plugins().unregister(observer)
    assert seen == [("RunStarted", 1), ("RunFinished", 1)]


def test_of_threads_that_flush_at_once_one_records_what_waits() -> None:
    class Keeper:
        has_disk = False

    recorded: list[Event] = []
    is_recording, may_end = threading.Event(), threading.Event()

    def record(events: Sequence[Event]) -> None:
        is_recording.set()
        assert may_end.wait(30)
        recorded.extend(events)

    lane = lanes.Lane("runs", record, cast(lanes.Keeper, Keeper()))
    event = RunStarted(run=run_id("test", "one"), engine="test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_to_start)
        lane.put(event)
    first, second = (threading.Thread(target=lane.flush, args=[30]) for _ in range(2))
    first.start()
    assert is_recording.wait(30)
    second.start()
    second.join(0.3)  # long enough for it to get as far
    may_end.set()
    first.join()
    second.join()
    assert recorded == [event]
    assert lane.is_idle


def tell_from_child(name: str) -> None:
    run = run_id("test", name)
    emit(RunStarted(run=run, engine="test", name=name))
    Path(f"{name}.csv").write_text(name)
    emit(FileWritten(run=run, uri=str(Path(f"{name}.csv").resolve())))
    emit(RunFinished(run=run, status="completed"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_keep_their_own_events(method: str) -> None:
    tell_from_child("parent")
    context = multiprocessing.get_context(method)
    children = [context.Process(target=tell_from_child, args=(f"c{n}",)) for n in range(3)]
    for child in children:
        child.start()
    tell_from_child("after")
    for child in children:
        child.join()
        assert child.exitcode == 0
    for name in ("parent", "c0", "c1", "c2", "after"):
        assert told(name) == ("completed", [f"{name}.csv"])


def test_a_forked_child_that_just_goes_takes_nothing_along() -> None:
    tell_from_child("parent")
    child = os.fork()
    if child == 0:
        tell_from_child("child")
        os._exit(0)
    os.waitpid(child, 0)
    instance.reset()
    assert told("parent") == ("completed", ["parent.csv"])
    assert told("child") == ("completed", ["child.csv"])


def test_threads_that_tell_at_once_lose_nothing() -> None:
    threads = [
        threading.Thread(target=lambda n=n: [tell_from_child(f"t{n}-{m}") for m in range(20)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ln.select(ln.Run, status="completed").count() == 160
    assert ln.select(ln.File).count() == 160


# --- a database out of reach ----------------------------------------------------------------------

Hinder = Callable[[], Callable[[], None]]


def lock(database: Path) -> Callable[[], None]:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection.close


def take_away(database: Path) -> Callable[[], None]:
    away = database.with_suffix(".away")
    for suffix in ("", "-wal", "-shm"):
        source = Path(f"{database}{suffix}")
        if source.exists():
            source.rename(f"{away}{suffix}")

    def bring_back() -> None:
        for suffix in ("", "-wal", "-shm"):
            if Path(f"{away}{suffix}").exists():
                Path(f"{away}{suffix}").rename(f"{database}{suffix}")

    return bring_back


def damage(database: Path) -> Callable[[], None]:
    content = database.read_bytes()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = database.read_bytes()
    database.write_bytes(b"no database at all" * 1000)
    return lambda: database.write_bytes(content) and None


@pytest.fixture
def end_without(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script to its end while something hinders the database, and take that away again."""

    def run(
        hinder: Callable[[Path], Callable[[], None]], busy_s: float, drain_s: float, code: str
    ) -> subprocess.CompletedProcess[str]:
        instance.reset()
        monkeypatch.setenv("LAMINDB_BUSY_TIMEOUT", str(busy_s))
        monkeypatch.setenv("LAMINDB_DRAIN_TIMEOUT", str(drain_s))
        back_to_normal = hinder(database)
        done = subprocess.run(python(TELL + code, "one"), capture_output=True, text=True)
        back_to_normal()
        return done

    return run


@pytest.mark.parametrize("hinder", [lock, take_away, damage])
def test_a_script_ends_as_without_us_while_the_database_is_out_of_reach(
    hinder: Callable[[Path], Callable[[], None]],
    end_without: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = end_without(hinder, 0.2, 2, "time.sleep(1.5); print('result'); sys.exit(4)")
    assert (done.returncode, done.stdout) == (4, "result\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "waits on disk" in done.stderr
    assert told() == COMPLETE


def test_a_script_that_does_not_wait_for_the_database_says_which_did_not_take_all(
    database: Path, end_without: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = end_without(lock, 30, 0.3, "print('result'); sys.exit(4)")
    assert (done.returncode, done.stdout) == (4, "result\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"the database {database} did not take all within 0.3 s" in done.stderr
    assert told() == COMPLETE


def test_a_database_that_comes_back_gets_what_has_waited(
    database: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "busy_timeout_s", 0.1)
    tell_from_child("before")
    assert told("before")[0] == "completed"
    bring_back = take_away(database)
    instance.current().database.dispose()
    with caplog.at_level(logging.WARNING, "lamindb"):
        for name in ("one", "two", "three"):
            tell_from_child(name)
            recorder.flush(0.5)
    assert len(caplog.records) == 1, caplog.text
    bring_back()
    while waiting():
        time.sleep(0.05)
    assert told() == COMPLETE


def test_what_a_closed_recorder_left_is_recorded_at_the_next_opening_in_the_same_process(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "drain_timeout_s", 0.5)
    ln.select(ln.Run).count()
    back_to_normal = lock(database)
    tell_from_child("one")
    ln.setup.close()
    back_to_normal()
    ln.setup.load("mydata")
    assert told() == COMPLETE


def test_a_recorder_that_is_closed_while_it_records_touches_no_other_file(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "drain_timeout_s", 0.1)
    recording_now, go_on = threading.Event(), threading.Event()
    record = recording.record_runs

    def wait(here: instance.Instance, events: Sequence[Event]) -> None:
        record(here, events)
        recording_now.set()
        assert go_on.wait(20)

    monkeypatch.setattr(recording, "record_runs", wait)
    emit(RunStarted(run="r1", engine="test"))
    assert recording_now.wait(20)
    [lane] = [each for each in threading.enumerate() if each.name == "lamindb-runs"]
    before = {int(name) for name in os.listdir("/proc/self/fd")}
    ln.setup.close()
    with ExitStack() as stack:
        # one of them gets the number that the closed file had
        others = [stack.enter_context((tmp_path / f"{n}").open("wb")) for n in range(len(before))]
        for other in others:
            other.write(b"x" * 1000)
            other.flush()
        assert {other.fileno() for other in others} & before
        go_on.set()
        lane.join(20)
        assert not lane.is_alive()
        assert {os.fstat(other.fileno()).st_size for other in others} == {1000}


def test_a_closed_recorder_opens_no_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "drain_timeout_s", 0.1)
    begun, go_on = threading.Event(), threading.Event()
    record = recorder.Recorder._record_runs

    def late(self: recorder.Recorder, events: Sequence[Event]) -> None:
        begun.set()
        assert go_on.wait(20)
        record(self, events)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "_record_runs", late)
        emit(RunStarted(run="r1", engine="test"))
        assert begun.wait(20)
        [lane] = [each for each in threading.enumerate() if each.name == "lamindb-runs"]
        ln.setup.close()
        go_on.set()
        lane.join(20)
        assert not instance.is_open()
    assert ln.select(ln.Run).one().id == "r1"


def test_what_is_told_belongs_to_the_instance_in_which_the_telling_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path.cwd()
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    ln.setup.init("./other")
    ln.setup.close()
    monkeypatch.chdir(first)
    monkeypatch.setenv("LAMINDB_CONFIG_DIR", str(tmp_path / "nothing is loaded"))
    emit(RunStarted(run="r1", engine="test"))
    monkeypatch.chdir(tmp_path / "second")
    emit(RunFinished(run="r1", status="completed"))
    assert ln.select(ln.Run).one().status == "completed"
    ln.setup.close()
    assert ln.select(ln.Run).count() == 0
    ln.setup.close()
    monkeypatch.chdir(first)
    assert ln.select(ln.Run).one().status == "completed"


def test_what_does_not_fit_into_memory_is_recorded_from_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "MOST_IN_MEMORY", 5)
    for number in range(20):
        tell_from_child(f"n{number}")
    assert ln.select(ln.Run, status="completed").count() == 20
    assert ln.select(ln.File).count() == 20
    while waiting():
        time.sleep(0.01)


FORK_WHILE_TOLD = """
import os, sys, threading, time
from lamindb import spool
from lamindb.hooks import RunStarted, emit
made, go_on, init = threading.Event(), threading.Event(), spool.SpoolFile.__init__
def slowly(self, configuration):
    made.set(); go_on.wait(20)
    init(self, configuration)
spool.SpoolFile.__init__ = slowly
teller = threading.Thread(target=lambda: emit(RunStarted(run="parent", engine="test")))
teller.start()
made.wait(20)
child = os.fork()
if child == 0:
    spool.SpoolFile.__init__ = init
    emit(RunStarted(run="child", engine="test"))
    os._exit(0)
deadline = time.monotonic() + 20
while os.waitpid(child, os.WNOHANG)[0] == 0:
    if time.monotonic() > deadline:
        os.kill(child, 9); go_on.set(); sys.exit("the child hangs")
    time.sleep(0.05)
go_on.set(); teller.join()
"""


def test_a_child_that_is_forked_while_the_first_event_is_told_tells_its_own() -> None:
    done = subprocess.run(python(FORK_WHILE_TOLD), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ln.setup.load("mydata")
    assert {run.id for run in ln.select(ln.Run).all()} == {"parent", "child"}


def test_a_user_deleted_meanwhile_is_registered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMINDB_USER", "lena")
    ln.setup.load("mydata")
    for act in (
        lambda: emit(RunStarted(run="r1", engine="test")),
        lambda: ln.track(ln.Transform("t")),
    ):
        assert ln.setup.settings.user.handle == "lena"
        with instance.current().database.begin() as connection:
            for table in ("run", "transform"):
                connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text("DELETE FROM user WHERE handle = 'lena'"))
        act()
        assert ln.select(ln.Run).one().created_by.handle == "lena"


def test_without_a_place_for_the_spool_events_are_recorded_from_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAMINDB_SPOOL_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("LAMINDB_STATE_DIR", str(tmp_path / "file"))
    tell_from_child("one")
    assert told() == COMPLETE
    assert "cannot be kept on disk" in caplog.text


def test_a_full_disk_leaves_whole_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    file = spool.SpoolFile(config.configuration())
    file.append(RunFinished(run="r1", status="completed"))
    real = os.write

    def write_half(descriptor: int, line: memoryview) -> int:
        real(descriptor, line[: len(line) // 2])
        raise OSError(28, "No space left on device")

    # a real disk that is full for one write and not for the next cannot be had
    monkeypatch.setattr("os.write", write_half)
    with pytest.raises(OSError, match="No space"):
        file.append(RunFinished(run="r2", status="completed"))
    monkeypatch.undo()
    file.append(RunFinished(run="r3", status="completed"))
    assert [event.run for event in spool.read(file.path)] == ["r1", "r3"]  # type: ignore[attr-defined]
    file.close()
    file.path.unlink()


def test_without_an_instance_one_warning_says_so_and_all_goes_on(tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("LAMINDB")
    } | {"HOME": str(apart), "XDG_CONFIG_HOME": str(apart)}
    done = subprocess.run(
        python(TELL, "one"), cwd=apart, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        line for line in done.stderr.splitlines() if "nothing is recorded: no instance" in line
    ]
    assert len(done.stderr.splitlines()) == 1


def test_one_bad_event_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    emit(RunStarted(run="good1", engine="test"))
    emit(RunStarted(run="bad", engine="test", params={"x": object()}))
    emit(RunStarted(run="good2", engine="test"))
    assert {run.id for run in ln.select(ln.Run).all()} >= {"good1", "good2"}


def test_a_running_run_has_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BEAT_S", 0.05)
    emit(RunStarted(run="r1", engine="test"))
    first = ln.select(ln.Run).one().heartbeat_at
    while ln.select(ln.Run).one().heartbeat_at == first:
        time.sleep(0.02)
    emit(RunFinished(run="r1", status="completed"))
    recorder.flush()
    last = ln.select(ln.Run).one().heartbeat_at
    time.sleep(0.3)
    assert ln.select(ln.Run).one().heartbeat_at == last


def test_a_run_whose_process_died_is_aborted_until_a_late_event_says_how_it_ended() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    start = RunStarted(run="r1", engine="test", pid=dead.pid, host=config.host())
    emit(start)
    assert ln.select(ln.Run).one().status == "started"
    ln.setup.load("mydata")
    assert ln.select(ln.Run).one().status == "aborted"
    emit(RunFinished(run="r1", status="completed"))
    assert ln.select(ln.Run).one().status == "completed"


def test_the_instance_that_was_in_use_gets_the_events_told_before_the_next_is_loaded(
    tmp_path: Path,
) -> None:
    tell_from_child("one")
    ln.setup.init(storage=tmp_path / "other", name="other")
    assert told() == (None, [])
    ln.setup.load("mydata")
    assert told() == COMPLETE


def test_the_spool_of_a_network_database_is_in_the_users_state_folder(tmp_path: Path) -> None:
    there = config.InstanceConfig("shared", "s3://bucket", "postgresql+psycopg://host/db")
    [folder] = spool.folders(there)
    assert folder.is_relative_to(tmp_path / "home/.local/state/lamindb/spool")


def test_what_is_recorded_is_gone_from_the_spool_and_an_empty_spool_from_the_disk() -> None:
    tell_from_child("one")
    assert told() == COMPLETE
    while waiting():
        time.sleep(0.01)
    recorder.close()
    folders = [folder for folder in spool.folders(config.configuration()) if folder.exists()]
    assert [list(folder.iterdir()) for folder in folders] == [[]]
