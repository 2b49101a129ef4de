"""From events to rows: in any order, any number of times, and whatever happens to the database."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

import lamindb as ln
from lamindb import config, instance, liveness, recorder, recording
from lamindb.db import schema
from lamindb.db.database import Database
from lamindb.hooks import (
    EnvironmentSeen,
    Event,
    FileRead,
    FileRetracted,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
    emit,
    environment,
    hookimpl,
    manager,
    run_id,
)
from lamindb.storage.hashing import hash_bytes

pytestmark = pytest.mark.databases

START = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)
CLEAN = InferredTransform("clean", "lab/clean", "pipeline", source_hash="1")


def at(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[Path]:
    ln.setup.init(storage="mydata")
    yield Path.cwd()
    recorder.close(5)


def rows(table: Any) -> list[dict[str, Any]]:
    with instance.reading().database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def written(name: str, content: bytes, run: str, when: float = 1, **more: Any) -> FileWritten:
    path = Path.cwd() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return FileWritten(run=run, uri=str(path), stat=FileStat.of(path), at=at(when), **more)


def read(name: str, run: str, when: float = 1, **more: Any) -> FileRead:
    path = Path.cwd() / name
    return FileRead(run=run, uri=str(path), stat=FileStat.of(path), at=at(when), **more)


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_has_what_its_start_and_its_end_say() -> None:
    run, parent = run_id("test", "1"), run_id("test", "0")
    emit(
        RunStarted(
            run=run,
            engine="test",
            transform=CLEAN,
            parent=parent,
            params={"n": 3},
            user="ada",
            host="node1",
            pid=7,
            reference="https://ui/1",
            reference_type="url",
            environment=environment(),
            details={"tags": ["a"]},
            at=at(0),
        )
    )
    emit(RunFinished(run=run, status="failed", error="no", details={"test": {"code": 3}}, at=at(2)))
    found = ln.select(ln.Run, id=run).one()
    assert (found.name, found.engine, found.status, found.error) == (
        "clean",
        "test",
        "failed",
        "no",
    )
    assert (found.started_at, found.finished_at, found.duration_s) == (at(0), at(2), 2.0)
    assert (found.params, found.details) == ({"n": 3}, {"test": {"tags": ["a"], "code": 3}})
    assert (found.host, found.pid, found.reference) == ("node1", 7, "https://ui/1")
    assert found.transform.key == "lab/clean"
    assert found.created_by.handle == "ada"
    assert found.parent.status == "started" and found.parent.transform is None
    [kept] = rows(schema.environment)
    assert kept["id"] == found.environment_id and kept["packages"]["sqlalchemy"]


def test_code_that_changed_is_a_new_version_and_code_seen_before_is_not() -> None:
    for number, code in enumerate(["1", "2", "1", "2", "3"]):
        transform = InferredTransform("clean", "lab/clean", "pipeline", source_hash=code)
        emit(RunStarted(run=run_id("t", str(number)), engine="t", transform=transform))
    versions = [run.transform_version for run in ln.select(ln.Run).all()]
    assert versions == ["0", "1", "0", "1", "2"]
    assert ln.select(ln.Transform).count() == 3
    assert len({each.id for each in ln.select(ln.Transform).all()}) == 1


def test_retries_are_attempts_of_one_run() -> None:
    run = run_id("test", "1")
    for number, status in enumerate(["failed", "failed", "completed"], start=1):
        emit(RunStarted(run=run, engine="test", attempt=number, at=at(number), pid=number))
        error = None if status == "completed" else f"error {number}"
        emit(RunFinished(run=run, attempt=number, status=status, error=error, at=at(number + 0.5)))  # type: ignore[arg-type]
    found = ln.select(ln.Run).one()
    assert (found.status, found.error, found.pid) == ("completed", None, 3)
    assert (found.started_at, found.finished_at) == (at(1), at(3.5))
    attempts = rows(schema.attempt)
    assert [(row["number"], row["status"], row["error"]) for row in attempts] == [
        (1, "failed", "error 1"),
        (2, "failed", "error 2"),
        (3, "completed", None),
    ]


def test_the_attempts_of_a_run_that_died_end_with_it_and_begin_again_with_it() -> None:
    run = run_id("test", "1")
    begun = {"engine": "test", "host": config.host(), "pid": 2147483646, "at": at(1)}
    here = instance.current()
    attempts = [RunStarted(run=run, attempt=number, **begun) for number in (1, 2)]
    failed = RunFinished(run=run, attempt=1, status="failed", error="no", at=at(2))
    recording.record_runs(here, [*attempts, failed])

    def states() -> list[tuple[str, dt.datetime | None, str | None]]:
        kept = [*rows(schema.run), *rows(schema.attempt)]
        return [(row["status"], row["finished_at"], row["error"]) for row in kept]

    before = states()
    liveness.close_dead_runs(here.database)
    died = ("aborted", at(1), liveness.DIED)
    assert states() == [died, ("failed", at(2), "no"), died]
    recording.record_runs(here, attempts)  # told again, of a run that is over
    assert states() == [died, ("failed", at(2), "no"), died]
    liveness.beat(here.database, [run])
    assert states() == before
    liveness.close_dead_runs(here.database)
    late = RunFinished(run=run, attempt=2, status="completed")
    recording.record_runs(here, [late])
    assert states()[0] == states()[2] == ("completed", late.at, None)


def test_a_later_attempt_does_not_revive_the_one_that_died() -> None:
    run, here = run_id("test", "1"), instance.current()
    begun = {"engine": "test", "host": config.host(), "pid": 2147483646}
    recording.record_runs(here, [RunStarted(run=run, at=at(1), **begun)])
    liveness.close_dead_runs(here.database)
    recording.record_runs(here, [RunStarted(run=run, attempt=2, at=at(2), **begun)])
    liveness.beat(here.database, [run])
    assert [row["status"] for row in rows(schema.attempt)] == ["aborted", "started"]


def test_runs_are_linked_to_each_other() -> None:
    run, other = run_id("test", "1"), run_id("test", "2")
    emit(RunLinked(run=run, other=other, role="cached_from"))
    emit(RunLinked(run=run, other=other, role="cached_from"))
    assert rows(schema.run_run) == [{"run_id": run, "other_id": other, "role": "cached_from"}]
    assert ln.select(ln.Run).count() == 2


# --- files ----------------------------------------------------------------------------------------


def test_an_output_is_registered_where_it_is_with_its_hash() -> None:
    run = run_id("test", "1")
    emit(written("out/a.csv", b"a", run))
    emit(RunStarted(run=run, engine="test", transform=CLEAN))
    emit(read("out/a.csv", run_id("test", "2"), 2, how="declared"))
    [file] = ln.select(ln.File).all()
    assert (file.key, file.name, file.suffix, file.size) == ("out/a.csv", "a.csv", ".csv", 1)
    assert (file.hash, file.run.id, file.transform.name) == (hash_bytes(b"a"), run, "clean")
    assert (file.storage.managed, file.storage.root) == (False, str(Path.cwd()))
    assert file.path().read_bytes() == b"a"
    assert [each.key for each in ln.select(ln.Run, id=run_id("test", "2")).one().inputs] == [
        "out/a.csv"
    ]
    assert {(row["role"], row["how"]) for row in rows(schema.run_file)} == {
        ("output", "observed"),
        ("input", "declared"),
    }


def test_a_file_outside_of_the_project_has_its_whole_path_as_key(tmp_path: Path) -> None:
    (tmp_path / "reference.fa").write_text("ACGT")
    emit(FileRead(run="r1", uri=str(tmp_path / "reference.fa")))
    [file] = ln.select(ln.File).all()
    assert (file.storage.root, file.run) == ("/", None)
    assert file.path() == tmp_path / "reference.fa"


def test_the_instances_own_files_are_nobodys_output() -> None:
    emit(FileWritten(run="r1", uri=str(Path("mydata/.lamindb/lamindb.sqlite").resolve())))
    assert ln.select(ln.File).count() == 0


def test_an_output_with_a_key_is_copied_into_the_storage() -> None:
    emit(written("plot.svg", b"<svg/>", "r1", key="figures/plot.svg", description="QC"))
    [file] = ln.select(ln.File).all()
    assert (file.key, file.description, file.run_id) == ("figures/plot.svg", "QC", "r1")
    assert Path("mydata/figures/plot.svg").read_bytes() == b"<svg/>"
    assert file.storage.managed


def test_a_copied_output_is_told_once_and_the_same_however_often_it_is_recorded() -> None:
    told: list[tuple[str, str]] = []

    class Observer:
        @hookimpl
        def ln_event_recorded(self, event: Event, record_id: str) -> None:
            told.append((event.event_id, record_id))

    observer = Observer()
    manager.plugins().register(observer)
    try:
        event = written("a.csv", b"a", "r1", copy=True)
        record([[event]])
        Path("a.csv").write_bytes(b"changed after the event was recorded")
        record([[event]])
    finally:
        manager.plugins().unregister(observer)
    [output] = ln.select(ln.Run, id="r1").one().outputs
    assert (output.storage.managed, output.hash) == (True, hash_bytes(b"a"))
    assert told == [(event.event_id, output.id)]


def test_a_directory_is_one_output() -> None:
    folder = Path.cwd() / "store.zarr"
    (folder / "0").mkdir(parents=True)
    (folder / "0/0").write_bytes(b"chunk")
    emit(FileWritten(run="r1", uri=str(folder), how="declared"))
    [file] = ln.select(ln.File).all()
    assert (file.hash_type, file.size, file.suffix) == ("md5-d", 5, ".zarr")


def test_overwritten_content_keeps_its_record_and_its_bytes_are_never_the_new_ones() -> None:
    emit(written("a.csv", b"old", "r1", 1))
    recorder.flush()
    emit(written("a.csv", b"new!", "r2", 2))
    old, new = ln.select(ln.File, all_versions=True).all()
    assert [(each.hash, each.is_latest, each.run_id) for each in (old, new)] == [
        (hash_bytes(b"old"), False, "r1"),
        (hash_bytes(b"new!"), True, "r2"),
    ]
    assert new.stage().read_bytes() == b"new!"
    with pytest.raises(FileNotFoundError, match="overwritten"):
        old.stage()


def test_bytes_that_are_gone_before_they_are_read_have_no_hash_but_a_reason() -> None:
    gone = written("gone.csv", b"x", "r1")
    Path("gone.csv").unlink()
    changed = written("changed.csv", b"x", "r1")
    Path("changed.csv").write_bytes(b"successor")
    recording.record_files(instance.current(), [gone, changed])
    found = {file.key: (file.hash, file.hash_note, file.size) for file in ln.select(ln.File).all()}
    assert found == {
        "gone.csv": (None, "it was gone before it could be read", 1),
        "changed.csv": (None, "it was changed before it could be read", 1),
    }


def test_bytes_that_are_gone_are_not_taken_for_those_that_came_later() -> None:
    emit(written("a.csv", b"old", "r1", 1))
    recorder.flush()
    late = read("a.csv", "reader", 2)
    emit(written("a.csv", b"new", "r2", 3))
    recorder.flush()
    recording.record_files(instance.current(), [late])
    assert [file.run_id for file in ln.select(ln.Run, id="reader").one().inputs] == ["r1"]


def test_bytes_that_are_gone_and_that_nobody_else_saw_have_a_record_of_their_own() -> None:
    Path("a.csv").write_bytes(b"old")
    late = read("a.csv", "reader", 2)
    emit(written("a.csv", b"new", "r2", 3))
    recorder.flush()
    recording.record_files(instance.current(), [late])
    [file] = ln.select(ln.Run, id="reader").one().inputs
    assert (file.run_id, file.hash, file.is_latest) == (None, None, False)


def test_an_event_may_bring_the_hash_of_bytes_that_are_gone() -> None:
    emit(FileWritten(run="r1", uri=str(Path.cwd() / "temp.bam"), hash=hash_bytes(b"temp"), size=4))
    [file] = ln.select(ln.File).all()
    assert (file.hash, file.hash_type, file.size) == (hash_bytes(b"temp"), "md5", 4)


def test_what_the_code_has_added_itself_gets_no_second_record() -> None:
    run = ln.track(transform=ln.Transform("mine", type="pipeline"))
    Path("a.csv").write_bytes(b"a")
    added = ln.add(ln.File("a.csv", key="study/a.csv"))
    emit(FileWritten(run=run.id, uri=str(Path("a.csv").resolve()), stat=FileStat.of("a.csv")))
    emit(FileWritten(run=run.id, uri=str(Path("mydata/study/a.csv").resolve())))
    assert ln.select(ln.File).all() == [added]


@pytest.mark.parametrize(
    ("name", "matched_by"),
    [("mydata/study/a.csv", "path"), ("a.csv", "source"), ("elsewhere/copy.csv", "content")],
)
def test_a_read_is_known_by_its_path_by_its_source_or_by_its_content(
    name: str, matched_by: str
) -> None:
    ln.track(transform=ln.Transform("writer", type="pipeline"))
    Path("a.csv").write_bytes(b"a")
    added = ln.add(ln.File("a.csv", key="study/a.csv"))
    ln.finish()
    if not Path(name).exists():
        Path(name).parent.mkdir()
        shutil.copy("a.csv", name)
    emit(FileRead(run="r2", uri=str(Path(name).resolve()), stat=FileStat.of(name)))
    assert ln.select(ln.Run, id="r2").one().inputs == [added]
    links = [row for row in rows(schema.run_file) if row["role"] == "input"]
    assert [row["matched_by"] for row in links] == [matched_by]


@pytest.mark.parametrize("at_once", [True, False])
def test_of_equal_contents_that_of_the_same_name_was_read(at_once: bool) -> None:
    events: list[Event] = [
        written("ada/raw.csv", b"a", "r1", 1),
        written("ada/clean.csv", b"a", "r2", 2),
        written("ada/raw.csv.bak", b"a", "r3", 3),
    ]
    written("bob/raw.csv", b"a", "nobody")
    written("bob/other.csv", b"a", "nobody")
    events += [read("bob/raw.csv", "r4", 4), read("bob/other.csv", "r5", 5)]
    record([events] if at_once else [[event] for event in events])
    inputs = {
        run: [file.key for file in ln.select(ln.Run, id=run).one().inputs] for run in ("r4", "r5")
    }
    assert inputs == {"r4": ["ada/raw.csv"], "r5": ["ada/raw.csv.bak"]}


def test_what_nobody_made_is_not_taken_for_a_copy_of_it_by_another_name() -> None:
    written("ada/raw.csv", b"a", "nobody")
    written("bob/raw.csv", b"a", "nobody")
    copy = written("ada/clean.csv", b"a", "r1", 2)
    record([[read("ada/raw.csv", "r1", 1), copy], [read("bob/raw.csv", "r2", 3)]])
    assert [file.key for file in ln.select(ln.Run, id="r2").one().inputs] == ["bob/raw.csv"]


def test_empty_files_are_not_taken_for_each_other() -> None:
    emit(written("made.flag", b"", "r1"))
    Path("other.flag").touch()
    emit(read("other.flag", "r2", 2))
    assert ln.select(ln.File).count() == 2


def test_what_a_run_has_written_is_not_its_input_but_what_it_read_before_is() -> None:
    Path("in_place.csv").write_bytes(b"same")
    emit(read("in_place.csv", "r1", 1))
    emit(written("in_place.csv", b"same", "r1", 2))
    emit(written("own.csv", b"own", "r1", 1))
    emit(read("own.csv", "r1", 2))
    run = ln.select(ln.Run, id="r1").one()
    assert [file.key for file in run.inputs] == ["in_place.csv"]
    assert [file.key for file in run.outputs] == ["in_place.csv", "own.csv"]


def test_the_same_content_made_again_is_one_file_with_two_producers() -> None:
    emit(written("a.csv", b"a", "r1", 1))
    recorder.flush()
    emit(written("a.csv", b"a", "r2", 2))
    [file] = ln.select(ln.File, all_versions=True).all()
    assert file.run_id == "r1"
    assert [row["run_id"] for row in rows(schema.run_file)] == ["r1", "r2"]


def test_an_output_that_is_taken_back_is_no_output_in_whichever_order() -> None:
    made = written("a.csv", b"a", "r1", 1)
    back = FileRetracted(run="r1", uri=made.uri, reason="rolled back", at=at(2))
    for order in ([made, back], [back, made]):
        for event in order:
            recording.record_files(instance.current(), [event])
        assert [row["role"] for row in rows(schema.run_file)] == ["retracted"]
    assert ln.select(ln.Run).one().outputs == []


def test_an_output_is_taken_back_with_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one may be what others wait for who have what this one waits for."""
    made = written("a.csv", b"a", "r1", 1)
    here, begin = instance.current(), Database.begin
    recording.record_files(here, [made])
    monkeypatch.setattr("lamindb.instance._LOCATED_S", 0.0)

    @contextmanager
    def begin_and_read_no_more(database: Database) -> Iterator[Connection]:
        with begin(database) as connection, monkeypatch.context() as inside:
            inside.delattr(Database, "read")
            yield connection

    monkeypatch.setattr(Database, "begin", begin_and_read_no_more)
    back = FileRetracted(run="r1", uri=made.uri, reason="rolled back", at=at(2))
    recording.record_files(here, [back])
    monkeypatch.undo()
    assert [row["role"] for row in rows(schema.run_file)] == ["retracted"]


@pytest.mark.parametrize("first", ["the outer run", "the relation"])
def test_the_innermost_run_owns_a_file(first: str) -> None:
    relation = RunStarted(run="inner", engine="test", parent="outer", at=at(0))
    inner = written("a.csv", b"a", "inner", 2)
    outer = dataclasses.replace(inner, run="outer", at=at(1), event_id="outer")
    raw = written("raw.csv", b"r", "before", 0)
    events: list[Event] = [inner, outer, read("raw.csv", "inner"), read("raw.csv", "outer")]
    if first == "the outer run":
        events.reverse()
    events.insert(len(events) if first == "the outer run" else 0, relation)
    record([[raw], *([event] for event in events)])
    links = {(row["run_id"], row["role"]) for row in rows(schema.run_file)}
    assert links == {("before", "output"), ("inner", "output"), ("inner", "input")}
    [file] = [row for row in rows(schema.file) if row["key"] == "a.csv"]
    assert file["run_id"] == "inner"


def test_what_the_outer_run_declares_stays_its_own_too() -> None:
    emit(RunStarted(run="inner", engine="test", parent="outer", at=at(0)))
    inner = written("a.csv", b"a", "inner", 1)
    emit(inner)
    emit(dataclasses.replace(inner, run="outer", how="declared", at=at(2), event_id="outer"))
    found = ln.select(ln.File).one()
    assert [run.id for run in ln.select(ln.Run).all() if found in run.outputs] == ["inner", "outer"]


def test_files_that_come_before_their_runs_cost_no_statement_for_each() -> None:
    """As of a workflow: its jobs begin within it, and it has no files of its own."""
    asked, statements = [], list[str]()
    engine = instance.current().database.engine
    sqlalchemy.event.listen(
        engine, "before_cursor_execute", lambda *given: statements.append(given[2])
    )
    for count in (4, 40):
        names = [f"{count}-{number}" for number in range(count)]
        record([[written(f"{name}.csv", b"%d" % count, name) for name in names]])
        statements.clear()
        start = RunStarted(run=names[0], engine="test", transform=CLEAN, parent="flow", at=at(2))
        record([[dataclasses.replace(start, run=name, event_id=name) for name in names]])
        asked.append(len(statements))
    assert 0 < asked[1] <= asked[0]


def test_names_that_are_no_unicode_are_kept_in_a_form_that_is() -> None:
    name = os.fsdecode(b"caf\xe9 \n'\".csv")
    (Path.cwd() / name).write_bytes(b"x")
    emit(FileWritten(run="r1", uri=str(Path.cwd() / name)))
    [file] = ln.select(ln.File).all()
    assert file.key == "caf\\udce9 \n'\".csv"
    assert file.hash == hash_bytes(b"x")


# --- any order, any number of times ---------------------------------------------------------------


def story() -> list[Event]:
    """What happens to two runs: retries, versions that come and go, a value passed, a roll-back."""
    first, second = run_id("test", "first"), run_id("test", "second")
    events: list[Event] = [
        EnvironmentSeen(id="e" * 22, python="CPython 3.11", packages={"a": "1"}, at=at(0)),
        RunStarted(
            run=first, engine="test", transform=CLEAN, environment="e" * 22, at=at(1), pid=1
        ),
        RunFinished(run=first, status="failed", error="first", at=at(2)),
        RunStarted(run=first, engine="test", transform=CLEAN, attempt=2, at=at(3), pid=2),
        RunFinished(run=first, attempt=2, status="completed", at=at(9)),
        RunStarted(
            run=second,
            engine="test",
            parent=run_id("test", "outer"),
            transform=InferredTransform("fit", "lab/fit", "pipeline", source_hash="x"),
            params={"n": 1},
            at=at(4),
        ),
        RunLinked(run=second, other=first, role="informed_by", at=at(4)),
        RunFinished(run=second, status="completed", details={"test": {"n": 1}}, at=at(8)),
    ]

    def touch(kind: type[Any], run: str, name: str, content: bytes, when: float) -> None:
        uri, digest = str(Path.cwd() / name), hash_bytes(content)
        events.append(
            kind(run=run, uri=uri, hash=digest, hash_type="md5", size=len(content), at=at(when))
        )

    touch(FileRead, first, "raw.csv", b"raw", 3.1)
    touch(FileWritten, first, "a.csv", b"A", 3.2)
    touch(FileWritten, first, "a.csv", b"B", 3.4)
    touch(FileRead, first, "a.csv", b"B", 3.5)
    touch(FileRead, second, "a.csv", b"B", 4.1)
    touch(FileWritten, second, "a.csv", b"A", 5)
    touch(FileWritten, second, "b.csv", b"b", 6)
    touch(FileWritten, second, "same.csv", b"s", 6.5)
    touch(FileRead, second, "same.csv", b"s", 6.4)
    touch(FileWritten, first, "same.csv", b"s", 7)
    events.append(FileRetracted(run=second, uri=str(Path.cwd() / "b.csv"), reason="no", at=at(7)))
    return events


def normalised() -> dict[str, Any]:
    """All rows, without random ids and the times at which they were written."""
    files = {row["id"]: f"{row['key']}:{row['hash']}" for row in rows(schema.file)}
    transforms = {(row["id"], row["version"]): row["key"] for row in rows(schema.transform)}

    def plain(row: dict[str, Any], *without: str) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name not in without}
        if "transform_id" in kept:
            kept["transform_id"] = transforms.get((row["transform_id"], row["transform_version"]))
        if "file_id" in kept:
            kept["file_id"] = files[row["file_id"]]
        return kept

    def ordered(kept: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(row, default=str, sort_keys=True) for row in kept)

    return {
        "file": ordered([
            plain(row, "id", "storage_id", "created_by_id", "updated_at")
            for row in rows(schema.file)
        ]),
        "run": ordered([plain(row, "created_by_id", "created_at") for row in rows(schema.run)]),
        "attempt": ordered(rows(schema.attempt)),
        "run_file": ordered([plain(row) for row in rows(schema.run_file)]),
        "run_run": ordered(rows(schema.run_run)),
        "environment": ordered([plain(row, "created_at") for row in rows(schema.environment)]),
        "transform": sorted(transforms.values()),
    }  # fmt: skip


def forget() -> None:
    with instance.current().database.begin() as connection:
        for table in ("run_file", "run_run", "attempt", "file", "run", "transform", "environment"):
            connection.execute(schema.metadata.tables[table].delete())


def record(batches: Sequence[Sequence[Event]]) -> None:
    here, of_files = instance.current(), (FileRead, FileWritten, FileRetracted)
    for batch in batches:
        recording.record_runs(here, [each for each in batch if not isinstance(each, of_files)])
        recording.record_files(here, [each for each in batch if isinstance(each, of_files)])


@pytest.mark.databases("full")
@pytest.mark.parametrize(
    "examples", [40, pytest.param(1000, marks=[pytest.mark.full, pytest.mark.timeout(900)])]
)
def test_any_order_and_repetition_of_events_gives_the_same_rows(examples: int) -> None:
    events = story()
    record([events])
    clean = normalised()
    assert len(clean["run_file"]) >= 8

    @settings(deadline=None, max_examples=examples)
    @given(repeated=st.lists(st.sampled_from(events), max_size=9), data=st.data())
    def is_the_same(repeated: list[Event], data: st.DataObject) -> None:
        forget()
        shuffled = data.draw(st.permutations(events + repeated))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
        record([shuffled[a:b] for a, b in pairwise([0, *cuts, len(shuffled)])])
        found = normalised()
        for table in clean:
            assert set(found[table]) ^ set(clean[table]) == set(), table
            assert found[table] == clean[table], table

    is_the_same()


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_missing_events_never_stop_those_that_come(data: st.DataObject) -> None:
    forget()
    events = story()
    kept = data.draw(st.lists(st.sampled_from(events), unique_by=id))
    record([[event] for event in kept])
    named = {getattr(event, "run", None) for event in kept} - {None}
    assert named <= {row["id"] for row in rows(schema.run)}


def test_a_link_is_registered_by_the_name_that_was_used(project: Path) -> None:
    run = run_id("test", "1")
    (project / "far").mkdir()
    (project / "near").symlink_to(project / "far")
    emit(written("far/data.csv", b"1", run))
    (project / "link.csv").symlink_to("far/data.csv")
    emit(written("near/other.csv", b"2", run))
    uri = str(project / "link.csv")
    emit(FileWritten(run=run, uri=uri, stat=FileStat.of(uri), at=at(2)))
    found = {row["key"]: row["hash"] for row in rows(schema.file)}
    assert found == {
        "far/data.csv": hash_bytes(b"1"),
        "far/other.csv": hash_bytes(b"2"),
        "link.csv": hash_bytes(b"1"),
    }
