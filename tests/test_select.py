"""``ln.select``: what is found, in which order, and what a DataFrame of it looks like."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy.exc import MultipleResultsFound, NoResultFound

import lamindb as ln
from lamindb.errors import FieldUnknownError, NoInstanceError, RecordError

pytestmark = pytest.mark.databases

RECORDS = [ln.File, ln.Transform, ln.Run, ln.Storage, ln.User]
DTYPES = {
    "File": {"size": "Int64", "is_latest": "boolean"},
    "Transform": {},
    "Run": {"pid": "Int64", "params": "object", "details": "object"},
    "Storage": {"managed": "boolean"},
    "User": {},
}


@pytest.fixture(autouse=True)
def storage(tmp_path: Path) -> Path:
    ln.setup.init(storage=tmp_path / "storage", name="select")
    return tmp_path / "storage"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., ln.File]:
    """Add a file with a key and as many bytes as asked for."""

    def put(key: str, size: int = 1, letter: str = "x", **fields: Any) -> ln.File:
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(letter * size)
        return ln.add(ln.File(path, key=key, **fields))

    return put


@pytest.fixture
def files(put: Callable[..., ln.File]) -> list[ln.File]:
    """Five files of two runs and of none, the later the smaller."""
    found = []
    for name in ("First", "Second"):
        ln.track(ln.Transform(name), params={"name": name})
        for number in range(2):
            found.append(put(f"{name}/{number}.csv", 10 - len(found)))
    ln.finish()
    return [*found, put("alone.txt", 1, description="on its own")]


# --- which -------------------------------------------------------------------------------------


def test_all_records_come_in_the_order_they_were_made(files: list[ln.File]) -> None:
    assert ln.select(ln.File).all() == files
    assert [run.name for run in ln.select(ln.Run).all()] == ["First", "Second"]
    assert ln.select(ln.Storage).all() == [files[0].storage]
    assert ln.select(ln.User).all() == [files[0].created_by]


def test_fields_are_equal_and_all_of_them(files: list[ln.File]) -> None:
    assert ln.select(ln.File, name="0.csv").all() == [files[0], files[2]]
    assert ln.select(ln.File, name="0.csv", size=8).all() == [files[2]]
    assert ln.select(ln.File, name="0.csv", size=1).all() == []
    assert ln.select(ln.File, description=None).all() == files[:4]
    assert ln.select(ln.File, hash=files[1].hash).all() == [files[1]]


def test_a_relation_is_a_field_too(files: list[ln.File]) -> None:
    run = files[0].run
    for same in (run, ln.select(ln.Run, id=run.id).one(), ln.Run(run.transform, id=run.id)):
        assert ln.select(ln.File, run=same).all() == files[:2]
        assert ln.select(ln.File).where(ln.File.run == same).all() == files[:2]
    assert ln.select(ln.File, run=None).all() == files[4:]
    assert ln.select(ln.File).where(ln.File.run != run).all() == files[2:]
    assert ln.select(ln.File, transform=files[2].transform).all() == files[2:4]
    assert ln.select(ln.File, storage=files[0].storage).count() == 5
    assert ln.select(ln.Run, transform=run.transform).all() == [run]
    assert ln.select(ln.Transform, created_by=ln.setup.settings.user).count() == 2


def test_expressions_are_those_of_sqlalchemy(files: list[ln.File]) -> None:
    file = ln.File
    wanted: dict[Any, list[ln.File]] = {
        (file.size > 8): files[:2],
        ((file.size > 9) | (file.size < 2)): [files[0], files[4]],
        ((file.size > 7) & file.key.startswith("Second")): [files[2]],
        ~file.key.contains("/"): [files[4]],
        file.suffix.in_([".txt", ".tsv"]): [files[4]],
        file.description.is_not(None): [files[4]],
        file.name.like("1%"): [files[1], files[3]],
        file.created_at.between(files[1].created_at, files[2].created_at): files[1:3],
        file.hash.in_([files[3].hash]): [files[3]],
        (file.created_at > dt.datetime(2000, 1, 1, tzinfo=dt.UTC)): files,
    }
    for condition, expected in wanted.items():
        assert ln.select(file).where(condition).all() == expected
    chained = ln.select(file).where(file.size > 7).where(file.name == "0.csv", file.size < 10)
    assert chained.all() == [files[2]]
    assert ln.select(file, suffix=".csv").where(file.size < 8).all() == [files[3]]


def test_comparing_values_instead_of_fields_is_an_error(files: list[ln.File]) -> None:
    with pytest.raises(ValueError, match="write it with the class"):
        ln.select(ln.File).where(files[0].size > 5)


@pytest.mark.parametrize(
    ("entity", "field", "near"),
    [
        (ln.File, "nmae", "name"),
        (ln.File, "transfrom", "transform"),
        (ln.Run, "finished", "finished_at"),
        (ln.User, "zzzzzz", "it has id, handle"),
        (ln.File, "_hash", "hash"),
        (ln.File, "metadata", ""),
        (ln.File, "load", ""),
    ],
)
def test_an_unknown_field_names_near_ones(entity: type, field: str, near: str) -> None:
    with pytest.raises(AttributeError, match=f"has no field '{field}'") as caught:
        ln.select(entity, **{field: 1})
    assert isinstance(caught.value, FieldUnknownError)
    assert near in str(caught.value)


@pytest.mark.parametrize("wrong", [(), ("File",), (5,), (object,), (ln.add,)])
def test_what_is_no_record_class_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(RecordError, match="record class"):
        ln.select(*wrong)


# --- versions -----------------------------------------------------------------------------------


@pytest.fixture
def versions(put: Callable[..., ln.File]) -> list[ln.File]:
    return [put("k.txt", 3, letter) for letter in "abc"]


def test_the_latest_versions_are_found_unless_all_are_asked_for(
    versions: list[ln.File], put: Callable[..., ln.File]
) -> None:
    other = put("other.txt")
    assert ln.select(ln.File).all() == [versions[2], other]
    assert ln.select(ln.File, key="k.txt").one() == versions[2]
    assert ln.select(ln.File, all_versions=True).all() == [*versions, other]
    assert ln.select(ln.File, all_versions=True, key="k.txt").count() == 3
    assert ln.select(ln.File).count() == 2
    assert list(ln.select(ln.File).df().index) == [versions[2].id, other.id]
    assert ln.select(ln.File).where(ln.File.size == 3).all() == [versions[2]]


def test_columns_of_files_are_those_of_the_latest_versions_too(versions: list[ln.File]) -> None:
    rows = ln.select(ln.File.key, ln.File.hash).all()
    assert [tuple(row) for row in rows] == [("k.txt", versions[2].hash)]
    assert ln.select(ln.File.key, all_versions=True).count() == 3


def test_asking_for_older_versions_by_name_finds_them(versions: list[ln.File]) -> None:
    assert ln.select(ln.File, all_versions=True, is_latest=False).all() == versions[:2]
    assert ln.select(ln.File, is_latest=False).all() == versions[:2]
    assert ln.select(ln.File, is_latest=True).all() == versions[2:]


# --- joins --------------------------------------------------------------------------------------


def test_files_are_joined_to_their_runs(files: list[ln.File]) -> None:
    named_second = ln.Run.name == "Second"
    for joined in (
        ln.select(ln.File).join(ln.File.run),
        ln.select(ln.File).join(ln.Run),
        ln.select(ln.File).join(ln.Run, ln.File.run_id == ln.Run.id),
    ):
        assert joined.where(named_second).all() == files[2:4]
        assert joined.where(named_second).count() == 2
        assert joined.count() == 4
        frame = joined.where(named_second).df()
        assert list(frame.index) == [file.id for file in files[2:4]]
        assert list(frame["name"]) == ["0.csv", "1.csv"]
    assert ln.select(ln.File).join(ln.File.run, isouter=True).count() == 5


def test_joins_go_on_and_in_every_direction(files: list[ln.File]) -> None:
    by_transform = ln.Transform.name == "First"
    assert (
        ln.select(ln.File).join(ln.File.run).join(ln.Run.transform).where(by_transform).all()
        == files[:2]
    )
    assert ln.select(ln.File).join(ln.File.transform).where(by_transform).all() == files[:2]
    assert ln.select(ln.File).join(ln.Transform).where(by_transform).all() == files[:2]
    assert ln.select(ln.File).join(ln.Storage).join(ln.User).count() == 5
    runs = ln.select(ln.Run).join(ln.File).where(ln.File.size == 10)
    assert runs.all() == [files[0].run]


def test_several_classes_give_tuples(files: list[ln.File]) -> None:
    both = ln.select(ln.File, ln.Run, suffix=".csv").join(ln.File.run)
    assert [tuple(row) for row in both.all()] == [(file, file.run) for file in files[:4]]
    assert both.count() == 4
    file, run = both.first()
    assert (file, run) == (files[0], files[0].run)
    assert isinstance(file.load(), pd.DataFrame)
    with pytest.raises(RecordError, match="one record class"):
        both.df()


def test_columns_give_values(files: list[ln.File]) -> None:
    assert ln.select(ln.File.size).order_by(ln.File.size).all() == [1, 7, 8, 9, 10]
    rows = ln.select(ln.File.name, ln.Run.name).join(ln.File.run).order_by(ln.File.size).all()
    assert [tuple(row) for row in rows] == [
        ("1.csv", "Second"),
        ("0.csv", "Second"),
        ("1.csv", "First"),
        ("0.csv", "First"),
    ]
    assert ln.select(ln.File.size).count() == 5


# --- order and number ---------------------------------------------------------------------------


def test_the_given_order_is_the_order(files: list[ln.File]) -> None:
    assert ln.select(ln.File).order_by(ln.File.size).all() == files[::-1]
    assert ln.select(ln.File).order_by(ln.File.size.desc()).all() == files
    by_two = ln.select(ln.File).order_by(ln.File.suffix.desc(), ln.File.size).all()
    assert by_two == [files[4], *files[3::-1]]
    last_counts = ln.select(ln.File).order_by(ln.File.suffix).order_by(ln.File.size).all()
    assert last_counts == files[::-1]
    assert list(ln.select(ln.File).order_by(ln.File.size).df()["size"]) == [1, 7, 8, 9, 10]
    assert ln.select(ln.File).order_by(ln.File.size).first() == files[4]


def test_limit_and_offset_cut_out_a_part(files: list[ln.File]) -> None:
    ordered = ln.select(ln.File).order_by(ln.File.size.desc())
    assert ordered.limit(2).all() == files[:2]
    assert ordered.offset(3).all() == files[3:]
    assert ordered.limit(2).offset(1).all() == files[1:3]
    assert ordered.limit(2).count() == 2
    assert ordered.offset(3).count() == 2
    assert len(ordered.limit(3).df()) == 3
    assert ordered.offset(4).one() == files[4]
    assert ordered.limit(1).one() == files[0]
    assert ordered.limit(1).one_or_none() == files[0]
    assert ordered.limit(0).all() == []
    assert ordered.offset(1).first() == files[1]


def test_each_step_leaves_the_query_before_it_as_it_was(files: list[ln.File]) -> None:
    query = ln.select(ln.File)
    for step in (query.where(ln.File.size > 8), query.limit(1), query.order_by(ln.File.size)):
        assert step is not query
    assert query.count() == 5
    assert query.all() == query.all() == files


# --- ends ---------------------------------------------------------------------------------------


def test_one_is_exactly_one(files: list[ln.File]) -> None:
    assert ln.select(ln.File, size=8).one() == files[2]
    assert ln.select(ln.File, size=8).one_or_none() == files[2]
    assert ln.select(ln.File, size=800).one_or_none() is None
    assert ln.select(ln.File, size=800).first() is None
    with pytest.raises(NoResultFound, match=r"no File where .*800"):
        ln.select(ln.File, size=800).one()
    for end in ("one", "one_or_none"):
        with pytest.raises(MultipleResultsFound, match=r"2 records match File where .*0\.csv"):
            getattr(ln.select(ln.File, name="0.csv"), end)()
    with pytest.raises(NoResultFound, match="no User where"):
        ln.select(ln.User, name="nobody").one()
    assert ln.select(ln.File, ln.Run, size=800).join(ln.Run).one_or_none() is None


def test_a_query_says_what_it_asks(files: list[ln.File]) -> None:
    query = ln.select(ln.File, name="0.csv").where(ln.File.run == files[0].run)
    assert repr(query).startswith("<Query of File where")
    assert "0.csv" in repr(query)
    assert files[0].run.id in repr(query)


def test_found_records_stay_usable_and_are_the_rows_as_they_are_now(
    files: list[ln.File],
) -> None:
    file = ln.select(ln.File, size=10).one()
    file.description = "changed"
    assert ln.select(ln.File, size=10).one().description is None
    ln.add(file)
    assert ln.select(ln.File, size=10).one().description == "changed"


# --- DataFrames ---------------------------------------------------------------------------------


def expected_dtypes(entity: type) -> dict[str, str]:
    names = [column.name for column in entity.__table__.columns]
    special = DTYPES[entity.__name__]
    return {
        name: special.get(name, "datetime64[us, UTC]" if name.endswith("_at") else "string")
        for name in names
    }


@pytest.mark.parametrize("entity", RECORDS, ids=lambda entity: entity.__name__)
@pytest.mark.parametrize("rows", ["some", "none"])
def test_a_frame_has_its_index_columns_and_types_whether_empty_or_not(
    files: list[ln.File], entity: type, rows: str
) -> None:
    query = ln.select(entity)
    frame = (query if rows == "some" else query.where(entity.id == "")).df()
    assert (len(frame) > 0) == (rows == "some")
    types = expected_dtypes(entity)
    index = ["id", "version"] if entity is ln.Transform else ["id"]
    assert list(frame.index.names) == index
    assert list(frame.columns) == [name for name in types if name not in index]
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        name: kind for name, kind in types.items() if name not in index
    }
    assert [str(frame.index.get_level_values(name).dtype) for name in index] == ["string"] * len(
        index
    )
    assert isinstance(frame.index, pd.MultiIndex) == (len(index) > 1)


def test_a_frame_can_be_put_together_with_an_empty_one(files: list[ln.File]) -> None:
    some, none = ln.select(ln.File).df(), ln.select(ln.File, name="nothing").df()
    together = pd.concat([none, some])
    pd.testing.assert_frame_equal(together, some)
    assert none.index.name == some.index.name == "id"
    assert none[none["size"] > 5].empty
    assert none["created_at"].max() is pd.NaT


def test_a_frame_holds_the_values_of_the_records(files: list[ln.File]) -> None:
    frame = ln.select(ln.File).df()
    for file in files:
        row = frame.loc[file.id]
        assert (row["name"], row["size"], row["hash"], row["is_latest"]) == (
            file.name,
            file.size,
            file.hash,
            True,
        )
        assert row["created_at"] == file.created_at
        assert row["created_at"].tzinfo is not None
    assert frame["run_id"].isna().tolist() == [False] * 4 + [True]
    assert frame["size"].sum() == 35
    runs = ln.select(ln.Run).df()
    assert runs["params"].tolist() == [{"name": "First"}, {"name": "Second"}]
    assert [set(details) for details in runs["details"]] == [{"plain", "lamindb"}] * 2


def test_transforms_are_indexed_by_id_and_version() -> None:
    first = ln.add(ln.Transform("x", version="1"))
    second = ln.add(ln.Transform("x", version="2", id=first.id))
    frame = ln.select(ln.Transform).df()
    assert list(frame.index) == [(first.id, "1"), (first.id, "2")]
    assert frame.loc[(first.id, "2"), "created_at"] == second.created_at
    assert ln.select(ln.Transform, id=first.id, version="2").one() == second


def test_a_frame_of_a_join_has_only_the_columns_of_its_class(files: list[ln.File]) -> None:
    frame = ln.select(ln.Run).join(ln.Run.transform).where(ln.Transform.name == "First").df()
    assert list(frame.columns) == list(ln.select(ln.Run).df().columns)
    assert list(frame["name"]) == ["First"]


def test_large_sizes_stay_integers(put: Callable[..., ln.File]) -> None:
    from lamindb import instance
    from lamindb.db import schema

    file = put("large.bin")
    with instance.current().database.begin() as connection:
        connection.execute(schema.file.update().values(size=2**53 + 1))
    assert ln.select(ln.File).df().loc[file.id, "size"] == 2**53 + 1
    assert ln.select(ln.File).one().size == 2**53 + 1
    with instance.current().database.begin() as connection:
        connection.execute(schema.file.update().values(size=None, hash=None, hash_note="too late"))
    frame = ln.select(ln.File).df()
    assert str(frame["size"].dtype) == "Int64"
    assert frame["size"].isna().all()
    assert ln.select(ln.File).one().hash is None


# --- Session and view ---------------------------------------------------------------------------


def test_a_session_adds_selects_and_deletes(put: Callable[..., ln.File]) -> None:
    with ln.Session() as session:
        transform = session.add(ln.Transform("x"))
        assert session.add(ln.Transform, name="x") == transform
        assert session.add([ln.User("one"), ln.User("two")]) == ln.select(ln.User).all()[1:]
        file = put("a.txt")
        put("a.txt", letter="y")
        assert session.select(ln.File).count() == 1
        assert session.select(ln.File, all_versions=True).count() == 2
        assert session.select(ln.Transform, name="x").one() == transform
        session.delete(session.select(ln.File).one(), delete_data=True)
        session.delete(transform)
    assert ln.select(ln.Transform).count() == 0
    assert ln.select(ln.File).one() == file


def test_an_error_in_a_session_comes_out_and_undoes_nothing_before_it() -> None:
    with pytest.raises(ZeroDivisionError), ln.Session() as session:
        session.add(ln.Transform("x"))
        _ = 1 / 0
    assert ln.select(ln.Transform).count() == 1


def test_without_an_instance_select_and_session_name_the_command() -> None:
    ln.setup.close()
    Path(".lamindb/instance.toml").unlink()
    for use in (
        lambda: ln.select(ln.File).all(),
        lambda: ln.select(ln.File).df(),
        lambda: ln.Session().__enter__(),
        ln.view,
    ):
        with pytest.raises(NoInstanceError, match="lamin init"):
            use()


def test_view_shows_the_last_rows_of_each_table(
    files: list[ln.File], capsys: pytest.CaptureFixture[str]
) -> None:
    ln.view(n=2)
    shown = capsys.readouterr().out
    for title in ("File", "Transform", "Run", "Storage", "User"):
        assert f"{title}\n" in shown
    for file in files:
        assert (file.id in shown) == (file in files[3:])
    assert files[0].hash not in shown
    ln.view()
    assert all(file.id in capsys.readouterr().out for file in files[:1])
