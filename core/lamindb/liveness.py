"""Finds runs whose process is gone, and says so in their rows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import psutil
from sqlalchemy import and_, or_, select, update

from lamindb import lastwords
from lamindb.config import host
from lamindb.db.database import Database
from lamindb.db.schema import attempt, now, run
from lamindb.processes import is_running, this_process

SILENT_AFTER = dt.timedelta(minutes=30)
DIED = "its process died without saying why, as after SIGKILL or power loss"


def process_table() -> str:
    """Name the numbering of processes that this process's own is one of.

    A container has another one than its host, and so has the same host after it was started anew.
    """
    owner = this_process()
    return f"{owner.boot} {owner.namespace}"


def dead_runs(database: Database) -> list[str]:
    """Return the ids of runs that never ended and whose process is gone.

    On this host a process is looked up by number and start time; of another host, or another
    container of this one, a heartbeat 30 minutes old says it.
    """
    here, silent = host(), now() - SILENT_AFTER
    columns = (
        run.c.id, run.c.pid, run.c.process_started_at, run.c.heartbeat_at, run.c.host, run.c.details
    )  # fmt: skip
    with database.read() as connection:
        candidates = connection.execute(
            select(*columns).where(
                run.c.status == "started",
                or_(
                    and_(run.c.host == here, run.c.pid.is_not(None)),
                    run.c.heartbeat_at < silent,
                ),
            )
        ).all()
    return [row.id for row in candidates if _is_dead(row, here, silent)]


def _is_dead(row: Any, here: str, silent: dt.datetime) -> bool:
    is_silent = row.heartbeat_at is None or row.heartbeat_at < silent
    if row.host != here or row.pid is None:
        return bool(row.host != here or is_silent)
    table = ((row.details or {}).get("lamindb") or {}).get("process")
    own = process_table()
    if table in (None, own):
        if row.process_started_at is not None:
            return not is_running(row.pid, row.process_started_at.timestamp())
        return is_silent or not psutil.pid_exists(row.pid)  # another may have its number by now
    if table.partition(" ")[2] == own.partition(" ")[2]:
        return True  # the machine was started anew since
    return bool(is_silent)


def beat(database: Database, run_ids: list[str]) -> None:
    """Say that runs are alive; this takes back that one was found dead."""
    alive = run.c.id.in_(run_ids)
    with database.begin() as connection:
        connection.execute(
            update(run).where(alive, run.c.status == "started").values(heartbeat_at=now())
        )
        query = select(run.c.id).where(alive, run.c.status == "aborted", run.c.error == DIED)
        if wrong := connection.execute(query).scalars().all():
            again = {"status": "started", "finished_at": None, "error": None}
            connection.execute(
                update(run).where(run.c.id.in_(wrong)).values(heartbeat_at=now(), **again)
            )
            connection.execute(
                update(attempt)
                .where(attempt.c.run_id.in_(wrong), attempt.c.error == DIED)
                .values(again)
            )


def close_dead_runs(database: Database) -> int:
    """Mark dead runs as ``aborted``, or ``cancelled`` if the process left word of a signal.

    So are their open attempts. They count as ended when they last gave a sign of life: the look
    may come months later.

    A late end, or heartbeat, of one reverses this. Returns how many.
    """
    dead = dead_runs(database)
    if not dead:
        return 0
    at = now()
    with database.begin() as connection:
        rows = connection.execute(
            select(
                run.c.id, run.c.pid, run.c.process_started_at, run.c.host, run.c.heartbeat_at
            ).where(run.c.id.in_(dead))
        ).all()
        for row in rows:
            name = _last_words(row)
            end = {
                "status": "cancelled" if name else "aborted",
                "finished_at": row.heartbeat_at or at,
                "error": name or DIED,
            }
            closed = connection.execute(
                update(run).where(run.c.id == row.id, run.c.status == "started").values(end)
            ).rowcount
            if closed:
                connection.execute(
                    update(attempt)
                    .where(attempt.c.run_id == row.id, attempt.c.finished_at.is_(None))
                    .values(end)
                )
    return len(dead)


def _last_words(row: Any) -> str | None:
    if row.host != host() or row.pid is None or row.process_started_at is None:
        return None
    return lastwords.found(row.pid, row.process_started_at.timestamp())
