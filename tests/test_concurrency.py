"""Many processes and threads on one SQLite instance: nobody fails, nothing is lost or doubled."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

import lamindb as ln
from forking import WarmProcess, Worker
from lamindb import instance
from lamindb.db import schema
from lamindb.errors import DatabaseUnreachableError
from lamindb.storage.hashing import hash_bytes
from lamindb.storage.store import INCOMING, Store

# forking with threads is what some of these are about
pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
    pytest.mark.databases("full"),
]

PROCESSES = 16
FILES = 50


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    process = WarmProcess()
    yield process
    process.close()


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    ln.setup.init(storage=tmp_path / "storage")
    return tmp_path / "storage"


def source(name: str, content: str) -> Path:
    path = Path(name)
    path.write_text(content)
    return path


def count(table: str) -> int:
    with instance.current().database.read() as connection:
        rows = select(func.count()).select_from(schema.metadata.tables[table])
        return int(connection.execute(rows).scalar_one())


def contents(**fields: object) -> list[str]:
    """Return what files hold, after comparing each with its record."""
    files = ln.select(ln.File, all_versions=True, **fields).all()
    return [file.stage(is_run_input=False).read_text() for file in files]


def objects(storage: Path) -> list[Path]:
    """The objects, and whatever an operation may have left."""
    own = ("lamindb.sqlite", "instance.toml", "storage_id")
    return [
        path
        for path in storage.rglob("*")
        if path.is_file() and not path.name.startswith(own) and path.parent.name != "spool"
    ]


# --- processes ------------------------------------------------------------------------------------


def track_and_add(number: int) -> None:
    run = ln.track(transform=ln.Transform("what all run", type="pipeline"))
    files = [
        ln.File(source(f"{number} {file}.txt", f"{number} {file}"), key=f"{number}/{file}.txt")
        for file in range(FILES)
    ]
    for file in files[: FILES // 2]:
        ln.add(file)
    ln.add(files[FILES // 2 :])
    assert len(run.outputs) == FILES
    ln.finish()


def test_sixteen_processes_track_one_transform_and_add_fifty_files_each(
    storage: Path, warm: WarmProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LAMINDB_USER", "new to all of them")
    workers = [warm.fork(track_and_add, number) for number in range(PROCESSES)]
    for worker in workers:
        assert worker.join() == ""
    assert count("file") == count("run_file") == PROCESSES * FILES
    assert count("run") == PROCESSES
    assert count("transform") == 1
    assert count("user") == 2  # who made the instance, and who worked in it
    assert count("journal") == count("claim") == 0
    assert {run.status for run in ln.select(ln.Run).all()} == {"completed"}
    assert Counter(file.run_id for file in ln.select(ln.File).all()) == {
        run.id: FILES for run in ln.select(ln.Run).all()
    }
    assert sorted(contents()) == sorted(
        f"{number} {file}" for number in range(PROCESSES) for file in range(FILES)
    )
    assert len(objects(storage)) == PROCESSES * FILES


def add_versions(who: str, versions: int) -> None:
    for version in range(versions):
        ln.add(ln.File(source(f"{who}.txt", f"{who} {version}"), key="shared.txt"))


def test_two_processes_that_fight_over_a_key_keep_all_its_versions(
    storage: Path, warm: WarmProcess
):
    workers = [warm.fork(add_versions, who, 25) for who in ("one", "other")]
    for worker in workers:
        assert worker.join() == ""
    assert sorted(contents(key="shared.txt")) == sorted(
        f"{who} {version}" for who in ("one", "other") for version in range(25)
    )
    assert ln.select(ln.File, key="shared.txt").one().is_latest
    assert len(objects(storage)) == 50
    # each process's own versions came in its order, whatever came between
    files = ln.select(ln.File, all_versions=True).all()
    files.sort(key=lambda file: (file.is_latest, file.updated_at))
    retired = [file.stage(is_run_input=False).read_text() for file in files]
    for who in ("one", "other"):
        own = [content for content in retired if content.startswith(who)]
        assert own == [f"{who} {version}" for version in range(25)]


def add_back_and_forth(turns: int) -> None:
    for turn in range(turns):
        content = "ab"[turn % 2]
        ln.add(ln.File(source(f"{os.getpid()}.txt", content), key="shared.txt"))


def test_processes_that_bring_back_each_others_versions_keep_both(storage: Path, warm: WarmProcess):
    workers = [warm.fork(add_back_and_forth, 12) for _ in range(3)]
    for worker in workers:
        assert worker.join() == ""
    assert sorted(contents(key="shared.txt")) == ["a", "b"]
    assert ln.select(ln.File).count() == 1
    assert len(objects(storage)) == 2


def add_and_delete(who: str, turns: int) -> None:
    for turn in range(turns):
        added = ln.add(ln.File(source(f"{who}.txt", f"{who} {turn}"), key=f"folder/{who}.txt"))
        ln.delete(added, delete_data=True)


def test_a_folder_that_one_process_empties_is_there_for_another(storage: Path, warm: WarmProcess):
    workers = [warm.fork(add_and_delete, who, 25) for who in ("one", "other", "third")]
    for worker in workers:
        assert worker.join() == ""
    assert objects(storage) == []
    assert not (storage / "folder").exists()
    assert count("file") == count("journal") == 0


def add_same_content(names: list[str]) -> None:
    ln.track(transform=ln.Transform("same content"))
    for name in names:
        ln.add(ln.File(source(f"{os.getpid()}.txt", name), name=name))


def test_processes_that_add_the_same_keyless_content_share_one_record(
    storage: Path, warm: WarmProcess
):
    names = [f"{number}.txt" for number in range(20)]
    workers = [warm.fork(add_same_content, names) for _ in range(4)]
    for worker in workers:
        assert worker.join() == ""
    files = ln.select(ln.File).all()
    assert sorted(file.name for file in files) == sorted(names)
    assert sorted(contents()) == sorted(names)
    for run in ln.select(ln.Run).all():
        assert {file.id for file in run.outputs} == {file.id for file in files}
    assert len(objects(storage)) == len(names)


# --- threads --------------------------------------------------------------------------------------


def in_threads(number: int, act: Callable[[int], object]) -> None:
    start = threading.Barrier(number)

    def run(thread: int) -> None:
        start.wait()
        act(thread)

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(run, range(number)))


def test_threads_of_one_process_add_at_once(storage: Path):
    run = ln.track(transform=ln.Transform("threads"))

    def add(thread: int) -> None:
        for number in range(10):
            content = f"{thread} {number}"
            ln.add(ln.File(source(f"{content}.txt", content), key=f"own/{content}.txt"))
            ln.add(ln.File(source(f"{content}.txt", content), key="shared.txt"))

    in_threads(8, add)
    expected = sorted(f"{thread} {number}" for thread in range(8) for number in range(10))
    assert sorted(contents(key="shared.txt")) == expected
    assert ln.select(ln.File, key="shared.txt").count() == 1
    assert ln.select(ln.File).count() == 81
    assert len(run.outputs) == count("file") == 160
    assert len(objects(storage)) == 160


def test_threads_that_open_the_instance_at_once_share_it(storage: Path):
    found = []
    for _ in range(5):
        instance.reset()
        ln.setup.load(storage)
        in_threads(8, lambda _: found.append(instance.current()))
        assert len(set(found[-8:])) == 1


def test_one_that_another_thread_cannot_add_is_no_trouble_to_the_rest(storage: Path):
    errors = []

    def add(thread: int) -> None:
        path = source(f"{thread}.txt", str(thread))
        file = ln.File(path, key=f"{thread}.txt")
        if thread % 2:
            path.write_text("changed meanwhile")
        try:
            ln.add(file)
        except ln.errors.DataChangedError as error:
            errors.append(error)

    in_threads(8, add)
    assert len(errors) == 4
    assert sorted(contents()) == ["0", "2", "4", "6"]


def test_any_number_of_threads_may_read_at_once(storage: Path):
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(instance.current().database.read())


# --- locks ----------------------------------------------------------------------------------------


def add_in_vain() -> None:
    ln.track(transform=ln.Transform("waits", type="pipeline"))
    with closing(locked("BEGIN IMMEDIATE")):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        ln.add(ln.Transform("never added"))


def locked(*statements: str) -> sqlite3.Connection:
    """Another connection to the database, which has a lock of it."""
    connection = sqlite3.connect(
        instance.current().config.database, isolation_level=None, check_same_thread=False
    )
    for statement in statements:
        connection.execute(statement).fetchall()
    return connection


def check_sigterm_ends(worker: Worker) -> None:
    timer = threading.Timer(20, os.kill, (worker.pid, signal.SIGKILL))
    timer.start()
    try:
        assert worker.wait() == -signal.SIGTERM, worker.output.read_text()
    finally:
        timer.cancel()
    instance.reset()
    run = ln.select(ln.Run).one()
    assert (run.status, run.error) == ("cancelled", "SIGTERM")


@pytest.mark.databases("sqlite")
def test_a_process_that_waits_for_a_lock_ends_at_sigterm(storage: Path, warm: WarmProcess):
    check_sigterm_ends(warm.fork(add_in_vain))


@pytest.mark.databases("sqlite")
def test_a_lock_is_waited_for_as_long_as_was_said(storage: Path, monkeypatch: pytest.MonkeyPatch):
    for limit_s in (0.05, 0.6):
        monkeypatch.setattr(ln.settings, "busy_timeout_s", limit_s)
        with closing(locked("BEGIN IMMEDIATE")):
            began = time.monotonic()
            with pytest.raises(DatabaseUnreachableError, match=f"locked .* for {limit_s} s"):
                ln.add(ln.Transform("never added"))
            assert limit_s <= time.monotonic() - began < limit_s + 0.5


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "holding", [["BEGIN EXCLUSIVE"], ["BEGIN", "SELECT * FROM user"]], ids=["writer", "reader"]
)
def test_outside_of_wal_mode_too_every_lock_is_waited_for(storage: Path, holding: list[str]):
    """By SELECT where somebody writes, by COMMIT where somebody reads."""
    instance.current().database.dispose()
    with closing(locked("PRAGMA journal_mode=DELETE", *holding)) as holder:
        timer = threading.Timer(0.7, holder.rollback)
        timer.start()
        ln.add(ln.Transform("added"))
        timer.join()
    assert ln.select(ln.Transform).one().name == "added"


# --- forks ----------------------------------------------------------------------------------------


@pytest.fixture
def fork() -> Iterator[Callable[..., multiprocessing.Process]]:
    """Fork this very process, with whatever it has open; what runs there must come to its end."""
    context = multiprocessing.get_context("fork")
    started = []

    def start(act: Callable[..., object], *arguments: object) -> multiprocessing.Process:
        process = context.Process(target=act, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.join()
        assert process.exitcode == 0


def add_some(who: str, files: int) -> None:
    for number in range(files):
        ln.add(ln.File(source(f"{who}.txt", f"{who} {number}"), key=f"{who}/{number}.txt"))
        ln.add(ln.File(source(f"{who}.txt", f"{who} {number}"), key="shared.txt"))


def test_a_forked_child_adds_while_its_parent_adds(
    storage: Path, fork: Callable[..., multiprocessing.Process]
):
    run = ln.track(transform=ln.Transform("parent"))
    add_some("before", 1)
    children = [fork(add_some, f"child {number}", 10) for number in range(2)]
    add_some("parent", 10)
    for child in children:
        child.join()
    assert sorted(contents(key="shared.txt")) == sorted(
        ["before 0"]
        + [f"{who} {number}" for who in ("parent", "child 0", "child 1") for number in range(10)]
    )
    assert ln.select(ln.File).count() == 32
    assert len(run.outputs) == 62  # a child works for the run of its parent


def test_what_a_forked_child_adds_after_its_parent_has_closed_the_database_is_kept(
    storage: Path, fork: Callable[..., multiprocessing.Process], tmp_path: Path
):
    added, closed = os.pipe(), os.pipe()

    def add_before_and_after() -> None:
        ln.add(ln.Transform("before"))
        os.write(added[1], b".")
        os.read(closed[0], 1)
        for number in range(5):
            ln.add(ln.Transform(f"after {number}"))

    ln.add(ln.Transform("parent"))
    child = fork(add_before_and_after)
    os.read(added[0], 1)
    instance.reset()
    os.write(closed[1], b".")
    child.join()
    ln.setup.load(storage)
    names = [transform.name for transform in ln.select(ln.Transform).all()]
    assert names == ["parent", "before", *(f"after {number}" for number in range(5))]


def test_a_child_forked_while_a_thread_is_writing_can_write(
    storage: Path,
    fork: Callable[..., multiprocessing.Process],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 10.0)
    stop = threading.Event()

    def write(_: object) -> None:
        while not stop.is_set():
            with instance.current().database.begin() as connection:
                connection.execute(select(schema.user)).all()

    with ThreadPoolExecutor(3) as pool:
        writers = pool.map(write, range(3))
        for number in range(10):
            fork(ln.add, ln.Transform(f"child {number}")).join()
        stop.set()
        list(writers)
    assert ln.select(ln.Transform).count() == 10


def end_while_waiting_to_fork() -> None:
    ln.track(transform=ln.Transform("forks", type="pipeline"))
    database, is_writing = instance.current().database, threading.Event()

    def write() -> None:
        with database.begin():
            is_writing.set()
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)

    threading.Thread(target=write, daemon=True).start()
    is_writing.wait()
    if os.fork() == 0:
        os._exit(0)


@pytest.mark.databases("sqlite")  # for others a fork does not wait
def test_a_process_that_waits_to_fork_ends_at_sigterm(storage: Path, warm: WarmProcess):
    check_sigterm_ends(warm.fork(end_while_waiting_to_fork))


def test_a_child_forked_in_the_middle_of_an_add_leaves_that_to_its_parent(
    storage: Path,
    fork: Callable[..., multiprocessing.Process],
    monkeypatch: pytest.MonkeyPatch,
):
    from lamindb.storage.store import Store

    place = Store.place

    def fork_first(store: Store, incoming: str, final: str) -> None:
        monkeypatch.setattr(Store, "place", place)
        fork(add_some, "child", 3).join()
        place(store, incoming, final)

    monkeypatch.setattr(Store, "place", fork_first)
    ln.add(ln.File(source("parent.txt", "parent"), key="parent.txt"))
    assert contents(key="parent.txt") == ["parent"]
    assert ln.select(ln.File).count() == 5
    assert count("journal") == 0


def test_hashes_are_the_same_whoever_took_them(storage: Path, warm: WarmProcess):
    workers = [warm.fork(add_some, str(number), 2) for number in range(3)]
    for worker in workers:
        worker.join()
    for file in ln.select(ln.File, all_versions=True).all():
        assert file.hash == hash_bytes(file.stage(is_run_input=False).read_bytes())


def test_folders_that_others_empty_and_fill_meanwhile_hold_up_no_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamindb.storage.store.sync_folder", lambda folder: None)
    store = Store(str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    failures: list[Exception] = []

    def fill_and_empty(name: str, depth: int) -> None:
        for number in range(200):
            incoming, final = f"{INCOMING}/{name}-{number}", f"d/{'e/' * depth}{name}"
            try:
                store.path(incoming).parent.mkdir(parents=True, exist_ok=True)
                store.path(incoming).write_text(name)
                store.place(incoming, final)
                store.move(final, f"{INCOMING}/{name}-old")
            except Exception as error:
                failures.append(error)

    threads = [
        threading.Thread(target=fill_and_empty, args=(name, depth))
        for depth, name in enumerate("abcd")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
