"""Connections to a database server, which may be far away, restarted, full, or taken by others."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from lamindb.config import InstanceConfig, settings
from lamindb.errors import DatabaseConflictError

T = TypeVar("T")
TRIES = 5

# SQLSTATEs: serialization_failure, deadlock_detected
CONFLICTS = ("40001", "40P01")
LOCK_NOT_AVAILABLE = "55P03"
# for how long a connection waits for a lock now
_TIMEOUT = "lamindb_timeout"
_FULL = ("too many clients", "remaining connection slots", "too many connections")
# a host that is gone is noticed within a minute or so, not after the hours that TCP takes
_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
# a laptop that falls asleep in a transaction keeps nobody waiting for longer
_IDLE_IN_TRANSACTION_S = 600


def server_engine(config: InstanceConfig) -> Engine:
    url = make_url(config.db)
    if config.password:
        url = url.set(password=config.password)
    given = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    engine = create_engine(
        url,
        connect_args=given,
        pool_pre_ping=True,
        pool_size=2,
        # however many threads: what waits for a connection may be what another one waits for
        max_overflow=-1,
        json_serializer=_as_json,
    )
    logging.getLogger("psycopg").addFilter(_is_news)
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def state_of(error: DBAPIError) -> str:
    """Return the SQLSTATE of an error; empty where there is none."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def retried(write: Callable[[], T], *errors: type[Exception]) -> T:
    """Do what writes to the database, and do it again where others came in between.

    Args: errors: that mean this, beside DatabaseConflictError. The last one is raised.
    """
    passing: tuple[type[Exception], ...] = (DatabaseConflictError, *errors)
    for tries in range(1, TRIES):
        try:
            return write()
        except passing:
            pause(tries)
    return write()


def pause(tries: int) -> None:
    """Wait before a transaction that others came in between of is tried again."""
    time.sleep(random.uniform(0.0, 0.05 * 2**tries))  # noqa: S311 - so that two do not meet again


def _is_news(record: logging.LogRecord) -> bool:
    """Drop what psycopg says of statements on their way when it raises that another has failed."""
    return not str(record.msg).startswith("error ignored terminating")


def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """Connect; wait for a place where a server has as many connections as it takes."""
    deadline = time.monotonic() + settings.busy_timeout_s
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError as error:
            is_full = any(each in str(error) for each in _FULL)
            if not is_full or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311


def _set_up(connection: Any, record: Any) -> None:
    try:
        _set_timeouts(connection)
    except BaseException:
        connection.close()  # the pool forgets one that it was not given yet
        raise
    record.info[_TIMEOUT] = settings.busy_timeout_s
    if type(connection).__module__.startswith("psycopg"):
        from lamindb.db.texts import register

        register(connection)


def _set_timeouts(connection: Any) -> None:
    before = connection.autocommit
    connection.autocommit = True  # what is set in a transaction goes with it
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {_milliseconds()}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {1000 * _IDLE_IN_TRANSACTION_S}")
    connection.autocommit = before


def _begin(connection: Connection) -> None:
    if connection.info.get(_TIMEOUT) != settings.busy_timeout_s:
        connection.execute(text(f"SET LOCAL lock_timeout = {_milliseconds()}"))


def _milliseconds() -> int:
    return max(int(1000 * settings.busy_timeout_s), 1)


def _as_json(value: Any) -> str:
    try:
        found = json.dumps(value, allow_nan=False)
    except ValueError:
        found = json.dumps(fit(value), allow_nan=False)
    return json.dumps(fit(value), allow_nan=False) if "\\u0000" in found else found


def fit(value: Any) -> Any:
    """Return a value as JSON has it: no NUL in texts, which could not be read; no NaN."""
    match value:
        case str():
            return value.replace("\0", "")
        case float():
            return value if value - value == 0 else str(value)
        case dict():
            return {fit(name): fit(each) for name, each in value.items()}
        case list() | tuple():
            return [fit(each) for each in value]
    return value
