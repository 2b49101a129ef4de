"""``ln.select``: queries over the records, ending in records or a typed DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, func
from sqlalchemy import select as sqlalchemy_select
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.orm import QueryableAttribute

from lamindb import instance
from lamindb.db.frames import frame_of
from lamindb.display import in_notebook
from lamindb.errors import RecordError
from lamindb.records import File, Run, Storage, Transform, User
from lamindb.records.adding import add
from lamindb.records.base import Record, columns_of, field_of, is_mapped, table_of
from lamindb.records.deleting import delete

if TYPE_CHECKING:
    import pandas as pd

R = TypeVar("R")
_SHOWN = 20
RECORDS: tuple[type[Record], ...] = (File, Transform, Run, Storage, User)


class Query(Generic[R]):
    """A select that is built step by step; each step returns a new query.

    Expressions are SQLAlchemy's: ``ln.select(ln.File).where(ln.File.size > 10)``.
    """

    def __init__(self, statement: Select[Any], entities: tuple[Any, ...]) -> None:
        self._statement = statement
        self._entities = entities

    def where(self, *conditions: ColumnElement[bool]) -> Query[R]:
        for condition in conditions:
            if isinstance(condition, bool):
                raise RecordError(
                    f"where({condition}) compares values, not fields: write it with the class, as "
                    "in where(ln.File.size > 10)"
                )
        return self._with(self._statement.where(*conditions))

    def join(self, target: Any, onclause: Any = None, *, isouter: bool = False) -> Query[R]:
        """Join another record class, or along a relation such as ``ln.File.run``."""
        joined = (
            self._statement.join(target, isouter=isouter)
            if onclause is None
            else self._statement.join(target, onclause, isouter=isouter)
        )
        return self._with(joined)

    def order_by(self, *columns: Any) -> Query[R]:
        """Order by these, in place of the order before: that of creation, or one given earlier."""
        return self._with(self._statement.order_by(None).order_by(*columns))

    def limit(self, count: int) -> Query[R]:
        return self._with(self._statement.limit(count))

    def offset(self, count: int) -> Query[R]:
        return self._with(self._statement.offset(count))

    def all(self) -> list[R]:
        """Return all records; tuples of them when several classes were selected."""
        return list(self._read(lambda result: result.all()))

    def first(self) -> R | None:
        found: R | None = self.limit(1)._read(lambda result: result.first())
        return found

    def one(self) -> R:
        """Return the only record.

        Raises: sqlalchemy.exc.NoResultFound, sqlalchemy.exc.MultipleResultsFound: say of what.
        """
        found = self.one_or_none()
        if found is None:
            raise NoResultFound(f"no {self._described()}: list what there is with .df()")
        return found

    def one_or_none(self) -> R | None:
        """Return the only record, or None; raises MultipleResultsFound like :meth:`one`."""
        # not by limit(2), which would undo a limit that was given
        found = list(self._read(lambda result: result.fetchmany(2)))
        if len(found) > 1:
            raise MultipleResultsFound(
                f"{self.count()} records match {self._described()}: narrow it down, or take "
                ".first() or .all()"
            )
        return found[0] if found else None

    def count(self) -> int:
        counted = sqlalchemy_select(func.count()).select_from(
            self._statement.order_by(None).subquery()
        )
        with instance.reading().database.read() as connection:
            return int(connection.execute(counted).scalar_one())

    def df(self) -> pd.DataFrame:
        """Return the rows as a DataFrame, indexed by the primary key.

        Returns: columns in the order of the table; times ``datetime64[us, UTC]``, sizes ``Int64``,
            truths ``boolean``, texts ``string``, JSON as objects. No rows: the same columns, index
            and dtypes.
        Raises: RecordError: several classes were selected.
        """
        entity = self._entities[0]
        if len(self._entities) != 1 or not is_mapped(entity):
            raise RecordError(".df() is of one record class: select it alone, and join the others")
        table = table_of(entity)
        statement = self._statement.with_only_columns(*table.columns, maintain_column_froms=True)
        with instance.reading().database.read() as connection:
            rows = connection.execute(statement).all()
        return frame_of(table, rows)

    def _read(self, take: Any) -> Any:
        with instance.reading().database.session() as session:
            single = len(self._entities) == 1
            result = (
                session.scalars(self._statement) if single else session.execute(self._statement)
            )
            return take(result)

    def _with(self, statement: Select[Any]) -> Query[R]:
        return Query(statement, self._entities)

    def _described(self) -> str:
        names = ", ".join(getattr(entity, "__name__", str(entity)) for entity in self._entities)
        clause = self._statement.whereclause
        if clause is None:
            return names
        condition = str(clause.compile(compile_kwargs={"literal_binds": False}))
        values = ", ".join(repr(value) for value in clause.compile().params.values())
        return f"{names} where {condition} ({values})"

    def __repr__(self) -> str:
        return f"<Query of {self._described()}>"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the first rows, and how many there are."""
        if len(self._entities) != 1 or not is_mapped(self._entities[0]):
            return None
        shown = self.limit(_SHOWN) if self._statement._limit_clause is None else self
        frame: str = shown.df()._repr_html_()  # type: ignore[operator]
        return f"{frame}<p>{self.count():,} in all</p>"


def select(*entities: Any, all_versions: bool = False, **fields: Any) -> Query[Any]:
    """Select records by the values of their fields.

    Args:
        entities: record classes, or their columns.
        all_versions: of Files, older versions too, not only the latest of each key; so does the
            field ``is_latest``.
        fields: equality with fields or relations (``run=run``) of the first class, ANDed.
    Raises: FieldUnknownError: lists near names.
    """
    if not entities:
        raise RecordError("select what? Give a record class: ln.select(ln.File)")
    for entity in entities:
        if not is_mapped(entity) and not isinstance(entity, QueryableAttribute):
            raise RecordError(f"{entity!r} is no record class: take ln.File, ln.Run, …")
    statement = sqlalchemy_select(*entities)
    first = entities[0]
    if fields and not is_mapped(first):
        raise RecordError("fields go with a record class: ln.select(ln.File, name='x')")
    for name, value in fields.items():
        statement = statement.where(field_of(first, name) == value)
    of_files = any(getattr(entity, "class_", entity) is File for entity in entities)
    if of_files and not all_versions and "is_latest" not in fields:
        statement = statement.where(File.is_latest.is_(True))
    if is_mapped(first) and "created_at" in columns_of(first):
        statement = statement.order_by(*_default_order(first))
    return Query(statement, entities)


def _default_order(entity: type[Record]) -> tuple[Any, ...]:
    table = table_of(entity)
    return (table.c.created_at, *table.primary_key)


class Session:
    """A ``with`` block around several calls, on the instance in use::

        with ln.Session() as session:
            session.add(ln.File("a.csv"))
            session.select(ln.File).df()

    Each call is a transaction of its own: an error in the block undoes none before it.
    """

    def __enter__(self) -> Session:
        instance.current()
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def add(self, record: Any, **fields: Any) -> Any:
        return add(record, **fields)

    def select(self, *entities: Any, **fields: Any) -> Query[Any]:
        return select(*entities, **fields)

    def delete(self, record: Any, delete_data: bool | None = None, *, force: bool = False) -> None:
        delete(record, delete_data, force=force)


def view(n: int = 10) -> None:
    """Show the last rows of each table: rendered in a notebook, as text elsewhere.

    Args: n: rows a table.
    """
    for entity in RECORDS:
        table = table_of(entity)
        newest = sqlalchemy_select(*table.columns).order_by(table.c.created_at.desc()).limit(n)
        with instance.reading().database.read() as connection:
            rows = connection.execute(newest).all()
        if rows:
            _show(entity.__name__, frame_of(table, rows))


def _show(title: str, frame: pd.DataFrame) -> None:
    print(title)  # noqa: T201 - showing is what this is for
    if in_notebook():
        from IPython.display import display

        display(frame)  # type: ignore[no-untyped-call]
    else:
        print(frame.to_string(), end="\n\n")  # noqa: T201
