"""One database: connections for this process, short transactions, errors in the package's words."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.pool import QueuePool

from lamindb.config import InstanceConfig, settings
from lamindb.db.fork import ForkGate
from lamindb.db.server import CONFLICTS, LOCK_NOT_AVAILABLE, server_engine, state_of
from lamindb.errors import (
    DatabaseConflictError,
    DatabaseCorruptError,
    DatabaseError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    RecordError,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_WRITE = "lamindb_write"
# of an engine that is disposed of: its connections are closed when they are given back
_LEFT = "lamindb_left"
# for how long a connection waits for a lock now
_TIMEOUT = "lamindb_timeout"
# SQLite waits for a lock no longer than this at once: meanwhile Python cannot handle a signal
_SLICE_S = 0.25
# not SQLITE_BUSY_SNAPSHOT: what a transaction has read stays overtaken
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_TIMEOUT)
# by kind; a database in WAL mode that cannot be written and has no log gives either
_NOT_OPENED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
# SQLSTATE
_UNDEFINED_TABLE = "42P01"
_DATA_EXCEPTION = "22"
# insufficient privilege; a read-only transaction, as of a standby
_REFUSED = ("42501", "25006")
_CHUNK = 500
T = TypeVar("T")
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """The records of one instance. Safe in threads; forked children get connections of their own.

    Every method raises DatabaseError and its children instead of the driver's errors, except
    SQLAlchemy's IntegrityError, which the callers that can mend it expect; and RecordError for a
    value that cannot be put into its field.
    """

    def __init__(self, config: InstanceConfig) -> None:
        self.config = config
        # one, or none
        self._engines: dict[str, Engine] = {}
        _databases.add(self)

    @property
    def engine(self) -> Engine:
        url = self.config.db
        engine = self._engines.get(url)
        if engine is None:
            path = self.config.sqlite_path
            made = server_engine(self.config) if path is None else _sqlite_engine(path)
            _close_once_left(made)
            # another thread may have made one at the same time, and have connected
            engine = self._engines.setdefault(url, made)
        return engine

    @property
    def is_sqlite(self) -> bool:
        return self.config.is_sqlite

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state."""
        with self._connecting(), self._connect_to_read() as connection:
            yield connection

    def _connect_to_read(self) -> Connection:
        connection = self.engine.connect()
        if self.is_sqlite:
            return connection
        # a server would else show each statement what is committed by then
        return connection.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One write transaction: commits at the end, rolls back on any exception."""
        with (
            self._connecting(),
            self.engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def rebuild(self) -> Iterator[Connection]:
        """One write transaction that may replace tables, which SQLite does by dropping the old.

        Dropping one cascades like deleting its rows, so foreign keys rest until the end of it.

        Raises: DatabaseCorruptError: a row refers to nothing now; all is rolled back.
        """
        if not self.is_sqlite:
            with self.begin() as connection:
                yield connection
            return
        with (
            self._connecting(),
            self.engine.connect().execution_options(**{_WRITE: True}) as connection,
        ):
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA foreign_keys=OFF")  # within a transaction it would do nothing
            try:
                with connection.begin():
                    yield connection
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                    if broken is not None:
                        raise DatabaseCorruptError(
                            f"row {broken[1]} of {broken[0]} in {self.config.sqlite_path} refers "
                            f"to nothing in {broken[2]}: nothing was changed; put back a backup, "
                            "or report this with the versions of lamindb-workflows"
                        )
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """An ORM session for reading; what it loaded stays usable after it is closed."""
        from sqlalchemy.orm import Session  # commands that only list rows do without the ORM

        with self._connecting(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    def dispose(self, *, close: bool = True) -> None:
        """Drop the connections; a forked child must not close those of its parent."""
        engine = self._engines.pop(self.config.db, None)
        if engine is not None:
            if close:
                engine.update_execution_options(**{_LEFT: True})
            engine.dispose(close=close)

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        try:
            if self.is_sqlite:
                with _gate.using():
                    yield
            else:
                yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            if state_of(error).startswith(_DATA_EXCEPTION):
                raise RecordError(f"a value does not fit its field: {error.orig}") from error
            raise self.explain(error) from error
        except StatementError as error:
            raise RecordError(f"a value does not fit its field: {error.orig or error}") from error

    def explain(self, error: DBAPIError) -> DatabaseError:
        """Return what a driver's error means for the user."""
        what = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else str(error)
        where = self.config.database
        if "malformed" in what or "not a database" in what:
            return DatabaseCorruptError(
                f"the database {where} is damaged ({what}): put back a backup of it; "
                "the objects in storage are untouched"
            )
        if state_of(error) in CONFLICTS:
            return DatabaseConflictError(
                f"the database {where} undid a change, since others changed the same at once "
                f"({what}): do it again"
            )
        if "no such table" in what or state_of(error) == _UNDEFINED_TABLE:
            return DatabaseCorruptError(
                f"the database {where} lacks a table ({what}): it is not, or no longer, an "
                "instance's database; put back a backup, or run 'lamin init' for a new one"
            )
        if "unable to open" in what and not Path(where).exists():
            return DatabaseMissingError(
                f"the database {where} is gone: was its folder moved or unmounted? Put it back, "
                "or run 'lamin init' for a new one"
            )
        if "locked" in what or state_of(error) == LOCK_NOT_AVAILABLE:
            return DatabaseUnreachableError(
                f"the database {where} stayed locked by another process for "
                f"{settings.busy_timeout_s:g} s: end that process, or raise LAMINDB_BUSY_TIMEOUT"
            )
        if state_of(error) in _REFUSED:
            return DatabaseUnreachableError(
                f"the database {where} refuses this ({what}): use it as a user who may write, or "
                "wait until the server takes writes again"
            )
        if "readonly" in what or "unable to open" in what:
            return DatabaseUnreachableError(
                f"the database {where} cannot be written ({what}): check the permissions of the "
                "file, of those ending in -wal and -shm beside it and of their folder, and whether "
                "the disk is mounted read-only"
            )
        if "disk is full" in what:
            return DatabaseUnreachableError(
                f"the disk of the database {where} is full: nothing was recorded; free some space"
            )
        if isinstance(error, OperationalError) or error.connection_invalidated:
            return DatabaseUnreachableError(
                f"the database {where} does not answer ({what}): check that it runs and can be "
                "reached from here"
            )
        return DatabaseError(f"the database {where} refused: {what}")


def create_sqlite_file(path: Path) -> None:
    """Make an empty database, or take the one that is there, in WAL mode, which the file remembers.

    Raises: sqlite3.DatabaseError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _sqlite_engine(path: Path) -> Engine:
    # however many threads: to wait for a connection, and then for the lock, could end in neither
    engine = create_engine(
        "sqlite://", creator=partial(_connect, path), poolclass=QueuePool, max_overflow=-1
    )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkin", _close_if_for_reading)
    return engine


def _connect(path: Path) -> _PatientConnection:
    log = path.with_name(f"{path.name}-wal")
    is_folder_writable = os.access(path.parent, os.W_OK)
    if os.access(path, os.W_OK) and (is_folder_writable or os.access(log, os.W_OK)):
        # mode=rw: a database that is gone is an error, not an empty new one
        return _open(path, "mode=rw")
    # while nobody writes to a database in WAL mode there is no log, without which it cannot be
    # opened; and one that a reader makes would be in the way of those who write
    if log.exists() or not is_folder_writable:
        try:
            return _open(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NOT_OPENED or log.exists():
                raise
    return _open(path, "mode=ro&immutable=1")


def _open(path: Path, options: str) -> _PatientConnection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{options}",
        uri=True,
        timeout=_slice_s(),
        isolation_level=None,  # transactions begin where _begin says
        check_same_thread=False,
        factory=_PatientConnection,
    )
    connection.is_for_reading = options != "mode=rw"
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=NORMAL")  # the first that needs the file
    except BaseException:
        connection.close()
        raise
    return connection


def _close_once_left(engine: Engine) -> None:
    """Close connections that are given back when nobody will ask for one again."""

    def close(connection: Any, record: Any) -> None:
        if connection is not None and engine.get_execution_options().get(_LEFT):
            record.close()

    event.listen(engine, "checkin", close)


def _close_if_for_reading(connection: sqlite3.Connection | None, record: Any) -> None:
    # somebody may be writing to the database the next time
    if isinstance(connection, _PatientConnection) and connection.is_for_reading:
        record.close()


def _slice_s() -> float:
    return min(settings.busy_timeout_s, _SLICE_S)


class _PatientCursor(sqlite3.Cursor):
    def execute(self, *arguments: Any) -> Self:
        return _patiently(super().execute, *arguments)


class _PatientConnection(sqlite3.Connection):
    """Waits for locks as long as the settings say by then, and handles signals meanwhile."""

    is_for_reading = False

    def cursor(self, *_: Any) -> Any:
        return super().cursor(_PatientCursor)

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)

    def commit(self) -> None:
        _patiently(super().commit)  # outside of WAL mode it waits for readers


def _patiently(act: Callable[..., T], *arguments: Any) -> T:
    began = time.monotonic()
    while True:
        try:
            return act(*arguments)
        except sqlite3.OperationalError as error:
            waited_s = time.monotonic() - began
            if error.sqlite_errorcode not in _PASSING or waited_s >= settings.busy_timeout_s:
                raise
        time.sleep(0.01)  # where SQLite sees no sense in waiting it answers at once


def _begin(connection: Connection) -> None:
    # a transaction that reads first and then writes fails at once when another has written between;
    # taking the write lock at its start waits instead
    write = connection.get_execution_options().get(_WRITE, False)
    driver = connection.connection.driver_connection
    if write and isinstance(driver, _PatientConnection) and driver.is_for_reading:
        # SQLite would say so only at the first statement that changes something
        refused = sqlite3.OperationalError("attempt to write a readonly database")
        raise OperationalError("BEGIN IMMEDIATE", None, refused)
    wanted = _slice_s()
    if connection.info.get(_TIMEOUT, wanted) != wanted:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(1000 * wanted)}")
    connection.info[_TIMEOUT] = wanted
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _close_sqlite() -> None:
    for database in list(_databases):
        if database.is_sqlite:
            database.dispose()


def _forget_connections() -> None:
    for database in list(_databases):
        database.dispose(close=False)


_gate = ForkGate(close_idle=_close_sqlite, forget=_forget_connections)


def insert_if_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
    """Insert rows whose keys are not there yet; returns how many were new."""
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return connection.execute(insert(table).on_conflict_do_nothing(), rows).rowcount


def chunked(values: Iterable[T]) -> Iterator[list[T]]:
    """Yield some hundred values at a time, as many as every database takes in one statement."""
    ordered = list(values)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]


def serialise(connection: Connection, name: str) -> None:
    """Until the transaction ends, let nobody else pass this point with the same name.

    SQLite's write transactions are one at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
