"""The rows of every table: copied in the order of their references, and compared."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from lamindb.db import schema
from lamindb.moving.state import State

# what unfinished operations hold: there are none of them
TABLES = [each for each in schema.metadata.sorted_tables if each.name not in ("journal", "claim")]
CHUNK = 2000
_PARENTS = "parents"

Row = dict[str, Any]
Change = Callable[[Table, Row], Row]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Tally:
    """A table's content, whatever the order of its rows."""

    rows: int
    digest: int


def count(connection: Connection) -> int:
    """Return how many rows there are to copy."""
    return sum(
        connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES
    )


def copy(source: Connection, state: State, change: Change, advance: Advance) -> None:
    """Copy what is not there yet, some thousand rows a transaction.

    Raises: IntegrityError: the source has changed since the first of them was copied.
    """
    for table in TABLES:
        while page := _page(source, state, table, table.name):
            rows = [change(table, row) for row in page]
            if table is schema.run:
                rows = [{**row, "parent_id": None} for row in rows]  # may come later than its child
            with state.step() as connection:
                connection.execute(insert(table), rows)
                _remember(state, table.name, table, page)
            advance(len(page))
    _copy_parents(source, state)


def _copy_parents(source: Connection, state: State) -> None:
    run = schema.run
    change = update(run).where(run.c.id == bindparam("child")).values(parent_id=bindparam("parent"))
    while page := _page(source, state, run, _PARENTS, run.c.parent_id.is_not(None)):
        with state.step() as connection:
            connection.execute(
                change, [{"child": row["id"], "parent": row["parent_id"]} for row in page]
            )
            _remember(state, _PARENTS, run, page)


def _page(
    source: Connection, state: State, table: Table, cursor: str, *wanted: ColumnElement[bool]
) -> Sequence[Row]:
    keys = list(table.primary_key.columns)
    query = select(table).where(*wanted).order_by(*keys).limit(CHUNK)
    last = state.progress.cursors.get(cursor)
    if last is not None:
        query = query.where(tuple_(*keys) > tuple_(*map(literal, last)))
    return [dict(row) for row in source.execute(query).mappings()]


def _remember(state: State, cursor: str, table: Table, page: Sequence[Row]) -> None:
    state.progress.cursors[cursor] = [page[-1][each.name] for each in table.primary_key.columns]


def tallies(connection: Connection, change: Change) -> dict[str, Tally]:
    """Return every table's content as it is after ``change``."""
    return {table.name: _tally(connection, table, change) for table in TABLES}


def _tally(connection: Connection, table: Table, change: Change) -> Tally:
    rows, digest = 0, 0
    query = select(table).execution_options(yield_per=CHUNK)
    for row in connection.execute(query).mappings():
        rows += 1
        text = json.dumps(list(change(table, dict(row)).values()), default=_as_text, sort_keys=True)
        # a sum does not ask for an order, in which databases differ
        digest += int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    return Tally(rows, digest % 2**128)


def _as_text(value: Any) -> str:
    assert isinstance(value, dt.datetime)
    return value.isoformat()


def unchanged(table: Table, row: Row) -> Row:
    return row
