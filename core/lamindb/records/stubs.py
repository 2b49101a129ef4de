"""Rows of runs whose start is not recorded yet, so that others can refer to them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import Connection, select

from lamindb.db import schema
from lamindb.db.database import chunked, insert_if_new
from lamindb.instance import Instance


def add_stubs(
    connection: Connection, here: Instance, runs: Iterable[tuple[str, dt.datetime]]
) -> None:
    """Make sure that rows of these runs are there: their own events complete them later.

    Those that are there stay until the transaction's end.

    Args: runs: id, and when it was first heard of.
    """
    first_heard: dict[str, dt.datetime] = {}
    for run_id, at in runs:
        first_heard[run_id] = min(at, first_heard.get(run_id, at))
    # most are there: to look is cheaper than to insert in vain
    for chunk in chunked(sorted(first_heard)):
        there = select(schema.run.c.id).where(schema.run.c.id.in_(chunk)).order_by(schema.run.c.id)
        for run_id in connection.execute(
            there.with_for_update(read=True, key_share=True)
        ).scalars():
            del first_heard[run_id]
    stubs = [
        {"id": run_id, "status": "started", "created_by_id": here.user_id, "created_at": at}
        for run_id, at in sorted(first_heard.items())
    ]
    insert_if_new(connection, schema.run, stubs)
