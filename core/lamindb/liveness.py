"""Finds runs whose process is gone, and says so in their rows."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import and_, or_, select, update

from lamindb.config import host
from lamindb.db.database import Database
from lamindb.db.schema import now, run
from lamindb.processes import is_running

SILENT_AFTER = dt.timedelta(minutes=30)


def dead_runs(database: Database) -> list[str]:
    """Return the ids of runs that never ended and whose process is gone.

    On this host a process is looked up by number and start time; of another host, a heartbeat 30
    minutes old says it.
    """
    here, silent = host(), now() - SILENT_AFTER
    columns = (run.c.id, run.c.pid, run.c.process_started_at, run.c.heartbeat_at, run.c.host)
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
    return [
        row.id
        for row in candidates
        if (
            row.host != here
            or row.process_started_at is None
            or not is_running(row.pid, row.process_started_at.timestamp())
        )
    ]


def beat(database: Database, run_ids: list[str]) -> None:
    """Say that runs are alive."""
    with database.begin() as connection:
        connection.execute(
            update(run)
            .where(run.c.id.in_(run_ids), run.c.status == "started")
            .values(heartbeat_at=now())
        )


def close_dead_runs(database: Database) -> int:
    """Mark dead runs as ``aborted``; a late end of one reverses this. Returns how many."""
    dead = dead_runs(database)
    if not dead:
        return 0
    at = now()
    with database.begin() as connection:
        for run_id in dead:
            connection.execute(
                update(run)
                .where(run.c.id == run_id, run.c.status == "started")
                .values(
                    status="aborted",
                    finished_at=at,
                    error="its process died without saying why, as after SIGKILL or power loss",
                )
            )
    return len(dead)
