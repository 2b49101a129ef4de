"""The tables. Column order is the column order of every DataFrame.

The mapped classes of :mod:`lamindb.records` and the bulk writers share these definitions; a test
holds them equal to what the migrations build.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    text,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """Timezone-aware UTC in Python whatever the database keeps; SQLite keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if not isinstance(value, dt.datetime):
            raise ValueError(
                f"{value!r} is no time: give a datetime, as datetime.now(datetime.UTC)"
            )
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: give datetime.now(datetime.UTC)")
        value = value.astimezone(dt.UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(
        self, value: dt.datetime | None, dialect: Dialect
    ) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def _created() -> Column[Any]:
    return Column("created_at", UtcDateTime, nullable=False, default=now)


def _updated() -> Column[Any]:
    return Column("updated_at", UtcDateTime, nullable=False, default=now)


def _created_by() -> Column[Any]:
    return Column("created_by_id", String(8), ForeignKey("user.id"), nullable=False)


user = Table(
    "user",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("handle", String(255), nullable=False, unique=True),
    Column("email", String(255)),
    Column("name", String(255)),
    _created(),
    _updated(),
)

storage = Table(
    "storage",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("root", Text, nullable=False),
    Column("host", String(255), nullable=False, default=""),
    Column("type", String(32), nullable=False),
    Column("region", String(64)),
    Column("managed", Boolean, nullable=False, default=True),
    _created(),
    _updated(),
    _created_by(),
    UniqueConstraint("root", "host"),
)

transform = Table(
    "transform",
    metadata,
    Column("id", String(12), nullable=False),
    Column("version", String(64), nullable=False, default="0"),
    Column("name", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("key", Text),
    Column("title", Text),
    Column("reference", Text),
    Column("reference_type", String(64)),
    Column("source_hash", String(64)),
    _created_by(),
    _created(),
    _updated(),
    PrimaryKeyConstraint("id", "version"),
    UniqueConstraint("key", "version"),
    Index(None, "name", "type"),
)

environment = Table(
    "environment",
    metadata,
    Column("id", String(22), primary_key=True),
    Column("python", String(64), nullable=False),
    Column("packages", JSON, nullable=False),
    _created(),
)

run = Table(
    "run",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("transform_id", String(12)),
    Column("transform_version", String(64)),
    Column("name", Text),
    Column("engine", String(32)),
    Column("reference", Text),
    Column("reference_type", String(64)),
    Column("status", String(16), nullable=False, default="started"),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("parent_id", String(20), ForeignKey("run.id"), index=True),
    Column("params", JSON(none_as_null=True)),
    Column("environment_id", String(22), ForeignKey("environment.id")),
    Column("error", Text),
    Column("details", JSON(none_as_null=True)),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("process_started_at", UtcDateTime),
    Column("heartbeat_at", UtcDateTime),
    _created_by(),
    _created(),
    ForeignKeyConstraint(
        ["transform_id", "transform_version"], ["transform.id", "transform.version"]
    ),
    Index(None, "transform_id", "transform_version"),
    # each order and filter in which people page through them, with the id that makes it unique
    Index(None, "created_at", "id"),
    Index(None, "started_at", "id"),
    Index(None, "status", "started_at", "id"),
    Index(None, "engine", "started_at", "id"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("run_id", String(20), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("error", Text),
    PrimaryKeyConstraint("run_id", "number"),
)

file = Table(
    "file",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("name", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("size", BigInteger),
    Column("hash", String(22), index=True),
    Column("hash_type", String(8)),
    Column("hash_note", Text),
    Column("key", Text, index=True),
    Column("run_id", String(20), ForeignKey("run.id"), index=True),
    Column("transform_id", String(12)),
    Column("transform_version", String(64)),
    Column("storage_id", String(8), ForeignKey("storage.id"), nullable=False),
    Column("source_uri", Text, index=True),
    Column("is_latest", Boolean, nullable=False, default=True),
    Column("description", Text),
    _created(),
    _updated(),
    _created_by(),
    ForeignKeyConstraint(
        ["transform_id", "transform_version"], ["transform.id", "transform.version"]
    ),
    Index(None, "transform_id", "transform_version"),
    Index(None, "created_at", "id"),
    Index(None, "name", "id"),
    Index(None, "size", "id"),
    UniqueConstraint("storage_id", "key", "hash"),
    # one latest version of a key, and one record of the same keyless content: what two processes
    # that add at once cannot both insert
    Index("uq_file_latest_key", "storage_id", "key", unique=True),
    Index("uq_file_keyless_content", "storage_id", "hash", "name", unique=True),
)

# What makes them partial, by dialect. Told when the table is made: Index(postgresql_where=...)
# loads all of PostgreSQL's dialect, into every script that is tracked.
_PARTIAL = {
    "uq_file_latest_key": {
        "sqlite": "is_latest = 1 AND key IS NOT NULL",
        "postgresql": "is_latest AND key IS NOT NULL",
    },
    "uq_file_keyless_content": {"sqlite": "key IS NULL", "postgresql": "key IS NULL"},
}


@event.listens_for(file, "before_create")
def _make_partial(table: Table, connection: Connection, **_: Any) -> None:
    dialect = connection.dialect.name
    for index in table.indexes:
        if index.name in _PARTIAL:
            index.dialect_options[dialect]["where"] = text(_PARTIAL[index.name][dialect])


run_file = Table(
    "run_file",
    metadata,
    Column("run_id", String(20), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("file_id", String(20), ForeignKey("file.id", ondelete="CASCADE"), nullable=False),
    # input, output, or retracted: an output that was taken back
    Column("role", String(16), nullable=False),
    # declared or observed
    Column("how", String(8), nullable=False),
    # by what the bytes that were read are known to be this file's: path, source or content
    Column("matched_by", String(8), nullable=False, default="path"),
    # when it was read or written
    _created(),
    PrimaryKeyConstraint("run_id", "file_id", "role"),
    Index(None, "file_id", "role"),
)

run_run = Table(
    "run_run",
    metadata,
    Column("run_id", String(20), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("other_id", String(20), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("role", String(16), nullable=False),
    PrimaryKeyConstraint("run_id", "other_id", "role"),
    Index(None, "other_id"),
)

# What an unfinished operation on objects means to do, so that a process that finds its owner dead
# can undo or finish it; `claim` holds the keys that the operation has for itself.
journal = Table(
    "journal",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("plan", JSON, nullable=False),
    Column("owner", JSON, nullable=False),
    Column("lease_until", Float, nullable=False),
    _created(),
)

claim = Table(
    "claim",
    metadata,
    Column("storage_id", String(8), ForeignKey("storage.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("journal_id", String(20), ForeignKey("journal.id", ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("storage_id", "key"),
    Index(None, "journal_id"),
)
