"""Brings a database to the revision that this version of the package needs.

Alembic takes most of a second to import, so the revision is compared with one query and Alembic is
loaded only to upgrade. A new database is built from the models and stamped: a test holds that equal
to what the migrations build.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from lamindb.db.database import Database, create_sqlite_file, serialise
from lamindb.db.schema import metadata
from lamindb.errors import (
    DatabaseCorruptError,
    DatabaseMissingError,
    DatabaseOutdatedError,
    DatabaseTooNewError,
    DatabaseUnfinishedError,
)

HEAD = "0001"
# says a database that ``lamin migrate`` is filling; it is later than any number
MIGRATING = "migrating"
VERSION_TABLE = "lamindb_version"


def create(database: Database) -> None:
    """Build the tables in an empty database, or leave those of an instance as they are."""
    if (path := database.config.sqlite_path) is not None:
        with suppress(sqlite3.DatabaseError):  # what is wrong with a file is said below
            create_sqlite_file(path)
    with database.begin() as connection:
        serialise(connection, "tables")
        if not inspect(connection).has_table(VERSION_TABLE):
            build(connection, HEAD)


def create_file(database: Database) -> None:
    """Make the file of a SQLite database that is not there yet, or empty."""
    path = database.config.sqlite_path
    if path is not None and not (path.exists() and path.stat().st_size):
        create_sqlite_file(path)


def build(connection: Connection, revision: str) -> None:
    """Build the tables in an empty database, which then says that it is at this revision."""
    metadata.create_all(connection)
    connection.execute(
        text(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(
        text(f"INSERT INTO {VERSION_TABLE} VALUES (:revision)"),  # noqa: S608 - a constant
        {"revision": revision},
    )


def set_revision(connection: Connection, revision: str) -> None:
    connection.execute(
        text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"),  # noqa: S608 - a constant
        {"revision": revision},
    )


def revision(database: Database) -> str:
    """Return the revision that the database is at."""
    with database.read() as connection:
        found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if found is None:
        raise DatabaseCorruptError(
            f"the database of instance {database.config.name!r} does not say which version it has: "
            "put back a backup"
        )
    return str(found)


def ensure_current(database: Database) -> None:
    """Upgrade an older SQLite database after a backup copy; refuse any other mismatch.

    Raises: DatabaseTooNewError; DatabaseUnfinishedError; DatabaseOutdatedError: a shared database
        waits for its owner.
    """
    path = database.config.sqlite_path
    if path is not None and not path.exists():
        raise DatabaseMissingError(
            f"the database {path} of instance {database.config.name!r} is gone: was its folder "
            "moved or unmounted? Put it back, or run 'lamin init' for a new one"
        )
    found = revision(database)
    if found == HEAD:
        return
    _refuse_newer(database, found)
    if path is None:
        raise DatabaseOutdatedError(
            f"the database of instance {database.config.name!r} is at revision {found}, this "
            f"version needs {HEAD}: run 'lamin db upgrade' when nobody else is working with it"
        )
    upgrade(database)


def _refuse_newer(database: Database, found: str) -> None:
    if found == MIGRATING:
        raise DatabaseUnfinishedError(
            f"the database of instance {database.config.name!r} is being filled by 'lamin "
            "migrate', or was when that ended: run it again in the old instance, with the same "
            "arguments"
        )
    if found > HEAD:
        raise DatabaseTooNewError(
            f"the database of instance {database.config.name!r} is at revision {found}, this "
            f"version of lamindb-workflows knows up to {HEAD}: upgrade the package"
        )


def upgrade(database: Database) -> Path | None:
    """Run the migrations that are missing; returns the backup made of a SQLite file.

    Raises: DatabaseTooNewError.
    """
    backup = None
    found = revision(database)
    if found == HEAD:
        return None
    _refuse_newer(database, found)
    if (path := database.config.sqlite_path) is not None:
        with database.begin():
            pass  # where nothing can be written this says so better than the backup
        backup = back_up(path)
    run_migrations(database)
    return backup


def drop(database: Database) -> None:
    """Remove all tables of an instance, and nothing of others."""
    with database.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def is_instance(database: Database) -> bool:
    """Whether a database holds the records of an instance."""
    with database.read() as connection:
        return inspect(connection).has_table(VERSION_TABLE)


def foreign_tables(database: Database) -> list[str]:
    """Return the tables and views of a database that are not an instance's, by name."""
    with database.read() as connection:
        found = inspect(connection)
        names = {*found.get_table_names(), *found.get_view_names()}
        if not found.has_table(VERSION_TABLE):
            return sorted(names)  # one called "user" is somebody else's
    return sorted(names - set(metadata.tables) - {VERSION_TABLE})


def back_up(path: Path) -> Path:
    """Copy a SQLite database, with what still lies in its write-ahead log, beside itself."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.{stamp}.backup")
    source, copy = sqlite3.connect(path), sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        source.close()
        copy.close()
    return target


def run_migrations(database: Database) -> None:
    """Run Alembic up to HEAD in one transaction, under the database's write lock."""
    from alembic import command
    from alembic.config import Config

    alembic = Config()
    alembic.set_main_option("script_location", "lamindb:db/migrations")
    with database.rebuild() as connection:
        serialise(connection, "tables")
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, HEAD)
