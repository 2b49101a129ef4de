"""Tables that stay quick however long they are: a page starts after the last row of the one before.

A page is found by an index (or, of a column without, by one look at each row), never by counting
rows off; what is asked for beside that is only the page's own.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from lamindb import instance
from lamindb.db.schema import file, run, transform
from lamindb.graph.model import Row

PAGE = 50


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


SORTS: dict[str, dict[str, Any]] = {
    "files": {
        "created": file.c.created_at,
        "name": file.c.name,
        "size": file.c.size,
    },
    "runs": {
        "created": run.c.created_at,
        "started": run.c.started_at,
        "status": run.c.status,
    },
    "transforms": {"name": transform.c.name, "created": transform.c.created_at},
}


def files_page(view: View) -> Page:
    query = (
        select(file, transform.c.name.label("made_by"), run.c.status, run.c.engine)
        .outerjoin(run, run.c.id == file.c.run_id)
        .outerjoin(transform, _is_version_of(run))
        .where(file.c.is_latest)
    )
    if view.wanted:
        query = query.where(
            or_(_contains(file.c.key, view.wanted), _contains(file.c.name, view.wanted))
        )
    return _page(query, view, "files", file.c.id)


def runs_page(view: View) -> Page:
    query = select(run, transform.c.name.label("transform")).outerjoin(
        transform, _is_version_of(run)
    )
    if view.wanted:
        named = select(transform.c.id).where(_contains(transform.c.name, view.wanted))
        query = query.where(or_(run.c.transform_id.in_(named), _contains(run.c.name, view.wanted)))
    for name, value in view.filters:
        query = query.where(run.c[name] == value)
    return _page(query, view, "runs", run.c.id)


def transforms_page(view: View) -> Page:
    counted = (
        select(func.count())
        .where(run.c.transform_id == transform.c.id, run.c.transform_version == transform.c.version)
        .scalar_subquery()
    )
    query = select(transform, counted.label("runs"))
    if view.wanted:
        query = query.where(
            or_(_contains(transform.c.name, view.wanted), _contains(transform.c.key, view.wanted))
        )
    return _page(query, view, "transforms", transform.c.id, transform.c.version)


def _is_version_of(table: Any) -> ColumnElement[bool]:
    return and_(
        transform.c.id == table.c.transform_id, transform.c.version == table.c.transform_version
    )


def _contains(column: Any, wanted: str) -> ColumnElement[bool]:
    return column.icontains(wanted, autoescape=True)  # type: ignore[no-any-return]


def _page(query: Select[Any], view: View, table: str, *key: Any) -> Page:
    column = SORTS[table][view.sort]
    names = [column.name, *(each.name for each in key)]
    if view.after:
        query = query.where(_after(column, key, _read(view.after, len(names)), view.is_descending))
    order = [column, *key]
    # NULL is the least in SQLite and the greatest in PostgreSQL
    ordered = [each.desc() if view.is_descending else each.asc() for each in order]
    if column.nullable:
        ordered[0] = ordered[0].nulls_last() if view.is_descending else ordered[0].nulls_first()
    query = query.order_by(*ordered).limit(PAGE + 1)
    with instance.reading().database.read() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    return Page(rows, _cursor([rows[-1][name] for name in names]) if more else None)


def _after(
    column: Any, key: tuple[Any, ...], last: list[Any], is_descending: bool
) -> ColumnElement[bool]:
    """Return the condition of what comes after a row, NULL being the least."""
    value, *rest = last
    beyond_key = _beyond(list(zip(key, rest, strict=True)), is_descending)
    if value is None:
        same = and_(column.is_(None), beyond_key)
        return same if is_descending else or_(same, column.is_not(None))
    is_less = column < value if is_descending else column > value
    found = or_(is_less, and_(column == value, beyond_key))
    return or_(found, column.is_(None)) if is_descending and column.nullable else found


def _beyond(pairs: list[tuple[Any, Any]], is_descending: bool) -> ColumnElement[bool]:
    (column, value), *rest = pairs
    is_less: ColumnElement[bool] = column < value if is_descending else column > value
    return or_(is_less, and_(column == value, _beyond(rest, is_descending))) if rest else is_less


def _cursor(values: list[Any]) -> str:
    plain = [{"at": each.isoformat()} if isinstance(each, dt.datetime) else each for each in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode()


def _read(cursor: str, length: int) -> list[Any]:
    """Return the values of a cursor; of one that is none, those of nothing."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(values, list) or len(values) != length:
            raise ValueError(cursor)
        return [
            dt.datetime.fromisoformat(each["at"]) if isinstance(each, dict) else each
            for each in values
        ]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        from lamindb.errors import RecordError

        raise RecordError("this is no page of the table: start from its first one") from error


def counts() -> dict[str, int]:
    """Return the number of latest files, runs and transforms."""
    with instance.reading().database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (file, run, transform)
        }
