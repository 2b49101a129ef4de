"""What refers to records that are to be deleted, and is not deleted with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, null, select, tuple_

from lamindb import instance
from lamindb.db import schema
from lamindb.db.database import chunked
from lamindb.errors import HasDependentsError, RecordError
from lamindb.records.base import Record, table_of
from lamindb.records.file import File
from lamindb.records.run import Run
from lamindb.records.storage import Storage
from lamindb.records.transform import Transform

_SHOWN = 5
# table and primary key of what goes
_Gone = set[tuple[str, Any]]


def refuse_missing(connection: Connection, records: Iterable[Record]) -> None:
    """Raise RecordError for a record that the database does not have."""
    for kind, group in groupby(records, type):
        keys, wanted = table_of(kind).primary_key, list(group)
        there = {
            tuple(row)
            for chunk in chunked(record._primary_key() for record in wanted)
            for row in connection.execute(select(*keys).where(tuple_(*keys).in_(chunk)))
        }
        for record in wanted:
            if record._primary_key() not in there:
                raise RecordError(f"{record!r} is not in the database: nothing was deleted")


def refuse_needed(connection: Connection, records: Sequence[Record], force: bool) -> None:
    """Raise HasDependentsError for a record that others need; of Files ``force`` lets them go."""
    gone = {(type(each).__name__.lower(), each._primary_key()[0]) for each in records}
    for kind, group in groupby(records, type):
        if force and issubclass(kind, File):
            continue
        for record in _needed(connection, kind, list(group), gone):
            dependents = _dependents(connection, record, gone)
            raise HasDependentsError(
                f"{record!r} is needed by {', '.join(dependents)}: delete those first"
                + (", or pass force=True" if issubclass(kind, File) else ""),
                dependents,
            )


def _needed(
    connection: Connection, kind: type[Record], records: list[Record], gone: _Gone
) -> Iterator[Record]:
    """Yield those of one kind that something else refers to."""
    file, run, links = schema.file.c, schema.run.c, schema.run_file.c
    looks: list[tuple[str, ColumnElement[Any], ColumnElement[Any], list[ColumnElement[bool]]]]
    if issubclass(kind, File):
        looks = [("run", links.file_id, links.run_id, [links.role == "input"])]
    elif issubclass(kind, Run):
        looks = [("file", file.run_id, file.id, []), ("run", run.parent_id, run.id, [])]
    else:  # of these there are few
        yield from (record for record in records if _dependents(connection, record, gone))
        return
    kinds = {name for name, _ in gone}
    needed: set[Any] = set()
    for name, refers, who, conditions in looks:
        # of which it is one matters only where some of that kind go as well
        other = who if name in kinds else null()
        for chunk in chunked(record._primary_key()[0] for record in records):
            query = select(refers, other).where(refers.in_(chunk), *conditions).distinct()
            needed |= {row[0] for row in connection.execute(query) if (name, row[1]) not in gone}
    yield from (record for record in records if record._primary_key()[0] in needed)


def _dependents(connection: Connection, record: Record, gone: _Gone) -> list[str]:
    """Name some of what refers to a record and is not deleted with it."""
    file, run, links = schema.file.c, schema.run.c, schema.run_file.c
    looks: list[tuple[str, ColumnElement[Any], list[ColumnElement[bool]]]]
    if isinstance(record, File):
        looks = [("run", links.run_id, [links.file_id == record.id, links.role == "input"])]
    elif isinstance(record, Run):
        looks = [
            ("file", file.id, [file.run_id == record.id]),
            ("run", run.id, [run.parent_id == record.id]),
        ]
    elif isinstance(record, Transform):
        looks = [
            (
                name,
                table.id,
                [table.transform_id == record.id, table.transform_version == record.version],
            )
            for name, table in (("run", run), ("file", file))
        ]
    elif isinstance(record, Storage):
        if record.id == instance.current().default_storage_id:
            return ["the instance, whose default storage it is"]
        looks = [("file", file.id, [file.storage_id == record.id])]
        gone = set()  # its place must be known until the objects are gone, which is after the rows
    else:
        user_id = record._primary_key()[0]
        looks = [
            (table.name, table.c.id, [table.c.created_by_id == user_id])
            for table in (schema.file, schema.run, schema.transform, schema.storage)
        ]
    found: list[str] = []
    for name, who, conditions in looks:
        rows = connection.execute(select(who).where(*conditions).limit(_SHOWN + len(gone)))
        found += [f"{name} {row_id}" for row_id in rows.scalars() if (name, row_id) not in gone]
    return found[:_SHOWN]
