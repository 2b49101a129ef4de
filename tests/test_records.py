"""The five records: what they are before and after ``ln.add``, and what ``ln.delete`` refuses."""

from __future__ import annotations

import copy
import datetime as dt
import gc
import inspect
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy import inspect as inspect_database
from sqlalchemy.exc import IntegrityError

import lamindb as ln
from lamindb import instance
from lamindb.db import schema
from lamindb.errors import (
    AddError,
    DatabaseConflictError,
    DataError,
    DataTypeError,
    DeleteError,
    FieldUnknownError,
    FormatError,
    HasDependentsError,
    KeyConflictError,
    LaminError,
    NameRequiredError,
    ObjectChangedError,
    RecordError,
)
from lamindb.records import adding, deleting
from lamindb.storage import sources

pytestmark = pytest.mark.databases("full")

FRAME = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})
TABLES = {
    "user": "id handle email name created_at updated_at",
    "storage": "id root host type region managed created_at updated_at created_by_id",
    "transform": "id version name type key title reference reference_type source_hash "
    "created_by_id created_at updated_at",
    "run": "id transform_id transform_version name engine reference reference_type status "
    "started_at finished_at parent_id params environment_id error details host pid "
    "process_started_at heartbeat_at created_by_id created_at",
    "file": "id name suffix size hash hash_type hash_note key run_id transform_id "
    "transform_version storage_id source_uri is_latest description created_at updated_at "
    "created_by_id",
    "attempt": "run_id number status started_at finished_at error",
    "run_file": "run_id file_id role how matched_by created_at",
    "run_run": "run_id other_id role",
}
CLASSES = {"user": ln.User, "storage": ln.Storage, "transform": ln.Transform, "run": ln.Run}


@pytest.fixture(autouse=True)
def storage(tmp_path: Path) -> Path:
    ln.setup.init(storage=tmp_path / "storage", name="records")
    return tmp_path / "storage"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Write a file outside of the storage."""

    def make(name: str = "a.txt", content: str = "content") -> Path:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return make


@pytest.fixture
def tracked() -> ln.Run:
    return ln.track(ln.Transform("Analysis"))


def rows() -> dict[str, int]:
    with instance.current().database.read() as connection:
        return {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
            for name in schema.metadata.tables
        }


def links() -> list[tuple[str, str, str, str]]:
    table = schema.run_file
    with instance.current().database.read() as connection:
        found = connection.execute(
            select(table.c.run_id, table.c.file_id, table.c.role, table.c.how)
        )
        return sorted(tuple(row) for row in found)


# --- columns and values -------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "columns"), TABLES.items())
def test_the_columns_are_those_of_the_contract_in_its_order(table: str, columns: str) -> None:
    assert [column.name for column in schema.metadata.tables[table].columns] == columns.split()
    with instance.current().database.read() as connection:
        found = [column["name"] for column in inspect_database(connection).get_columns(table)]
    assert found == columns.split()


@pytest.mark.parametrize("name", [*CLASSES, "file"])
def test_a_dataframe_has_the_columns_of_the_table_in_its_order(name: str) -> None:
    frame = ln.select(getattr(ln, name.capitalize())).df()
    assert [*frame.index.names, *frame.columns] == TABLES[name].split()


def test_times_are_in_utc_with_their_zone(make: Callable[..., Path], tracked: ln.Run) -> None:
    before = dt.datetime.now(dt.UTC)
    file = ln.File(make())
    ln.add(file)
    ln.finish()
    for record in (file, ln.select(ln.File).one(), ln.select(ln.Run).one(), tracked):
        times = {
            name: getattr(record, name)
            for name in TABLES[type(record).__name__.lower()].split()
            if name.endswith("_at")
        }
        assert {each.tzinfo for each in times.values()} == {dt.UTC}
        assert abs(record.created_at - before) < dt.timedelta(minutes=1)


def test_a_time_without_a_zone_is_refused() -> None:
    run = ln.Run(ln.Transform("x"))
    run.started_at = dt.datetime(2024, 1, 1)
    with pytest.raises(Exception, match="no time zone"):
        ln.add(run)
    zoned = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=5)))
    run.started_at = zoned
    ln.add(run)
    assert ln.select(ln.Run).one().started_at == zoned
    assert ln.select(ln.Run).one().started_at.tzinfo == dt.UTC


def test_a_transform_has_the_defaults_of_the_contract() -> None:
    transform = ln.Transform("My script")
    assert (transform.version, transform.type, transform.key) == ("0", "pipeline", None)
    for kind in ("pipeline", "notebook", "script", "app", "function"):
        assert ln.Transform("x", type=kind).type == kind
    with pytest.raises(ValueError, match="take one of pipeline, notebook, script, app, function"):
        ln.Transform("x", type="workflow")
    with pytest.raises(ValueError, match="needs a name"):
        ln.Transform()
    with pytest.raises(ValueError, match="is not a string"):
        ln.Transform("x", version=1)


def test_versions_of_a_transform_are_one_id_with_several_rows() -> None:
    first = ln.add(ln.Transform("x", version="1"))
    second = ln.add(ln.Transform("x", version="2", id=first.id))
    assert first != second
    assert ln.select(ln.Transform, id=first.id).count() == 2
    runs = [ln.add(ln.Run(each)) for each in (first, second, second)]
    assert (first.runs, second.runs) == (runs[:1], runs[1:])
    with pytest.raises(RecordError, match="unique"):
        ln.add(ln.Transform("y", version="2", id=first.id))


def test_params_come_back_as_they_were() -> None:
    params = {"max_z": 3.5, "names": ["a", None], "deep": {"on": True}, "ünï": "✓"}
    ln.track(ln.Transform("x"), params=params)
    assert ln.select(ln.Run).one().params == params


@pytest.mark.parametrize(
    "params",
    [{"x": object()}, {"x": float("nan")}, {"x": {1, 2}}, ["x"]],
    ids=["object", "nan", "set", "list"],
)
def test_params_that_are_not_json_are_refused(params: Any) -> None:
    with pytest.raises(RecordError, match="params"):
        ln.Run(ln.Transform("x"), params=params)


# --- the constructor ----------------------------------------------------------------------------


def test_making_records_writes_nothing(
    make: Callable[..., Path], storage: Path, tracked: ln.Run
) -> None:
    path, before, there = make(), rows(), sorted(storage.rglob("*"))
    made = [
        ln.File(path, key="a.txt"),
        ln.File(path.parent),
        ln.File(FRAME, name="frame"),
        ln.File(path, run=ln.Run(ln.Transform("x"))),
        ln.Transform("x"),
        ln.Run(ln.Transform("x"), parent=tracked),
        ln.Storage(path.parent),
        ln.User("someone"),
    ]
    assert all(repr(each).startswith(type(each).__name__) for each in made)
    assert rows() == before
    assert sorted(storage.rglob("*")) == there
    assert not (path.parent / ".lamindb").exists()


def test_making_a_file_reads_nothing_large(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_open", lambda path: pytest.fail(f"{path} was opened"))
    file = ln.File(make(content="x" * 1000), key="k.txt")
    assert (file.size, file.suffix) == (1000, ".txt")
    assert "hash" not in repr(file)


def test_the_hash_is_there_before_the_file_is_added(make: Callable[..., Path]) -> None:
    file = ln.File(make(content="a"))
    assert file.hash == "DMF1ucDxtqgxw5niaXcmYQ"
    assert "hash='DMF1ucDxtqgxw5niaXcmYQ'" in repr(file)


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        (None, None, "a.txt"),
        (None, "deep/k.txt", "k.txt"),
        ("given", None, "given"),
        ("given.csv", "deep/k.txt", "given.csv"),
        ("", "deep/k.txt", "k.txt"),
    ],
)
def test_a_file_is_named_as_given_else_by_its_key_else_by_its_path(
    make: Callable[..., Path], name: str | None, key: str | None, expected: str
) -> None:
    file = ln.add(ln.File(make(), name=name, key=key, description="why"))
    assert (file.name, file.key, file.suffix) == (expected, key, ".txt")
    assert ln.select(ln.File, name=expected).one().description == "why"


@pytest.mark.parametrize("data", [None, 5, b"bytes", {"a": 1}, [1], io.StringIO("x"), object()])
def test_data_of_another_kind_is_a_type_error_that_says_what_is_taken(data: Any) -> None:
    with pytest.raises(
        TypeError, match=r"path \(str, Path, UPath, URL\).*or a DataFrame"
    ) as caught:
        ln.File(data, key="k.txt")
    assert isinstance(caught.value, DataTypeError)
    assert type(data).__name__ in str(caught.value)


@pytest.mark.parametrize("path", ["", "nowhere.txt", "no/where", "~/nowhere", Path("nowhere")])
def test_a_missing_path_is_a_file_not_found_error(path: Any) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ln.File(path)
    assert isinstance(caught.value, DataError)
    assert str(path).replace("~/", "") in str(caught.value)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_that_ends_leaves_a_frame_to_its_parent() -> None:
    file = ln.File(FRAME, name="frame.parquet")
    child = os.fork()
    if child == 0:
        weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # as at the end of a process
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ln.add(file).load().equals(FRAME)


def test_a_frame_needs_a_name_or_a_key() -> None:
    with pytest.raises(ValueError, match=r"pass key=.* or name=") as caught:
        ln.File(FRAME)
    assert isinstance(caught.value, NameRequiredError)


@pytest.mark.parametrize(
    ("arguments", "name", "suffix"),
    [
        ({"name": "frame"}, "frame", ".parquet"),
        ({"name": "frame.csv"}, "frame.csv", ".csv"),
        ({"name": "frame", "format": "csv"}, "frame", ".csv"),
        ({"name": "my.table", "format": ".csv"}, "my.table", ".table.csv"),
        ({"key": "t/frame"}, "frame", ".parquet"),
        ({"key": "t/frame.tsv"}, "frame.tsv", ".tsv"),
        ({"key": "t/frame", "format": ".feather"}, "frame", ".feather"),
        ({"key": "t/frame.parquet", "format": "parquet"}, "frame.parquet", ".parquet"),
        ({"key": "my.table.parquet"}, "my.table.parquet", ".table.parquet"),
        ({"key": "run.v2.parquet"}, "run.v2.parquet", ".parquet"),
        ({"key": "run.v2"}, "run.v2", ".parquet"),
        ({"key": "frame.csv.gz"}, "frame.csv.gz", ".csv.gz"),
        ({"name": "frame.csv", "key": "t/frame.tsv"}, "frame.csv", ".tsv"),
    ],
    ids=str,
)
def test_a_frame_is_written_by_its_format_or_suffix_else_as_parquet(
    arguments: dict[str, str], name: str, suffix: str
) -> None:
    file = ln.add(ln.File(FRAME, **arguments))
    assert (file.name, file.suffix, file.key) == (name, suffix, arguments.get("key"))
    pd.testing.assert_frame_equal(ln.select(ln.File).one().load(), FRAME)


@pytest.mark.parametrize(
    "arguments", [{"key": "t.xlsx"}, {"name": "x", "format": "docx"}, {"name": "t.txt"}], ids=str
)
def test_a_frame_in_an_unknown_format_is_refused_with_the_known_ones(
    arguments: dict[str, str],
) -> None:
    with pytest.raises(ValueError, match=r"take \.parquet, \.csv") as caught:
        ln.File(FRAME, **arguments)
    assert isinstance(caught.value, FormatError)


@pytest.mark.parametrize("arguments", [{"key": "t.parquet"}, {"name": "t.tsv.gz"}], ids=str)
def test_a_format_that_contradicts_the_suffix_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"ends in another format than '\.csv'"):
        ln.File(FRAME, **arguments, format="csv")


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv", ".csv.gz", ".tsv.gz", ".json"])
def test_the_same_frame_has_the_same_hash_at_any_time(suffix: str) -> None:
    from lamindb.formats import ln_serializer

    first = ln.File(FRAME, key=f"t{suffix}").hash
    writer = ln_serializer(FRAME, suffix)
    path = Path(f"later{suffix}")
    writer(FRAME, path)
    if suffix.endswith(".gz"):
        # the time of writing would lie in bytes 4 to 7
        assert path.read_bytes()[4:8] == b"\1\0\0\0"
    assert ln.File(FRAME, key=f"t{suffix}").hash == first


def test_an_index_that_is_data_is_kept_in_every_format() -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["p", "q"], name="sample"))
    for suffix, loaded in {
        ".parquet": lambda got: got,
        ".csv": lambda got: got.set_index("sample"),
        ".json": lambda got: pd.DataFrame(got).set_index("sample"),
    }.items():
        file = ln.add(ln.File(frame, key=f"t{suffix}"))
        pd.testing.assert_frame_equal(loaded(file.load()), frame)


def test_an_array_is_read_but_nothing_pickled_in_it(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "plain.npy", numpy.arange(3))
    numpy.save(tmp_path / "objects.npy", numpy.array([{"code": "runs"}]), allow_pickle=True)
    assert ln.add(ln.File(tmp_path / "plain.npy")).load().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        ln.add(ln.File(tmp_path / "objects.npy")).load()


@pytest.mark.parametrize("library", ["anndata", "zarr"])
def test_a_format_whose_library_is_missing_says_what_to_install(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    file = ln.add(ln.File(make({"anndata": "a.h5ad", "zarr": "a.zarr"}[library])))
    with pytest.raises(FormatError, match=f"pip install {library}"):
        file.load()


class FrameOfMine(pd.DataFrame):
    """Somebody's subclass."""


def test_a_subclass_of_a_frame_is_a_frame() -> None:
    file = ln.add(ln.File(FrameOfMine(FRAME), key="t.parquet"))
    pd.testing.assert_frame_equal(file.load(), FRAME)


def test_no_temporary_file_of_a_frame_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    file = ln.File(FRAME, key="added.parquet")
    assert set(tmp_path.iterdir()) != before
    ln.add(file)
    assert set(tmp_path.iterdir()) == before
    abandoned = ln.File(FRAME, key="abandoned.parquet")
    del abandoned
    gc.collect()
    assert set(tmp_path.iterdir()) == before


def test_the_run_of_a_file_is_the_tracked_one(make: Callable[..., Path], tracked: ln.Run) -> None:
    file = ln.File(make())
    assert file.run == ln.context.run == tracked
    assert file.transform == ln.context.transform
    assert ln.add(file).run == ln.context.run
    assert ln.select(ln.File).one().run == ln.context.run


def test_a_given_run_goes_before_the_tracked_one(
    make: Callable[..., Path], tracked: ln.Run
) -> None:
    other = ln.Run(ln.Transform("Other", type="script"), name="by hand")
    file = ln.add(ln.File(make(), run=other))
    assert file.run == other
    assert ln.select(ln.File).one().transform.name == "Other"
    assert ln.select(ln.Run, id=other.id).one().outputs == [file]
    assert tracked.outputs == []


def test_a_file_without_a_run_is_noted_quietly(
    make: Callable[..., Path], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "lamindb"):
        file = ln.add(ln.File(make()))
    assert file.run is None
    assert file.transform is None
    assert [record.message for record in caplog.records] == [
        "a.txt has no run: call ln.track() first to link it to one"
    ]
    assert capfd.readouterr() == ("", "")


# --- equality -----------------------------------------------------------------------------------


def test_records_are_equal_by_type_and_primary_key(make: Callable[..., Path]) -> None:
    file = ln.add(ln.File(make(), key="k.txt"))
    again = ln.select(ln.File).one()
    assert file is not again
    assert file == again
    assert hash(file) == hash(again)
    assert {file: "found"}[again] == "found"
    assert len({file, again}) == 1
    assert file != ln.File(make(), key="k.txt")
    assert file != file.id
    assert file is not None
    one, other = ln.Transform("x", id="T" * 12), ln.Transform("y", version="1", id="T" * 12)
    assert one != other
    assert ln.Transform("another name", id="T" * 12) == one
    assert ln.Run(one, id="R" * 20) != ln.User("x", id="R" * 20)


def test_a_record_shows_what_is_set_in_it(make: Callable[..., Path], tracked: ln.Run) -> None:
    file = ln.add(ln.File(make(), key="k.txt"))
    assert repr(file) == (
        f"File(id={file.id!r}, name='k.txt', suffix='.txt', size=7, hash={file.hash!r}, "
        f"key='k.txt', run_id={tracked.id!r})"
    )
    assert repr(tracked).startswith(f"Run(id={tracked.id!r}, transform_id=")
    assert "started_at=20" in repr(tracked)


# --- relations ----------------------------------------------------------------------------------


def reload_instance(record: Any) -> Any:
    ln.setup.close()
    ln.setup.load("records")
    return record


def in_thread(record: Any) -> Any:
    return record


def copied_by_pickle(record: Any) -> Any:
    return pickle.loads(pickle.dumps(record))


WAYS = [in_thread, reload_instance, copied_by_pickle, copy.copy, copy.deepcopy, lambda each: each]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("origin", ["select", "add"])
def test_relations_work_on_any_record_without_a_session(
    make: Callable[..., Path], origin: str, way: Callable[[Any], Any]
) -> None:
    parent = ln.track(ln.Transform("Parent"))
    first = ln.add(ln.File(make("in.txt", "in"), key="in.txt"))
    run = ln.add(ln.Run(ln.Transform("Child"), parent=parent))
    file = ln.add(ln.File(make("out.txt", "out"), key="out.txt", run=run))
    with instance.current().database.begin() as connection:
        from lamindb.records.links import write_links

        write_links(connection, [(run.id, first.id)], "input")
    if origin == "select":
        file = ln.select(ln.File, key="out.txt").one()
        run = ln.select(ln.Run, id=run.id).one()
    transform, user = run.transform, ln.setup.settings.user
    file, run, transform = (way(each) for each in (file, run, transform))
    seen: dict[str, Any] = {}

    def look() -> None:
        seen.update(
            run=file.run,
            transform=file.transform,
            storage=file.storage.root,
            created_by=file.created_by,
            of_run=run.transform,
            inputs=run.inputs,
            outputs=run.outputs,
            parent=run.parent,
            children=run.parent.children,
            runs=transform.runs,
            staged=file.stage().read_text(),
        )

    if way is in_thread:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    else:
        look()
    assert seen == {
        "run": run,
        "transform": transform,
        "storage": str(ln.setup.settings.storage.root),
        "created_by": user,
        "of_run": transform,
        "inputs": [first],
        "outputs": [file],
        "parent": parent,
        "children": [run],
        "runs": [run],
        "staged": "out",
    }


def test_relations_work_before_anything_is_added(make: Callable[..., Path]) -> None:
    transform = ln.Transform("Child")
    run = ln.Run(transform, parent=ln.Run(ln.Transform("Parent")))
    file = ln.File(make(), run=run)
    assert file.run is run
    assert file.transform is transform
    assert file.storage == ln.select(ln.Storage).one()
    assert file.created_by is None
    assert (run.inputs, run.outputs, transform.runs, run.parent.children) == ([], [], [], [])
    assert run.parent.transform.name == "Parent"
    assert ln.add(file).created_by == ln.setup.settings.user
    assert [each.name for each in ln.select(ln.Transform).order_by(ln.Transform.name).all()] == [
        "Child",
        "Parent",
    ]
    assert run.parent.children == [run]


def test_a_relation_can_be_set_and_cleared(make: Callable[..., Path], tracked: ln.Run) -> None:
    file = ln.add(ln.File(make()))
    other = ln.add(ln.Run(tracked.transform))
    file.run = other
    ln.add(file)
    assert ln.select(ln.File, run=other).one() == file
    assert other.outputs == [file]
    file.run = None
    ln.add(file)
    assert ln.select(ln.File).one().run is None


def test_a_record_of_another_instance_says_so(
    make: Callable[..., Path], tmp_path: Path, tracked: ln.Run
) -> None:
    file = ln.add(ln.File(make(), key="k.txt"))
    file = ln.select(ln.File).one()
    ln.setup.init(storage=tmp_path / "other", name="other")
    with pytest.raises(RecordError, match="not in the instance 'other'"):
        _ = file.run
    with pytest.raises(LaminError):
        file.stage()
    ln.setup.load("records")
    assert file.run == tracked


def test_copies_of_a_record_are_records_of_the_same_row(make: Callable[..., Path]) -> None:
    file = ln.add(ln.File(make(), key="k.txt"))
    for way in (copied_by_pickle, copy.copy, copy.deepcopy):
        other = way(file)
        other.description = way.__name__
        assert file.description != way.__name__
        ln.add(other)
        assert ln.select(ln.File).one().description == way.__name__
        assert ln.add(file) is file
        assert ln.select(ln.File).one().description == way.__name__


def test_a_record_goes_to_another_process_and_back(
    make: Callable[..., Path], tracked: ln.Run, tmp_path: Path
) -> None:
    ln.add(ln.File(make(content="a"), key="k.txt"))
    parcel = tmp_path / "parcel"
    parcel.write_bytes(pickle.dumps(ln.select(ln.File).one()))
    code = (
        "import pathlib, pickle, sys; path = pathlib.Path(sys.argv[1]); "
        "file = pickle.loads(path.read_bytes()); assert file.load() == 'a'; "
        "print(file.run.transform.name, type(file.path()).__name__); "
        "path.write_bytes(pickle.dumps((file, file.path())))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(parcel)], capture_output=True, text=True
    )
    assert child.stdout == "Analysis RecordedPath\n", child.stderr
    file, path = pickle.loads(parcel.read_bytes())
    assert file == ln.select(ln.File).one()
    assert path == file.path()
    # the child was started by the tracked run, and read the file
    assert tracked.inputs == []
    assert tracked.outputs == [file]


# --- inputs -------------------------------------------------------------------------------------

READS: dict[str, Callable[[ln.File], Any]] = {
    "stage": lambda file: file.stage(),
    "load": lambda file: file.load(),
    "open": lambda file: file.path().open().close(),
    "open for bytes": lambda file: file.path().open("rb").close(),
    "open for more": lambda file: file.path().open(mode="r+").close(),
    "read_text": lambda file: file.path().read_text(encoding="utf-8"),
    "read_bytes": lambda file: file.path().read_bytes(),
}


@pytest.fixture
def source_file(make: Callable[..., Path]) -> ln.File:
    return ln.add(ln.File(make("source.txt", "text"), key="source.txt"))


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_inside_a_tracked_run_makes_an_input_once(
    source_file: ln.File, read: Callable[[ln.File], Any]
) -> None:
    run = ln.track(ln.Transform("Reader"))
    assert run.inputs == []
    for _ in range(2):
        read(source_file)
        read(ln.select(ln.File).one())
    assert run.inputs == [source_file]
    assert links() == [(run.id, source_file.id, "input", "declared")]


def test_an_object_that_changes_while_it_is_loaded_is_not_taken_for_what_was_recorded(
    source_file: ln.File, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_text = Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "source.txt":
            path.write_text("other")
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read)
    with pytest.raises(ObjectChangedError, match="changed without lamindb"):
        source_file.load()


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_outside_of_a_run_makes_no_input(
    source_file: ln.File, read: Callable[[ln.File], Any]
) -> None:
    read(source_file)
    run = ln.track(ln.Transform("Reader"))
    ln.finish()
    read(source_file)
    assert run.inputs == []
    assert links() == []


def test_looking_at_a_path_or_writing_to_it_is_no_reading(
    source_file: ln.File, tracked: ln.Run
) -> None:
    path = source_file.path()
    assert path.exists()
    assert path.stat().st_size == 4
    assert path.parent.is_dir()
    assert (path.name, path.suffix) == ("source.txt", ".txt")
    assert path == Path(str(path))
    assert repr(path) == repr(Path(str(path)))
    with path.open("a") as stream:
        stream.write("")
    assert tracked.inputs == []


@pytest.mark.parametrize("read", ["stage", "load"])
@pytest.mark.parametrize("setting", [True, False])
@pytest.mark.parametrize("asked", [None, True, False])
def test_is_run_input_goes_before_the_setting(
    source_file: ln.File,
    monkeypatch: pytest.MonkeyPatch,
    read: str,
    setting: bool,
    asked: bool | None,
) -> None:
    monkeypatch.setattr(ln.settings, "record_inputs", setting)
    run = ln.track(ln.Transform("Reader"))
    getattr(source_file, read)(is_run_input=asked)
    expected = setting if asked is None else asked
    assert run.inputs == ([source_file] if expected else [])


def test_the_setting_holds_for_opening_too(
    source_file: ln.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ln.settings, "record_inputs", False)
    run = ln.track(ln.Transform("Reader"))
    source_file.path().read_text()
    assert run.inputs == []


def test_a_runs_own_output_is_its_input_only_when_asked_for(
    make: Callable[..., Path], tracked: ln.Run
) -> None:
    file = ln.add(ln.File(make()))
    file.load()
    file.stage()
    assert tracked.inputs == []
    file.stage(is_run_input=True)
    assert tracked.inputs == tracked.outputs == [file]


def test_a_failed_reading_is_no_input(source_file: ln.File, storage: Path) -> None:
    run = ln.track(ln.Transform("Reader"))
    (storage / "source.txt").unlink()
    for read in (source_file.stage, source_file.load):
        with pytest.raises(FileNotFoundError):
            read()
    with pytest.raises(FileNotFoundError):
        source_file.path().open()
    assert run.inputs == []


def test_a_file_that_is_not_added_is_nobodys_input(
    make: Callable[..., Path], tracked: ln.Run
) -> None:
    file = ln.File(make("b.txt", "b"))
    assert file.load() == "b"
    assert file.stage(is_run_input=True) == make("b.txt", "b")
    assert links() == []


def test_a_thread_reads_for_the_run_of_its_process(source_file: ln.File) -> None:
    run = ln.track(ln.Transform("Reader"))
    thread = threading.Thread(target=source_file.load)
    thread.start()
    thread.join()
    assert run.inputs == [source_file]


# --- add ----------------------------------------------------------------------------------------


def test_every_record_that_cannot_be_added_is_named(
    make: Callable[..., Path], storage: Path
) -> None:
    for name in ("taken.txt", "too.txt"):
        (storage / name).write_text("of nobody")
    files = [ln.File(make(name), key=name) for name in ("taken.txt", "free.txt", "too.txt")]
    with pytest.raises(AddError) as raised:
        ln.add(files)
    assert [record.key for record, _ in raised.value.failures] == ["taken.txt", "too.txt"]
    assert ln.select(ln.File).count() == 0


@pytest.mark.parametrize(
    ("entity", "fields"),
    [(ln.User, {"handle": "bob"}), (ln.Transform, {"name": "t"}), (ln.Storage, {"root": "more"})],
)
def test_threads_that_get_or_create_at_once_get_one_record(
    entity: Any, fields: dict[str, str], tmp_path: Path
) -> None:
    if "root" in fields:
        fields = {"root": str(tmp_path / "more")}
        (tmp_path / "more").mkdir()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ln.add(entity, **fields), range(8)))
    assert len(set(found)) == 1
    assert ln.select(entity, **fields).count() == 1


def test_a_list_in_gives_a_list_out(make: Callable[..., Path]) -> None:
    transform = ln.Transform("x")
    records = [
        ln.File(make("a.txt", "a"), key="a"),
        transform,
        ln.Run(transform),
        ln.User("someone"),
        ln.File(FRAME, key="t.parquet"),
    ]
    for form in (list, tuple, iter):
        given = form(records)
        assert ln.add(given) == records
    assert ln.add([records[0]]) == [records[0]]
    assert ln.add([]) == []
    found = {entity.__name__: entity for entity in (ln.File, ln.Transform, ln.Run, ln.User)}
    counts = {name: ln.select(entity).count() for name, entity in found.items()}
    assert counts == {"File": 2, "Transform": 1, "Run": 1, "User": 2}


def test_the_same_record_twice_in_a_list_is_added_once(make: Callable[..., Path]) -> None:
    file = ln.File(make(), key="k.txt")
    assert ln.add([file, file]) == [file, file]
    assert ln.select(ln.File).count() == 1


@pytest.mark.parametrize(
    "given", ["text", 5, None, b"x", object()], ids=["str", "int", "None", "bytes", "object"]
)
def test_what_is_no_record_is_refused(given: Any) -> None:
    for wrong in (given, [given]):
        with pytest.raises(ValueError, match="is not a record"):
            ln.add(wrong)


def test_two_files_with_one_key_in_a_list_are_refused(make: Callable[..., Path]) -> None:
    files = [ln.File(make(name, name), key="k.txt") for name in ("a.txt", "b.txt")]
    with pytest.raises(KeyConflictError, match=r"key 'k\.txt'"):
        ln.add(files)
    assert ln.select(ln.File).count() == 0


def test_the_same_keyless_content_twice_in_a_list_is_one_record(make: Callable[..., Path]) -> None:
    path = make()
    one, two = ln.add([ln.File(path), ln.File(path)])
    assert one == two
    assert ln.select(ln.File).one() == one


def test_a_failure_of_one_record_is_its_own_error(make: Callable[..., Path]) -> None:
    path = make()
    file = ln.File(path, key="k.txt")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.txt"):
        ln.add(file)


def test_a_failure_of_several_names_each_and_adds_none(make: Callable[..., Path]) -> None:
    paths = [make(f"{number}.txt", str(number)) for number in range(4)]
    files = [ln.File(path, key=path.name) for path in paths]
    paths[1].unlink()
    paths[3].write_text("changed meanwhile")
    before = rows()
    with pytest.raises(AddError) as caught:
        ln.add([ln.User("someone"), *files])
    assert [record for record, _ in caught.value.failures] == [files[1], files[3]]
    for part in ("none of 5 records", "name='1.txt'", "nothing lies at", "name='3.txt'"):
        assert part in str(caught.value)
    assert rows() == before
    assert not any(record._is_stored for record in files)


def test_a_failed_add_leaves_the_record_to_be_added_again(make: Callable[..., Path]) -> None:
    path = make(content="one")
    file = ln.File(path, key="k.txt")
    hidden = path.rename(path.with_name("hidden"))
    with pytest.raises(FileNotFoundError):
        ln.add(file)
    hidden.rename(path)
    # a rename changes the time of the inode, so the file is looked at anew
    assert ln.add(ln.File(path, key="k.txt")).load() == "one"


def test_what_a_record_refers_to_is_added_with_it(make: Callable[..., Path]) -> None:
    run = ln.Run(ln.Transform("x"), parent=ln.Run(ln.Transform("Parent")))
    file = ln.add(ln.File(make(), run=run))
    assert ln.select(ln.Run).count() == 2
    assert file.run.parent == run.parent
    assert ln.select(ln.Transform).count() == 2
    assert run.created_by == ln.setup.settings.user


def test_a_changed_record_is_updated_when_it_is_added_again(make: Callable[..., Path]) -> None:
    file = ln.add(ln.File(make(), key="k.txt"))
    file.description, file.name = "why", "another name"
    assert ln.select(ln.File).one().description is None
    assert ln.add(file) is file
    stored = ln.select(ln.File).one()
    assert (stored.description, stored.name, stored.key) == ("why", "another name", "k.txt")
    assert stored.updated_at > stored.created_at
    before = ln.select(ln.File).df()
    ln.add(file)
    pd.testing.assert_frame_equal(ln.select(ln.File).df(), before)
    transform = ln.add(ln.Transform("x"))
    transform.title = "Title"
    ln.add(transform)
    assert ln.select(ln.Transform).one().title == "Title"


def test_a_change_does_not_undo_what_others_have_changed(make: Callable[..., Path]) -> None:
    mine = ln.add(ln.File(make(), key="k.txt"))
    theirs = ln.select(ln.File).one()
    theirs.name = "theirs"
    ln.add(theirs)
    mine.description = "mine"
    ln.add(mine)
    stored = ln.select(ln.File).one()
    assert (stored.name, stored.description) == ("theirs", "mine")
    ln.add(ln.File(make("b.txt", "newer"), key="k.txt"))
    mine.description = "of the older version"
    ln.add(mine)
    assert ln.select(ln.File, all_versions=True, is_latest=False).one().description == (
        "of the older version"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "other.txt"),
        ("suffix", ".csv"),
        ("storage_id", "S" * 8),
        ("id", "F" * 20),
        ("hash", "x" * 22),
        ("size", 1),
        ("is_latest", False),
    ],
)
def test_what_says_where_the_object_is_cannot_be_changed(
    make: Callable[..., Path], field: str, value: Any
) -> None:
    file = ln.add(ln.File(make(), key="k.txt"))
    setattr(file, field, value)
    with pytest.raises(RecordError, match=f"{field} of .* cannot be set"):
        ln.add(file)
    stored = ln.select(ln.File).one()
    assert getattr(stored, field) != value
    assert stored.load() == "content"


def test_a_class_with_fields_gets_or_creates() -> None:
    first = ln.add(ln.User, handle="someone", name="Some One")
    assert ln.add(ln.User, handle="someone") == first
    assert ln.add(ln.User, handle="someone", name="Some One") == first
    assert ln.add(ln.User, handle="another") != first
    transform = ln.add(ln.Transform, name="x", type="script")
    assert ln.add(ln.Transform, name="x", type="script") == transform
    assert ln.add(ln.Transform, name="x", type="notebook") != transform
    run = ln.add(ln.Run, transform=transform, name="one")
    assert ln.add(ln.Run, transform=transform) == run
    storage = ln.select(ln.Storage).one()
    assert ln.add(ln.Storage, root=storage.root) == storage


def test_a_class_with_an_unknown_field_names_near_ones() -> None:
    with pytest.raises(AttributeError, match="did you mean handle") as caught:
        ln.add(ln.User, handel="x")
    assert isinstance(caught.value, FieldUnknownError)


def test_get_or_create_of_what_cannot_be_added_says_why() -> None:
    ln.add(ln.User, handle="someone")
    with pytest.raises(RecordError, match="another record has the same unique field"):
        ln.add(ln.User, handle="someone", name="Some One")


def test_what_another_creates_at_the_same_time_is_got(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def begin_try(connection: Connection, name: str) -> None:
        tries.append(name)
        if len(tries) == 2:
            connection.execute(insert(schema.user).values(id="AAAAaaaa", handle="newcomer"))

    def be_late(*_: Any) -> None:
        raise IntegrityError("INSERT", None, Exception("UNIQUE constraint failed: user.handle"))

    monkeypatch.setattr(adding, "serialise", begin_try)
    monkeypatch.setattr(adding, "_write_rows", be_late)
    assert ln.add(ln.User, handle="newcomer").id == "AAAAaaaa"


@pytest.mark.parametrize(
    ("entity", "fields"), [(ln.User, {}), (ln.File, {"key": "k"}), (ln.Run, {"status": "failed"})]
)
def test_a_class_that_cannot_be_made_of_its_fields_is_an_error_of_ours(
    entity: type, fields: dict[str, Any]
) -> None:
    with pytest.raises(LaminError):
        ln.add(entity, **fields)


def test_fields_with_a_record_are_refused() -> None:
    with pytest.raises(ValueError, match="fields go with a record class"):
        ln.add(ln.User("someone"), name="x")


def test_a_storage_keeps_what_it_was_made_with(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    storage = ln.add(ln.Storage(tmp_path / "more", region="basement", managed=True))
    stored = ln.select(ln.Storage, id=storage.id).one()
    assert (stored.region, stored.managed, stored.type) == ("basement", True, "local")
    assert (tmp_path / "more" / ".lamindb" / "storage_id").read_text().strip() == storage.id
    assert ln.add(ln.Storage(tmp_path / "more")) == storage


def test_a_storage_that_is_not_managed_leaves_no_marker(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    ln.add(ln.Storage(tmp_path / "more", managed=False))
    assert list((tmp_path / "more").iterdir()) == []


# --- delete -------------------------------------------------------------------------------------


def test_a_file_that_is_some_runs_input_is_kept(source_file: ln.File, storage: Path) -> None:
    run = ln.track(ln.Transform("Reader"))
    source_file.load()
    with pytest.raises(DeleteError, match=run.id) as caught:
        ln.delete(source_file, delete_data=True)
    assert isinstance(caught.value, HasDependentsError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.dependents == [f"run {run.id}"]
    assert "force=True" in str(caught.value)
    assert ln.select(ln.File).one().load(is_run_input=False) == "text"
    ln.delete(source_file, delete_data=True, force=True)
    assert ln.select(ln.File).count() == 0
    assert run.inputs == []
    assert not (storage / "source.txt").exists()


def test_what_others_depend_on_is_kept(make: Callable[..., Path]) -> None:
    parent = ln.add(ln.Run(ln.Transform("Parent")))
    run = ln.add(ln.Run(ln.Transform("Child"), parent=parent))
    file = ln.add(ln.File(make(), run=run))
    needed = {
        parent: run.id,
        run: file.id,
        run.transform: run.id,
        file.storage: "default storage",
        file.created_by: file.id,
    }
    before = rows()
    for record, dependent in needed.items():
        with pytest.raises(HasDependentsError, match=dependent):
            ln.delete(record)
    assert rows() == before
    ln.delete(file, delete_data=True)
    ln.delete([run, parent])
    ln.delete([parent.transform, run.transform])
    assert (ln.select(ln.Run).count(), ln.select(ln.Transform).count()) == (0, 0)


def test_all_that_depend_on_each_other_go_together(make: Callable[..., Path]) -> None:
    run = ln.track(ln.Transform("x"))
    file = ln.add(ln.File(make(), key="k.txt"))
    ln.finish()
    ln.delete([file, run, run.transform], delete_data=True)
    left = {name: count for name, count in rows().items() if count}
    assert left == {"user": 1, "storage": 1, "environment": 1}


def test_one_that_cannot_go_keeps_all_of_them(
    make: Callable[..., Path], source_file: ln.File
) -> None:
    ln.track(ln.Transform("Reader"))
    source_file.load()
    free = ln.add(ln.File(make("free.txt"), key="free.txt"))
    with pytest.raises(HasDependentsError):
        ln.delete([free, source_file], delete_data=True)
    assert ln.select(ln.File).count() == 2
    assert free.load() == "content"


def test_deleting_twice_in_one_call_is_deleting_once(source_file: ln.File) -> None:
    ln.delete([source_file, source_file], delete_data=True)
    assert ln.select(ln.File).count() == 0


def test_deleting_what_is_not_there_is_an_error(
    make: Callable[..., Path], source_file: ln.File
) -> None:
    with pytest.raises(RecordError, match="not in the database"):
        ln.delete(ln.File(make()), delete_data=True)
    ln.delete(source_file, delete_data=True)
    with pytest.raises(RecordError, match="not in the database"):
        ln.delete(source_file, delete_data=True)
    with pytest.raises(RecordError, match="is not a record"):
        ln.delete(["source.txt"])
    ln.delete([])


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect what this thread asks of the database."""
    engine, seen, thread = instance.current().database.engine, list[str](), threading.get_ident()

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == thread:  # the recorder has its own
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_a_long_list_takes_no_more_statements_than_a_short_one(
    make: Callable[..., Path], tracked: ln.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "_LOCATED_S", 3600.0)  # else asked for once a second
    counts = []
    for number in (2, 3, 60):  # the first one opens the instance
        paths = [make(f"{number}/{each}.txt", f"{number} {each}") for each in range(number)]

        def files(paths: list[Path] = paths) -> list[ln.File]:
            return [ln.File(path, key=f"k/{path.name}") for path in paths]

        with statements() as new:
            ln.add(files())
        with statements() as known:
            added = ln.add(files())
        with statements() as deleted:
            ln.delete(added, delete_data=True)
        counts.append((len(new), len(known), len(deleted)))
    assert counts[2] == counts[1]


def test_a_deletion_that_others_came_in_between_of_is_done_again(
    source_file: ln.File, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as PostgreSQL says of a deadlock, which nobody can have on demand
    delete_rows, tries = deleting._delete_rows, []

    def meet_others(*arguments: Any) -> None:
        tries.append((storage / "source.txt").exists())
        if len(tries) == 1:
            raise DatabaseConflictError("deadlock detected")
        delete_rows(*arguments)

    monkeypatch.setattr(deleting, "_delete_rows", meet_others)
    ln.delete(source_file, delete_data=True)
    assert len(tries) == 2
    assert ln.select(ln.File).count() == 0
    assert not (storage / "source.txt").exists()
    with instance.current().database.read() as connection:
        assert connection.execute(select(schema.journal)).all() == []


def test_of_a_long_list_the_one_that_is_needed_is_named(
    make: Callable[..., Path], source_file: ln.File, tracked: ln.Run
) -> None:
    source_file.load()
    others = [ln.add(ln.File(make(f"{each}.txt", str(each)))) for each in range(5)]
    with pytest.raises(HasDependentsError, match=f"name=.source.txt.*needed by run {tracked.id}"):
        ln.delete([*others, source_file], delete_data=True)
    ln.delete([*others, source_file], delete_data=True, force=True)
    assert ln.select(ln.File).count() == 0


class Terminal(io.StringIO):
    """Somebody at a keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "rows_left", "objects_left"),
    [("y", 0, 0), ("YES ", 0, 0), ("n", 0, 1), ("cancel", 1, 1), ("", 1, 1)],
)
def test_a_terminal_is_asked_whether_the_data_goes_too(
    source_file: ln.File,
    storage: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    rows_left: int,
    objects_left: int,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda prompt: answer if "source.txt" in prompt else "?")
    if rows_left:
        with pytest.raises(DeleteError, match="cancelled: nothing was deleted"):
            ln.delete(source_file)
    else:
        ln.delete(source_file)
    assert ln.select(ln.File).count() == rows_left
    assert (storage / "source.txt").exists() == bool(objects_left)


@pytest.mark.parametrize("stdin", [None, io.StringIO("y\n")], ids=["closed", "no terminal"])
def test_without_a_terminal_the_flag_is_required(
    source_file: ln.File, monkeypatch: pytest.MonkeyPatch, stdin: Any
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(DeleteError, match="delete_data=True or delete_data=False"):
        ln.delete(source_file)
    transform = ln.add(ln.Transform("x"))
    ln.delete(transform)
    assert ln.select(ln.File).one() == source_file
    assert ln.select(ln.Transform).count() == 0


# --- shape --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        (ln.File, "data, *, key=None, name=None, run=None, format=None, description=None"),
        (ln.add, "record, **fields"),
        (ln.delete, "record, delete_data=None, *, force=False"),
        (ln.File.stage, "self, is_run_input=None"),
        (ln.File.load, "self, is_run_input=None"),
        (ln.File.path, "self"),
        (ln.File.replace, "self, data, *, format=None"),
    ],
)
def test_the_calls_take_what_the_contract_says(call: Any, signature: str) -> None:
    found = inspect.signature(call)
    bare = found.replace(
        parameters=[each.replace(annotation=each.empty) for each in found.parameters.values()],
        return_annotation=found.empty,
    )
    assert str(bare) == f"({signature})"
