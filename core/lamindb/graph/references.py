"""Finds what a person means by an id, a key, a path or a name."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from sqlalchemy import Table, desc, false, or_, select

from lamindb import instance
from lamindb.config import is_remote
from lamindb.db.schema import file, run, transform
from lamindb.errors import RecordError
from lamindb.graph.model import Row, Subject


def find(reference: str) -> tuple[Table, Row]:
    """Return the table and row of a file, run or transform.

    By id, by a file's key, path or name, by a transform's name or key: the latest that fits.

    Raises: RecordError: nothing is recorded under that name.
    """
    if "\0" in reference:
        raise RecordError(f"{reference!r} has a NUL character, which no name has")
    (path, *resolved), key = _place(reference)
    candidates = (
        (file, file.c.id == reference),
        (run, run.c.id == reference),
        (transform, transform.c.id == reference),
        (file, file.c.key == reference),
        (file, file.c.source_uri == path),
        # outside of the storage it has none, and files without a key are not meant
        (file, file.c.key == key if key is not None else false()),
        *((file, file.c.source_uri == each) for each in resolved),
        (file, file.c.name == reference),
        (transform, or_(transform.c.name == reference, transform.c.key == reference)),
    )
    for table, condition in candidates:
        order = [desc(table.c.created_at)]
        if table is file:
            order.insert(0, desc(file.c.is_latest))
        row = first(select(table).where(condition).order_by(*order).limit(1))
        if row is not None:
            return table, row
    # last and without quotes around it: it may need its own
    search = shlex.join(["lamin", "files", *filter(None, [Path(reference).name])])
    raise RecordError(
        f"nothing is recorded as {reference!r}, by id, key, name or path: see 'lamin runs', or "
        f"{search}"
    )


def _place(reference: str) -> tuple[list[str], str | None]:
    """Return what a reference is as paths, and as a key of the default storage."""
    paths = paths_of(reference)
    return paths, instance.current().default_location.store.key_of(paths[0])


def paths_of(reference: str) -> list[str]:
    """Return the paths that a reference may be recorded as, the likeliest first.

    As it is written; with its folders resolved, for a link is recorded under its own name; and
    with all of it resolved.
    """
    if is_remote(reference):
        return [reference]
    path = os.path.abspath(reference)  # noqa: PTH100 - Path.absolute leaves '..' in it
    folder, name = os.path.split(path)
    inside = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
    return list(dict.fromkeys((path, inside, os.path.realpath(reference))))


def namesakes(reference: str, row: Row) -> int:
    """Return how many other files were found by this name, if it is by its name that one was."""
    paths, key = _place(reference)
    is_named = row["name"] == reference and row["source_uri"] not in paths
    if not is_named or (row["key"] is not None and row["key"] in (reference, key)):
        return 0
    same = (file.c.name == reference, file.c.is_latest, file.c.id != row["id"])
    return len(rows(select(file.c.id).where(*same).limit(1000)))


def subject_of(record: Any) -> Subject:
    """Return the file or run that a record, id, key, path or name stands for.

    A transform stands for its latest run.

    Raises: RecordError: it is not recorded, or is neither.
    """
    if isinstance(record, Subject):
        return record
    if isinstance(record, str | Path):
        table, row = find(str(record))
    else:
        table, row = _row_of(record)
    if table is transform:
        latest = first(
            select(run)
            .where(run.c.transform_id == row["id"])
            .order_by(desc(run.c.started_at), desc(run.c.id))
            .limit(1)
        )
        if latest is None:
            raise RecordError(f"the transform {row['name']!r} has no runs: name a file or a run")
        return Subject("run", latest)
    return Subject("file" if table is file else "run", row)


def _row_of(record: Any) -> tuple[Table, Row]:
    table = getattr(type(record), "__table__", None)
    if table not in (file, run, transform):
        raise RecordError(
            f"{record!r} has no lineage: give a File, a Run or a Transform, or the id, key, path "
            "or name of one"
        )
    query = select(table).where(table.c.id == record.id)
    if table is transform:
        query = query.where(table.c.version == record.version)
    row = first(query)
    if row is None:
        raise RecordError(f"{record!r} is not recorded: add it with ln.add(...) first")
    return table, row


def rows(query: Any) -> list[Row]:
    """Return the rows of a query as dicts."""
    with instance.reading().database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def first(query: Any) -> Row | None:
    """Return the first row of a query as a dict."""
    return next(iter(rows(query)), None)
