"""What all records share: identity, comparison, and relations that need no open session."""

from __future__ import annotations

import copy
import difflib
import html
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar, cast, overload

from sqlalchemy import Table, event, select
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute

from lamindb import instance
from lamindb.db import schema
from lamindb.display import printable
from lamindb.errors import FieldUnknownError, RecordError

R = TypeVar("R", bound="Record")
Self = TypeVar("Self", bound="Record")


class Record(DeclarativeBase):
    """A row, as an object that stays usable without a session.

    Two records are equal when they are of one type and have the same primary key.
    """

    metadata = schema.metadata

    # columns that repr() shows, in this order, where they are set
    _shown: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return type(self) is type(other) and self._primary_key() == other._primary_key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._primary_key()))

    def __repr__(self) -> str:
        return self._show(self._shown)

    def _show(self, names: Iterable[str]) -> str:
        values = ((name, getattr(self, name)) for name in names)
        shown = ", ".join(f"{name}={_short(value)}" for name, value in values if value is not None)
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the values that are set, as a table."""
        hash_is_unread = "hash=" not in repr(self)  # showing a record reads no bytes
        values = {
            column.name: None
            if column.name == "hash" and hash_is_unread
            else getattr(self, column.name)
            for column in _table(type(self)).columns
        }
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>"
            f"{html.escape(printable(value))}</td></tr>"
            for name, value in values.items()
            if value is not None
        )
        return f"<table><caption>{type(self).__name__}</caption><tbody>{rows}</tbody></table>"

    def _primary_key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, column.name) for column in _table(type(self)).primary_key)

    def _values(self) -> dict[str, Any]:
        """Return the values by column name, as they would be written now."""
        return {column.name: getattr(self, column.name) for column in _table(type(self)).columns}

    def _set_values(self, values: dict[str, Any]) -> None:
        """Become the row that these values are of."""
        for name, value in values.items():
            setattr(self, name, value)
        self._mark_stored()

    def _mark_stored(self) -> None:
        # JSON values can be changed in place, which must show as a change
        self.__dict__["_stored"] = {
            name: copy.deepcopy(value) if isinstance(value, dict | list) else value
            for name, value in self._values().items()
        }

    @property
    def _is_stored(self) -> bool:
        """Whether a row of this record has been read or written by this process."""
        return "_stored" in self.__dict__

    def _changes(self) -> dict[str, Any]:
        """Return the values that differ from the row."""
        stored = self.__dict__.get("_stored", {})
        missing = object()
        return {
            name: value
            for name, value in self._values().items()
            if stored.get(name, missing) != value
        }


@event.listens_for(Record, "load", propagate=True)
def _remember_row(record: Record, context: object) -> None:
    record._mark_stored()


class Related(Generic[R]):
    """A record that a foreign key points to, read when it is first asked for.

    On the class it is SQLAlchemy's relationship, for ``File.run == run`` and ``.join(File.run)``.
    """

    def __init__(self, relationship: str, **columns: str) -> None:
        # local column → column of the target
        self._relationship = relationship
        self._columns = columns
        self._name = relationship.removeprefix("_")

    @overload
    def __get__(self, record: None, owner: type[Record]) -> InstrumentedAttribute[R]: ...
    @overload
    def __get__(self, record: Record, owner: type[Record]) -> R | None: ...
    def __get__(
        self, record: Record | None, owner: type[Record]
    ) -> InstrumentedAttribute[R] | R | None:
        if record is None:
            return cast("InstrumentedAttribute[R]", getattr(owner, self._relationship))
        pointer = tuple(getattr(record, local) for local in self._columns)
        if pointer[0] is None:
            return None
        cache = record.__dict__.setdefault("_related", {})
        known = cache.get(self._name)
        if known is None or self._pointer_to(known) != pointer:
            known = cache[self._name] = self._read(type(record), pointer)
        if known is None:
            raise RecordError(
                f"the {self._name} {pointer[0]} of {record!r} is not in the instance "
                f"{instance.current().name!r}: it was deleted, or the record was read from another "
                "instance, which ln.setup.load(NAME) brings back"
            )
        return cast("R", known)

    def __set__(self, record: Record, value: R | None) -> None:
        target = getattr(type(record), self._relationship).property.mapper.class_
        if value is not None and not isinstance(value, target):
            raise RecordError(f"{self._name}={value!r} is no {target.__name__} record")
        pointer = (None,) * len(self._columns) if value is None else self._pointer_to(value)
        for local, part in zip(self._columns, pointer, strict=True):
            setattr(record, local, part)
        record.__dict__.setdefault("_related", {})[self._name] = value

    def _pointer_to(self, value: Record) -> tuple[Any, ...]:
        return tuple(getattr(value, remote) for remote in self._columns.values())

    def _read(self, owner: type[Record], pointer: tuple[Any, ...]) -> Record | None:
        target = getattr(owner, self._relationship).property.mapper.class_
        with instance.current().database.session() as session:
            return cast(
                "Record | None",
                session.scalars(
                    select(target).where(
                        *(
                            getattr(target, remote) == part
                            for remote, part in zip(self._columns.values(), pointer, strict=True)
                        )
                    )
                ).one_or_none(),
            )


def read_all(statement: Any) -> list[Any]:
    """Return the records of a select, detached."""
    with instance.reading().database.session() as session:
        return list(session.scalars(statement))


def table_of(entity: type[Record]) -> Table:
    return _table(entity)


def columns_of(entity: type[Record]) -> list[str]:
    return [column.name for column in _table(entity).columns]


def require(value: str | None, what: str, allowed: tuple[str, ...]) -> None:
    """Raise RecordError unless a value is one of a closed set."""
    if value not in allowed:
        raise RecordError(f"{value!r} is no {what}: take one of {', '.join(allowed)}")


def field_of(entity: type[Record], name: str) -> Any:
    """Return a column or relation of a record class, for comparing.

    Raises: FieldUnknownError: lists near names.
    """
    known = columns_of(entity)
    known += [name for name, value in vars(entity).items() if isinstance(value, Related)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise FieldUnknownError(f"{entity.__name__} has no field {name!r}: {hint}")
    return getattr(entity, name)


def is_mapped(entity: Any) -> bool:
    return isinstance(entity, type) and sqlalchemy_inspect(entity, raiseerr=False) is not None


def _table(entity: type[Record]) -> Table:
    return cast(Table, entity.__table__)


def _short(value: object) -> str:
    text = value.isoformat(" ", "seconds") if hasattr(value, "isoformat") else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
