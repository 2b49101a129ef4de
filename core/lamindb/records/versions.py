"""Which row a transform is: by its code, or as a user has named it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Connection, insert, select

from lamindb.db import schema
from lamindb.db.database import serialise
from lamindb.hooks.events import InferredTransform
from lamindb.identifiers import TRANSFORM_ID_LENGTH, random_id
from lamindb.instance import Instance
from lamindb.records.transform import DEFAULT_VERSION

Row = dict[str, Any]


def version_of(
    connection: Connection, here: Instance, wanted: InferredTransform, at: dt.datetime | None = None
) -> Row:
    """Return a transform's row, which is added if it is new.

    Code seen before is the version that it was; new code of a known key is the next version of it.

    Within a transaction; until it ends, nobody else can add a version of this key or name.
    """
    if wanted.is_given:
        return _given(connection, here, wanted, at)
    serialise(connection, f"transform {wanted.key}")
    table = schema.transform
    versions = _rows(connection, table.c.key == wanted.key)
    for row in versions:
        if wanted.source_hash is None or row["source_hash"] == wanted.source_hash:
            return row
    numbers = [int(row["version"]) for row in versions if row["version"].isdecimal()]
    number = max(numbers, default=int(DEFAULT_VERSION)) + 1
    return _add(
        connection,
        here,
        wanted,
        at,
        id=versions[0]["id"] if versions else random_id(TRANSFORM_ID_LENGTH),
        version=str(number) if versions else DEFAULT_VERSION,
    )


def _given(
    connection: Connection, here: Instance, wanted: InferredTransform, at: dt.datetime | None
) -> Row:
    serialise(connection, f"transform {wanted.name} {wanted.type}")
    table = schema.transform
    if wanted.id is not None:
        known = _rows(connection, table.c.id == wanted.id)
    else:
        known = _of_project(
            _rows(connection, table.c.name == wanted.name, table.c.type == wanted.type), wanted
        )
    for row in known:
        if wanted.version in (None, row["version"]):
            return row
    first = known[0] if known else {}
    return _add(
        connection,
        here,
        wanted,
        at,
        id=wanted.id or first.get("id") or random_id(TRANSFORM_ID_LENGTH),
        version=wanted.version or DEFAULT_VERSION,
        key=first.get("key", wanted.key or None),
    )


def _of_project(rows: list[Row], wanted: InferredTransform) -> list[Row]:
    """Return the rows of a name that are meant by it, the likeliest first.

    The one that was added by this name in this project; else one that somebody has added by hand,
    without a key; else the code of that name in this project. Another project's is another one.
    """
    if not wanted.key:
        return rows
    project = wanted.key.removesuffix(f":{wanted.name} ({wanted.type})")
    return (
        [row for row in rows if row["key"] == wanted.key]
        or [row for row in rows if row["key"] is None]
        or [row for row in rows if (row["key"] or "").startswith(f"{project}/")]
    )


def _rows(connection: Connection, *conditions: Any) -> list[Row]:
    """Return what there is, the latest first."""
    table = schema.transform
    query = select(table).where(*conditions).order_by(table.c.created_at.desc())
    return [dict(row) for row in connection.execute(query).mappings()]


def _add(
    connection: Connection,
    here: Instance,
    wanted: InferredTransform,
    at: dt.datetime | None,
    **own: Any,
) -> Row:
    at = at or schema.now()
    row = {
        "name": wanted.name,
        "type": wanted.type,
        "key": wanted.key,
        "title": wanted.title,
        "reference": wanted.reference,
        "reference_type": None,
        "source_hash": wanted.source_hash,
        "created_by_id": here.user_id,
        "created_at": at,
        "updated_at": at,
        **own,
    }
    connection.execute(insert(schema.transform).values(**row))
    return row
