"""What an operation has begun is undone, finished, or left to the next one: step by step."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem

import lamindb as ln
from lamindb import instance, journal, processes
from lamindb.db import schema
from lamindb.errors import (
    BusyError,
    DataChangedError,
    KeyConflictError,
    LaminError,
    ObjectChangedError,
)
from lamindb.processes import is_dead, is_running, this_process
from lamindb.steps import Step, undo
from lamindb.storage.hashing import FILE_HASH, ManifestLine, hash_bytes, manifest_digest
from lamindb.storage.store import INCOMING, Store

pytestmark = pytest.mark.databases("full")

# --- one step, in a store that cannot rename ------------------------------------------------------

Files = dict[str, str]

OLD = {"key/1": "old", "key/2": "old too"}
NEW = {"key/1": "new", "key/2": "new too"}
OLDER = {"key/1": "older", "key/2": "older too"}


def at(place: str, files: Files, *parts: str) -> Files:
    """Return files as they lie at another place, perhaps some of them only."""
    return {
        f"{place}/{name.split('/')[1]}": content
        for name, content in files.items()
        if not parts or name.split("/")[1] in parts
    }


def hash_of(files: Files) -> str:
    lines = [
        ManifestLine(name.split("/")[1], len(content), hashlib.md5(content.encode()).hexdigest())
        for name, content in files.items()
    ]
    return manifest_digest(lines).hash


ADDED = Step("storage", "key", new_hash=hash_of(NEW))
CHANGED = replace(ADDED, aside="aside", aside_hash=hash_of(OLD))
DELETED = Step("storage", "key", aside="aside", aside_hash=hash_of(OLD))
BACK = replace(DELETED, back="back", back_hash=hash_of(OLDER))
OLDER_BACK = at("back", OLDER)

REACHED: list[tuple[Step, Files, Files]] = [
    (ADDED, {}, {}),
    (ADDED, at("key", NEW, "1"), {}),
    (ADDED, NEW, {}),
    *(
        (step, {**reached, **more}, {**OLD, **more})
        for step, more in ((CHANGED, {}), (DELETED, {}), (BACK, OLDER_BACK))
        for reached in (
            OLD,
            {**OLD, **at("aside", OLD, "1")},
            {**OLD, **at("aside", OLD)},
            {**at("key", OLD, "2"), **at("aside", OLD)},
            at("aside", OLD),
        )
    ),
    (CHANGED, {**at("aside", OLD), **at("key", NEW, "1")}, OLD),
    (CHANGED, {**at("aside", OLD), **NEW}, OLD),
    (BACK, {**at("aside", OLD), **OLDER_BACK, **at("key", OLDER, "1")}, {**OLD, **OLDER_BACK}),
    (BACK, {**at("aside", OLD), **OLDER_BACK, **OLDER}, {**OLD, **OLDER_BACK}),
    (BACK, {**at("aside", OLD), **at("back", OLDER, "2"), **OLDER}, {**OLD, **OLDER_BACK}),
    (BACK, {**at("aside", OLD), **OLDER}, {**OLD, **OLDER_BACK}),
]


class Killed(BaseException):
    """In the place of SIGKILL, which memory does not outlive."""


@pytest.fixture
def memory() -> Iterator[Store]:
    store = Store(f"memory://{uuid4().hex}")
    yield store
    fs, path = url_to_fs(store.root)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def lay(store: Store, files: Files) -> None:
    fs, path = url_to_fs(store.root)
    if fs.exists(path):
        fs.rm(path, recursive=True)
    fs.pipe({f"{path}/{name}": content.encode() for name, content in files.items()})


def lying(store: Store) -> Files:
    fs, path = url_to_fs(store.root)
    return {
        name.removeprefix(f"{path}/"): fs.cat_file(name).decode()
        for name in (fs.find(path) if fs.exists(path) else [])
    }


@pytest.mark.parametrize(("step", "reached", "before"), REACHED)
def test_a_step_is_undone_from_wherever_it_had_come_to_also_when_that_is_cut_short(
    step: Step, reached: Files, before: Files, memory: Store, monkeypatch: pytest.MonkeyPatch
):
    lay(memory, reached)
    undo(memory, step)
    assert lying(memory) == before

    left = 0

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return act(*arguments, **options)

        return change

    for changes in range(12):
        lay(memory, reached)
        left = changes
        with monkeypatch.context() as patch, suppress(Killed):
            for name in ("cp_file", "rm_file"):
                patch.setattr(MemoryFileSystem, name, dying(getattr(MemoryFileSystem, name)))
            undo(memory, step)
        undo(memory, step)
        assert lying(memory) == before, f"killed after {changes} changes"


BESIDE = {"key/theirs": "somebody's"}


@pytest.mark.parametrize(
    "reached",
    [
        {"key": "old"},
        {"key": "old", "aside": "old"},
        {"aside": "old"},
        {"aside": "old", "key": "new"},
    ],
)
@pytest.mark.parametrize("new", [hash_bytes(b"new"), None])
def test_undoing_a_file_leaves_what_lies_in_a_folder_of_its_name(
    reached: Files, new: str | None, bucket: str
):
    if new is None and "key" in reached and reached["key"] == "new":
        return
    store = Store(f"{bucket}/some")
    lay(store, {**reached, **BESIDE})
    step = Step("storage", "key", aside="aside", aside_hash=hash_bytes(b"old"), new_hash=new)
    undo(store, replace(step, aside_type=FILE_HASH, new_type=FILE_HASH if new else None))
    assert lying(store) == {"key": "old", **BESIDE}


@pytest.mark.parametrize("new", [hash_bytes(b"new"), None])
def test_undoing_keeps_what_another_has_put_at_the_key_beside(new: str | None, bucket: str):
    store = Store(f"{bucket}/some")
    lay(store, {"key": "theirs", "aside": "old"})
    step = Step("storage", "key", aside="aside", aside_hash=hash_bytes(b"old"), new_hash=new)
    undo(store, replace(step, aside_type=FILE_HASH, new_type=FILE_HASH if new else None))
    found = lying(store)
    assert found.pop("key") == "old"
    [(name, content)] = found.items()
    assert (name.startswith("key.found-"), content) == (True, "theirs")


@pytest.mark.parametrize("copied", [{}, {"key": "older", "back": "older"}, {"key": "older"}])
def test_undoing_a_deletion_takes_the_older_version_back(copied: Files, bucket: str):
    store = Store(f"{bucket}/some")
    lay(store, {"aside": "old", **(copied or {"back": "older"})})
    step = Step("storage", "key", aside="aside", aside_hash=hash_bytes(b"old"))
    step = replace(step, back="back", back_hash=hash_bytes(b"older"))
    undo(store, replace(step, aside_type=FILE_HASH, back_type=FILE_HASH))
    assert lying(store) == {"key": "old", "back": "older"}


def test_undoing_twice_changes_nothing_more(memory: Store):
    for step, reached, before in REACHED:
        lay(memory, reached)
        undo(memory, step)
        undo(memory, step)
        assert lying(memory) == before


@pytest.mark.parametrize("place", ["final", "incoming"])
def test_undoing_a_new_version_of_a_directory_may_be_cut_short_anywhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = Store(str(tmp_path))
    incoming = f"{INCOMING}/1-0.new"
    step = replace(CHANGED, incoming=incoming)
    reached = {**at("aside", OLD), **at("key" if place == "final" else incoming, NEW)}

    def dying(*arguments: Any, **options: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        unlink(*arguments, **options)

    unlink = os.unlink
    for removed in range(3):
        shutil.rmtree(tmp_path)
        for name, content in reached.items():
            store.path(name).parent.mkdir(parents=True, exist_ok=True)
            store.path(name).write_text(content)
        left = removed
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(os, "unlink", dying)
            undo(store, step)
        undo(store, step)
        assert {key: store.path(key).read_text() for key in list(store.keys())} == OLD
        assert not store.exists(incoming)


# --- a whole operation ----------------------------------------------------------------------------


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    ln.setup.init(storage=tmp_path / "storage")
    return tmp_path / "storage"


def reopen(storage: Path) -> None:
    instance.reset()
    ln.setup.load(storage)
    instance.current()


def source(content: str) -> Path:
    path = Path("source.txt")
    path.write_text(content)
    return path


def failing(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, error: BaseException) -> None:
    """Have a function fail the next time it is called."""
    act = getattr(place, name)

    def fail(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(place, name, act)
        raise error

    monkeypatch.setattr(place, name, fail)


def objects(storage: Path) -> list[str]:
    return sorted(
        path.relative_to(storage).as_posix()
        for path in storage.rglob("*")
        if path.is_file() and not path.name.startswith(("lamindb.sqlite", "instance", "storage_id"))
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()], ids=repr)
@pytest.mark.parametrize("name", ["write", "links", "place"])
def test_whatever_interrupts_an_add_undoes_it(
    error: BaseException, name: str, storage: Path, monkeypatch: pytest.MonkeyPatch
):
    first = ln.add(ln.File(source("first"), key="a.txt"))
    failing(monkeypatch, Store, name, error)
    with pytest.raises(type(error)):
        ln.add(ln.File(source("second"), key="a.txt"))
    assert objects(storage) == ["a.txt"]
    assert first.stage().read_text() == "first"
    assert journal.pending(instance.current().database) == []


def test_putting_a_lost_keyless_object_back_is_undone_as_any_add(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    file = ln.add(ln.File(source("first")))
    file.path().unlink()
    failing(monkeypatch, Store, "place", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ln.add(ln.File(source("first")))
    assert objects(storage) == []
    assert journal.pending(instance.current().database) == []
    assert ln.add(ln.File(source("first"))) == file
    assert objects(storage) == [f"{file.id}.txt"]


def test_what_could_not_be_undone_is_undone_by_the_next_operation_that_it_is_in_the_way_of(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    ln.add(ln.File(source("first"), key="a.txt"))
    failing(monkeypatch, journal, "undo", OSError(5, "Input/output error"))
    failing(monkeypatch, Store, "place", DataChangedError("it changed"))
    with pytest.raises(DataChangedError):
        ln.add(ln.File(source("second"), key="a.txt"))
    assert "could not be undone yet" in caplog.text
    assert len(journal.pending(instance.current().database)) == 1
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 1.0)
    third = ln.add(ln.File(source("third"), key="a.txt"))
    assert third.stage().read_text() == "third"
    assert [file.stage().read_text() for file in versions("a.txt")] == ["first", "third"]
    assert journal.pending(instance.current().database) == []


def versions(key: str) -> list[ln.File]:
    found: list[ln.File] = ln.select(ln.File, all_versions=True, key=key).all()
    return found


def test_an_add_whose_rows_are_there_has_succeeded_though_something_is_left_to_remove(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    failing(monkeypatch, Store, "remove", PermissionError(13, "Permission denied"))
    added = ln.add(ln.File(source("first"), key="a.txt"))
    assert "stay for now" in caplog.text
    assert added.stage().read_text() == "first"
    assert len(objects(storage)) == 2
    reopen(storage)
    assert objects(storage) == ["a.txt"]


def test_a_version_that_returns_is_not_taken_by_what_was_left_to_remove(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    for content in ("first", "second"):
        ln.add(ln.File(source(content), key="a.txt"))
    failing(monkeypatch, journal, "_clean_own", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ln.add(ln.File(source("first"), key="a.txt"))
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 1.0)
    ln.add(ln.File(source("third"), key="a.txt"))
    reopen(storage)
    assert {file.stage().read_text() for file in versions("a.txt")} == {"first", "second", "third"}


def test_others_can_write_while_objects_are_worked_on(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    looked = []

    def look(store: Store, step: Step) -> None:
        with closing(sqlite3.connect(storage / ".lamindb/lamindb.sqlite", timeout=0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
        looked.append(step)
        undo(store, step)

    monkeypatch.setattr(journal, "undo", look)
    failing(monkeypatch, Store, "place", DataChangedError("it changed"))
    with pytest.raises(DataChangedError):
        ln.add(ln.File(source("first"), key="a.txt"))
    assert len(looked) == 1


def test_a_lease_is_renewed_for_as_long_as_its_owner_works(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "LEASE_S", 0.4)
    place = Store.place
    leases = set()

    def slowly(store: Store, incoming: str, final: str) -> None:
        end = time.monotonic() + 5
        while len(leases) < 4 and time.monotonic() < end:
            leases.update(row["lease_until"] for row in journal.pending(here.database))
            time.sleep(0.02)
        place(store, incoming, final)

    here = instance.current()
    monkeypatch.setattr(Store, "place", slowly)
    ln.add(ln.File(source("first"), key="a.txt"))
    assert len(leases) >= 4
    assert objects(storage) == ["a.txt"]


def adding(key: str) -> ln.File:
    """A file, or for the key of a folder a directory, that is not added yet."""
    path = Path(f"source of {key.replace('/', ' ')}")
    if key == "a":
        path.mkdir(exist_ok=True)
        (path / "x.txt").write_text("x")
    else:
        path.write_text(key)
    return ln.File(path, key=key)


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something while an object is about to be placed."""
    place = Store.place

    def first(store: Store, incoming: str, final: str) -> None:
        monkeypatch.setattr(Store, "place", place)
        act()
        place(store, incoming, final)

    monkeypatch.setattr(Store, "place", first)


@pytest.mark.parametrize("keys", [("a", "a/b.txt"), ("a/b.txt", "a"), ("a/b/c.txt", "a")])
def test_a_folder_and_a_key_inside_it_are_not_added_at_once(
    keys: tuple[str, str], storage: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ln.settings, "busy_timeout_s", 0.05)

    def other() -> None:
        with pytest.raises(BusyError):
            ln.add(adding(keys[1]))
        ln.add(adding("ab/c.txt"))  # a neighbour need not wait

    meanwhile(monkeypatch, other)
    first = ln.add(adding(keys[0]))
    with pytest.raises(KeyConflictError):
        ln.add(adding(keys[1]))
    assert first.stage().exists()
    assert {file.key for file in ln.select(ln.File).all()} == {keys[0], "ab/c.txt"}


@pytest.mark.parametrize("fails", [False, True])
def test_a_reader_waits_for_the_end_of_a_replacement(
    fails: bool, storage: Path, monkeypatch: pytest.MonkeyPatch
):
    ln.add(ln.File(source("old"), key="a.txt"))
    record, reader = (ln.select(ln.File).one() for _ in range(2))
    record.replace(source("new"))
    found: Any = None

    def read() -> None:
        nonlocal found
        try:
            found = reader.load()
        except LaminError as error:
            found = error

    thread = threading.Thread(target=read)

    def let_read() -> None:
        assert not (storage / "a.txt").exists()
        thread.start()
        time.sleep(0.2)
        assert thread.is_alive()
        if fails:
            raise DataChangedError("it changed")

    meanwhile(monkeypatch, let_read)
    with suppress(DataChangedError):
        ln.add(record)
    thread.join()
    if fails:
        assert found == "old"
    else:
        assert isinstance(found, ObjectChangedError)
        assert "was replaced meanwhile: select it again" in str(found)
        assert ln.select(ln.File).one().load() == "new"


def test_a_folder_that_is_registered_meanwhile_keeps_what_it_was_recorded_with(
    storage: Path, monkeypatch: pytest.MonkeyPatch
):
    def register() -> None:
        location = instance.current().default_location
        row = {"id": "F" * 20, "name": "a", "suffix": "", "key": "a", "storage_id": location.id}
        user = {"created_by_id": instance.current().user_id}
        with instance.current().database.begin() as connection:
            connection.execute(schema.file.insert().values(**row, **user))

    meanwhile(monkeypatch, register)
    with pytest.raises(KeyConflictError, match="inside 'a'"):
        ln.add(adding("a/b.txt"))
    assert objects(storage) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads start times from /proc")
def test_a_process_lives_on_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch):
    owner = this_process().as_json()
    assert owner["ticks"] is not None
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: owner["started_at"] + 3600)
    assert not is_dead(owner)
    assert is_dead({**owner, "ticks": owner["ticks"] + 1})


def test_a_process_that_may_not_be_looked_at_lives(monkeypatch: pytest.MonkeyPatch):
    def hidden(*arguments: Any) -> Any:
        raise psutil.NoSuchProcess(1)

    owner = {**this_process().as_json(), "pid": 1}
    monkeypatch.setattr(psutil, "Process", hidden)  # as with hidepid=2, for other users' processes
    monkeypatch.setattr(processes, "_read_stat", lambda pid: None)

    def refuse(pid: int, sent: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    for known in (owner, {name: value for name, value in owner.items() if name != "ticks"}):
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", refuse)
            assert not is_dead(known)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_dead({**owner, "pid": ended.pid})


EXIT = {"x86_64": 60, "aarch64": 93}
LEADERLESS = """
import ctypes, sys, threading
threading.Thread(target=input).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in EXIT, reason="ends one thread by number"
)
def test_a_process_lives_until_its_last_thread_has_ended():
    # SIGKILL ends threads one by one: the first may be gone while another is still writing
    command = [sys.executable, "-c", LEADERLESS, str(EXIT[platform.machine()])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        seen = psutil.Process(process.pid)
        started_at = seen.create_time()
        while seen.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert is_running(process.pid, started_at)
        process.kill()
        process.wait()
        assert not is_running(process.pid, started_at)


def test_a_store_is_asked_while_others_may_write_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ln.setup.init(storage=tmp_path / "storage", name="asked")
    database = instance.current().database
    asked: list[str] = []
    exists = Store.exists

    def ask(store: Store, *arguments: Any) -> bool:
        # a write transaction of the one who asks would let nobody else begin one
        with closing(sqlite3.connect(str(database.config.sqlite_path), timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        asked.append(arguments[0])
        return exists(store, *arguments)

    monkeypatch.setattr(Store, "exists", ask)
    path = tmp_path / "a.txt"
    for content in ("old", "new", "old"):
        path.write_text(content)
        file = ln.add(ln.File(path, key="k.txt"))
    path.write_text("other")
    file.replace(path)
    ln.delete(ln.add(file), delete_data=True)
    assert "k.txt" in asked
