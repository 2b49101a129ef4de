"""Which version of a transform a piece of code is."""

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


def version_of(
    connection: Connection, here: Instance, found: InferredTransform, at: dt.datetime | None = None
) -> dict[str, Any]:
    """Return the row of code seen before; new code of a known key is that transform's next version.

    Within a transaction; until it ends, nobody else can add a version of this key.
    """
    serialise(connection, f"transform {found.key}")
    table = schema.transform
    versions = (
        connection.execute(
            select(table).where(table.c.key == found.key).order_by(table.c.created_at.desc())
        )
        .mappings()
        .all()
    )
    for row in versions:
        if found.source_hash is None or row["source_hash"] == found.source_hash:
            return dict(row)
    at = at or schema.now()
    numbers = [int(row["version"]) for row in versions if row["version"].isdecimal()]
    values = {
        "id": versions[0]["id"] if versions else random_id(TRANSFORM_ID_LENGTH),
        "version": str(max(numbers, default=int(DEFAULT_VERSION)) + 1)
        if versions
        else DEFAULT_VERSION,
        "name": found.name,
        "type": found.type,
        "key": found.key,
        "title": found.title,
        "reference": found.reference,
        "reference_type": None,
        "source_hash": found.source_hash,
        "created_by_id": here.user_id,
        "created_at": at,
        "updated_at": at,
    }
    connection.execute(insert(table).values(**values))
    return values
