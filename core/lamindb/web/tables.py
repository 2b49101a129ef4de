"""Tables that stay quick however long they are: a page starts after the last row of the one before.

A page is found by an index, never by counting rows off: a cursor holds the values of the last row
in the columns that the rows are ordered by, and what comes after them is asked for part by part,
each of which an index has in order. Only a search looks at each row, until the page is full.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, func, or_, select, true

from lamindb import instance
from lamindb.db.schema import UtcDateTime, file, run, transform
from lamindb.errors import RecordError
from lamindb.graph.model import Row

PAGE = 50
_LARGEST = 2**63  # that a database holds


@dataclass(frozen=True)
class View:
    """What of a table is asked for.

    Attributes: sort: a column; after: the cursor of the page before; filters: name → value.
    """

    sort: str
    is_descending: bool
    wanted: str = ""
    after: str = ""
    filters: tuple[tuple[str, str], ...] = ()

    @property
    def direction(self) -> str:
        return "desc" if self.is_descending else "asc"


@dataclass(frozen=True)
class Page:
    """Rows, and the cursor of the next page; None at the end."""

    rows: list[Row]
    following: str | None


# by what a table can be sorted → the columns that make the order, up to a unique one
SORTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "files": {
        "created": (file.c.created_at, file.c.id),
        "name": (file.c.name, file.c.id),
        "size": (file.c.size, file.c.id),
    },
    "runs": {
        "started": (run.c.started_at, run.c.id),
        "status": (run.c.status, run.c.started_at, run.c.id),
    },
    "transforms": {
        "name": (transform.c.name, transform.c.id, transform.c.version),
        "created": (transform.c.created_at, transform.c.id, transform.c.version),
    },
}


def files_page(view: View) -> Page:
    query = (
        select(file, transform.c.name.label("made_by"), run.c.status, run.c.engine)
        .outerjoin(run, run.c.id == file.c.run_id)
        .outerjoin(transform, is_version_of_run())
        .where(file.c.is_latest)
    )
    if view.wanted:
        query = query.where(
            or_(_contains(file.c.key, view.wanted), _contains(file.c.name, view.wanted))
        )
    return _page(query, view, SORTS["files"][view.sort])


def runs_page(view: View) -> Page:
    query = named_runs()
    if view.wanted:
        named = select(transform.c.id).where(_contains(transform.c.name, view.wanted))
        query = query.where(or_(run.c.transform_id.in_(named), _contains(run.c.name, view.wanted)))
    for name, value in view.filters:
        query = query.where(run.c[name] == value)
    return _page(query, view, SORTS["runs"][view.sort])


def transforms_page(view: View) -> Page:
    counted = select(func.count()).where(is_version_of_run()).scalar_subquery()
    query = select(transform, counted.label("runs"))
    if view.wanted:
        query = query.where(
            or_(_contains(transform.c.name, view.wanted), _contains(transform.c.key, view.wanted))
        )
    return _page(query, view, SORTS["transforms"][view.sort])


def named_runs(*columns: Any) -> Select[Any]:
    """Return a query of runs with the names of their transforms, and further columns."""
    named = select(run, transform.c.name.label("transform"), *columns)
    return named.select_from(run).outerjoin(transform, is_version_of_run())


def is_version_of_run() -> ColumnElement[bool]:
    return and_(
        transform.c.id == run.c.transform_id, transform.c.version == run.c.transform_version
    )


def _contains(column: Any, wanted: str) -> ColumnElement[bool]:
    if instance.current().database.is_sqlite:
        # its LIKE takes no notice of case, and lower() of both would take twice the time
        return column.contains(wanted, autoescape=True)  # type: ignore[no-any-return]
    return column.icontains(wanted, autoescape=True)  # type: ignore[no-any-return]


def _page(query: Select[Any], view: View, order: tuple[Any, ...]) -> Page:
    if view.after:
        last = _read(view.after, order)
        parts = _after(list(zip(order, last, strict=True)), view.is_descending)
    else:
        parts = _all(order[0], view.is_descending)
    query = query.order_by(*_ordered(order, view.is_descending))
    rows: list[Row] = []
    with instance.reading().database.read() as connection:
        for part in parts:
            if len(rows) <= PAGE:
                rest = query.where(part).limit(PAGE + 1 - len(rows))
                rows += [dict(row) for row in connection.execute(rest).mappings()]
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    return Page(rows, _cursor([rows[-1][each.name] for each in order]) if more else None)


def _ordered(order: tuple[Any, ...], is_descending: bool) -> list[Any]:
    ordered = [each.desc() if is_descending else each.asc() for each in order]
    # NULL is the least in SQLite and the greatest in PostgreSQL; of the first column, it is in a
    # part of its own, for PostgreSQL would not use an index for another order than its own
    return ordered[:1] + [
        (each.nulls_last() if is_descending else each.nulls_first()) if column.nullable else each
        for column, each in zip(order[1:], ordered[1:], strict=True)
    ]


def _all(column: Any, is_descending: bool) -> list[ColumnElement[bool]]:
    """Return the parts of a whole table, NULL being the least."""
    if not column.nullable:
        return [true()]
    parts = [column.is_not(None), column.is_(None)]
    return parts if is_descending else parts[::-1]


def _after(last: list[tuple[Any, Any]], is_descending: bool) -> list[ColumnElement[bool]]:
    """Return the parts of what comes after a row, in their order, NULL being the least."""
    (column, value), *rest = last
    same = column.is_(None) if value is None else column == value
    parts = [and_(same, part) for part in _after(rest, is_descending)] if rest else []
    if value is None:
        return parts if is_descending else [*parts, column.is_not(None)]
    parts.append(column < value if is_descending else column > value)
    if is_descending and column.nullable:
        parts.append(column.is_(None))
    return parts


def _cursor(values: list[Any]) -> str:
    plain = [{"at": each.isoformat()} if isinstance(each, dt.datetime) else each for each in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode()


def _read(cursor: str, order: tuple[Any, ...]) -> list[Any]:
    """Return the values of a cursor.

    Raises: RecordError: it is none of this order.
    """
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(values, list):
            raise ValueError(cursor)
        return [_value(column, each) for column, each in zip(order, values, strict=True)]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError("this is no page of the table: start from its first one") from error


def _value(column: Any, given: Any) -> Any:
    if given is None:
        if column.nullable:
            return None
    elif isinstance(column.type, UtcDateTime):
        at = dt.datetime.fromisoformat(given["at"])
        if at.tzinfo is not None:
            return at
    elif isinstance(column.type, Integer):
        if type(given) is int and abs(given) < _LARGEST:
            return given
    elif isinstance(given, str):
        given.encode()  # a lone surrogate is a ValueError, too
        return given
    raise ValueError(given)


def counts() -> dict[str, int]:
    """Return the number of latest files, runs and transforms."""
    with instance.reading().database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (file, run, transform)
        }


def engines() -> list[str]:
    """Return the engines of all runs, each found by one look into an index."""
    found: list[str] = []
    with instance.reading().database.read() as connection:
        while True:
            beyond = run.c.engine > (found[-1] if found else "")
            following = connection.execute(select(func.min(run.c.engine)).where(beyond)).scalar()
            if following is None:
                return found
            found.append(following)
