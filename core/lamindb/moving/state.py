"""How far a migration has come, kept in the database that it fills.

Until the end that database says ``migrating`` where others say their revision, so that nobody takes
it for an instance; each step commits what it has written together with where to go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import JSON, Column, Connection, MetaData, Table, Text, insert, select, update

from lamindb.config import InstanceConfig
from lamindb.db import migrate, schema
from lamindb.db.database import Database
from lamindb.errors import SetupError
from lamindb.identifiers import random_id
from lamindb.processes import is_dead, this_process

_table = Table(
    "lamindb_migration",
    MetaData(),
    Column("source", JSON, nullable=False),
    Column("storage", Text, nullable=False),
    Column("owner", JSON, nullable=False),
    # changes with every process that takes hold of it
    Column("hold", Text, nullable=False),
    Column("progress", JSON, nullable=False),
)


@dataclass(frozen=True)
class Left:
    """An object that the source does not hold as recorded; only its record was copied."""

    id: str
    name: str
    problem: str


@dataclass
class Progress:
    """Where to go on.

    Attributes:
        cursors: by table, the primary key of the last row that was copied; ``parents`` for the
            second pass over runs; ``objects``: the id of the last file.
        is_again: whether the source changed meanwhile, so that all was begun once more.
        objects, size_bytes: verified in the target.
    """

    cursors: dict[str, list[Any]] = field(default_factory=dict)
    is_again: bool = False
    objects: int = 0
    size_bytes: int = 0
    left: list[dict[str, str]] = field(default_factory=list)

    def leave(self, left: Left) -> None:
        self.left.append(asdict(left))


class State:
    """The migration into one database, of which this process has taken hold."""

    def __init__(self, target: Database, progress: Progress, hold: str) -> None:
        self.target = target
        self.progress = progress
        self._hold = hold

    @contextmanager
    def step(self) -> Iterator[Connection]:
        """A transaction of the target that ends with where to go on."""
        with self.target.begin() as connection:
            # first of all, so that no other process gets between
            self._save(connection)
            yield connection
            self._save(connection)

    def _save(self, connection: Connection) -> None:
        held = connection.execute(
            update(_table).where(_table.c.hold == self._hold).values(progress=asdict(self.progress))
        )
        if held.rowcount != 1:
            raise SetupError("another process has taken this migration over: this one ends")

    def start_over(self) -> None:
        """Empty the tables: what was copied is no longer what the source holds."""
        self.progress = Progress(is_again=True)
        with self.step() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(table.delete())

    def finish(self) -> None:
        """Make an instance's database of it."""
        with self.target.begin() as connection:
            self._save(connection)
            _table.drop(connection)
            migrate.set_revision(connection, migrate.HEAD)


def begin(target: Database, source: InstanceConfig, storage_id: str, storage: str) -> State | None:
    """Begin a migration into an empty database, or go on with one; None for a finished instance.

    Raises: SetupError: the database holds something else, or another process is at it.
    """
    origin = {"db": source.db, "storage": storage_id}
    where = target.config.database
    migrate.create_file(target)
    if not migrate.is_instance(target):
        if foreign := migrate.foreign_tables(target):
            raise SetupError(
                f"the database {where} holds other tables than lamindb's "
                f"({', '.join(foreign[:5])}): give one of its own, new or empty"
            )
        return _begin_anew(target, origin, storage)
    if migrate.revision(target) != migrate.MIGRATING:
        return None
    with target.read() as connection:
        row = connection.execute(select(_table)).one()
    if (row.source, row.storage) != (origin, storage):
        raise SetupError(
            f"the database {where} holds an unfinished migration of another instance "
            f"({row.source['db']} to {row.storage}): finish that with the same arguments, or give "
            "another database"
        )
    return State(target, Progress(**row.progress), _take_over(target, row.owner))


def _begin_anew(target: Database, origin: dict[str, str], storage: str) -> State:
    progress, hold = Progress(), random_id(20)
    with target.begin() as connection:
        migrate.build(connection, migrate.MIGRATING)
        _table.create(connection)
        connection.execute(
            insert(_table).values(
                source=origin,
                storage=storage,
                owner=this_process().as_json(),
                hold=hold,
                progress=asdict(progress),
            )
        )
    return State(target, progress, hold)


def _take_over(target: Database, owner: dict[str, Any]) -> str:
    me = this_process().as_json()
    is_seen = owner["host"] == me["host"] and owner["namespace"] == me["namespace"]
    if owner != me and is_seen and not is_dead(owner):
        raise SetupError(f"process {owner['pid']} is doing this migration: wait for its end")
    with target.begin() as connection:
        connection.execute(update(_table).values(owner=me, hold=(hold := random_id(20))))
    return hold
