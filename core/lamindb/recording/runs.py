"""Runs, their attempts, and what ties them to each other."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from lamindb.db import schema
from lamindb.db.database import chunked, insert_if_new, serialise
from lamindb.db.server import retried
from lamindb.hooks.events import EnvironmentSeen, Event, RunFinished, RunLinked, RunStarted
from lamindb.identifiers import USER_ID_LENGTH, random_id
from lamindb.instance import Instance
from lamindb.recording.nesting import yield_to_inner
from lamindb.recording.said import say_recorded
from lamindb.records.stubs import add_stubs
from lamindb.records.versions import version_of

# columns of a run that an event may set
_RUN_COLUMNS = (
    "transform_id",
    "transform_version",
    "name",
    "engine",
    "reference",
    "reference_type",
    "status",
    "started_at",
    "finished_at",
    "parent_id",
    "params",
    "environment_id",
    "error",
    "details",
    "host",
    "pid",
    "process_started_at",
    "heartbeat_at",
    "created_by_id",
    "created_at",
)
_OF_TRANSFORM = ("transform_id", "transform_version")
_ATTEMPT_COLUMNS = ("status", "started_at", "finished_at", "error")


def record_runs(here: Instance, events: Sequence[Event]) -> None:
    """Write events of runs in one transaction; raises DatabaseError."""
    ordered = sorted(events, key=lambda event: event.at)

    def write() -> None:
        with here.begin() as connection:
            _Batch(connection, here).record(ordered)

    # another process may write the same transform, user or run between our look and our write
    retried(write, IntegrityError)
    say_recorded((event, str(getattr(event, "run", event.event_id))) for event in ordered)


@dataclass
class _Known:
    """A run's row as it is and as it becomes, and its attempts by number."""

    row: dict[str, Any]
    attempts: dict[int, dict[str, Any]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    was_changed: bool = False
    got_transform: bool = False
    got_parent: bool = False
    is_new: bool = False


class _Batch:
    """One transaction's worth of events."""

    def __init__(self, connection: Connection, here: Instance) -> None:
        self._connection = connection
        self._here = here
        self._users: dict[str | None, str] = {None: here.user_id}
        self._transforms: dict[Any, tuple[str, str]] = {}

    def record(self, events: Sequence[Event]) -> None:
        environments = [event for event in events if isinstance(event, EnvironmentSeen)]
        starts = [event for event in events if isinstance(event, RunStarted)]
        ends = [event for event in events if isinstance(event, RunFinished)]
        links = [event for event in events if isinstance(event, RunLinked)]
        self._write_environments(environments, starts)
        heard = [(link.run, link.at) for link in links]
        heard += [(event.parent, event.at) for event in starts if event.parent]
        heard += [(link.other, link.at) for link in links if link.other]
        add_stubs(self._connection, self._here, heard)
        known = self._read([each for each in events if isinstance(each, RunStarted | RunFinished)])
        # in one order for all processes, so that none waits for another that waits for it
        for key in sorted({each.transform.key for each in starts if each.transform}):
            serialise(self._connection, f"transform {key}")
        for start in starts:
            self._start(known[start.run], start)
        for end in ends:
            self._end(known[end.run], end)
        for each in known.values():
            _derive(each)
        self._write(known)
        makers = self._makers([link for link in links if link.other is None])
        insert_if_new(
            self._connection,
            schema.run_run,
            [
                {"run_id": link.run, "other_id": other, "role": link.role}
                for link in links
                if (other := link.other or makers.get(link.event_id))
            ],
        )

    def _makers(self, links: Sequence[RunLinked]) -> dict[str, str]:
        """Return which run had made the result that a run reuses, by the event that says so."""
        if not links:
            return {}
        run = schema.run
        result = run.c.details["lamindb"]["result"].as_string()
        reusing = select(run.c.transform_id).where(run.c.id.in_([link.run for link in links]))
        rows = self._connection.execute(
            select(run.c.id, run.c.finished_at, result.label("result"))
            .where(run.c.transform_id.in_(reusing), run.c.status == "completed")
            .where(result.in_({link.result for link in links}))
            .order_by(run.c.finished_at)
        ).all()
        return {
            link.event_id: row.id
            for link in links
            for row in rows
            if row.result == link.result and row.id != link.run and row.finished_at <= link.at
        }

    def _write_environments(
        self, events: Sequence[EnvironmentSeen], starts: Sequence[RunStarted]
    ) -> None:
        table = schema.environment
        rows = {
            event.id: {
                "id": event.id,
                "python": event.python,
                "packages": event.packages,
                "created_at": event.at,
            }
            for event in reversed(events)
        }
        insert_if_new(self._connection, table, list(rows.values()))
        for row in rows.values():
            self._connection.execute(
                update(table)
                .where(table.c.id == row["id"], table.c.python == "")
                .values(python=row["python"], packages=row["packages"])
            )
        stubs = {start.environment: start.at for start in reversed(starts) if start.environment}
        insert_if_new(
            self._connection,
            table,
            [
                {"id": name, "python": "", "packages": {}, "created_at": at}
                for name, at in stubs.items()
                if name not in rows
            ],
        )

    def _read(self, events: Sequence[RunStarted | RunFinished]) -> dict[str, _Known]:
        runs = sorted({event.run for event in events})
        known = {
            row["id"]: _Known(dict(row))
            for row in _rows(self._connection, schema.run, schema.run.c.id, runs)
        }
        for event in events:  # of a new run, the first there was
            if event.run not in known:
                blank = dict.fromkeys(column.name for column in schema.run.columns)
                known[event.run] = _Known({**blank, **self._new(event)}, is_new=True)
        for row in _rows(self._connection, schema.attempt, schema.attempt.c.run_id, runs):
            known[row["run_id"]].attempts[row["number"]] = dict(row)
        return known

    def _new(self, event: RunStarted | RunFinished) -> dict[str, Any]:
        return {
            "id": event.run,
            "status": "started",
            "created_by_id": self._here.user_id,
            "created_at": event.at,
        }

    def _start(self, known: _Known, event: RunStarted) -> None:
        attempt = _attempt(known, event.attempt)
        _set(known, attempt, "started_at", _earlier(attempt["started_at"], event.at))
        row = known.row
        values: dict[str, Any] = {
            "name": event.name or (event.transform.name if event.transform else None),
            "engine": event.engine,
            "reference": event.reference,
            "reference_type": event.reference_type,
            "parent_id": event.parent,
            "params": event.params,
            "environment_id": event.environment,
            "host": event.host,
            "pid": event.pid,
            "process_started_at": event.process_started_at,
        }
        if event.transform is not None:
            found = self._transform(event)
            known.got_transform |= row["transform_id"] is None
            values |= {"transform_id": found[0], "transform_version": found[1]}
        started = [n for n, each in known.attempts.items() if each["started_at"] is not None]
        is_last = event.attempt >= max(started)
        if event.user is not None and is_last:
            values["created_by_id"] = self._user(event.user)
        if event.details:
            values["details"] = _joined({event.engine: event.details}, row["details"] or {})
        known.got_parent |= row["parent_id"] is None and event.parent is not None
        row.update(
            {
                name: value
                for name, value in values.items()
                # what a later attempt has said stands
                if value is not None and (is_last or name == "details" or row[name] is None)
            }
        )
        row["heartbeat_at"] = _later(row["heartbeat_at"], event.at)
        row["created_at"] = _earlier(row["created_at"], event.at)
        known.was_changed = True

    def _end(self, known: _Known, event: RunFinished) -> None:
        attempt = _attempt(known, event.attempt)
        if event.details:
            # by plugin already, since an end does not know the engine
            known.row["details"] = _joined(known.row["details"] or {}, event.details)
            known.was_changed = True
        if event.result:
            known.row["details"] = _joined(
                known.row["details"] or {}, {"lamindb": {"result": event.result}}
            )
            known.was_changed = True
        new = (event.at, event.status != "aborted", event.status, event.error or "")
        old = (
            attempt["finished_at"],
            attempt["status"] != "aborted",
            attempt["status"],
            attempt["error"] or "",
        )
        if old[0] is not None and new <= old:
            return
        _set(known, attempt, "finished_at", event.at)
        _set(known, attempt, "status", event.status)
        _set(known, attempt, "error", event.error)

    def _transform(self, event: RunStarted) -> tuple[str, str]:
        wanted = event.transform
        assert wanted is not None
        name = (wanted.key, wanted.source_hash)
        found = self._transforms.get(name)
        if found is None:
            row = version_of(self._connection, self._here, wanted, at=event.at)
            found = self._transforms[name] = row["id"], row["version"]
        return found

    def _user(self, handle: str) -> str:
        found = self._users.get(handle)
        if found is None:
            table = schema.user
            row = {"id": random_id(USER_ID_LENGTH), "handle": handle}
            query = select(table.c.id).where(table.c.handle == handle)
            found = self._connection.execute(query).scalar()
            if found is None:
                insert_if_new(self._connection, table, [row])
                found = self._connection.execute(query).scalar_one()
            self._users[handle] = found
        return found

    def _write(self, known: dict[str, _Known]) -> None:
        run, attempt = schema.run, schema.attempt
        if fresh := [known[name].row for name in sorted(known) if known[name].is_new]:
            self._connection.execute(insert(run), fresh)
        rows = [
            {f"new_{name}": each.row[name] for name in _RUN_COLUMNS} | {"the_id": each.row["id"]}
            for each in known.values()
            if each.was_changed and not each.is_new
        ]
        if rows:
            changes = {
                name: bindparam(f"new_{name}", type_=run.c[name].type) for name in _RUN_COLUMNS
            }
            self._connection.execute(
                update(run).where(run.c.id == bindparam("the_id")).values(changes), rows
            )
        touched = [
            each.attempts[number] for each in known.values() for number in sorted(each.changed)
        ]
        new: list[dict[str, Any]] = []
        old: list[dict[str, Any]] = []
        for row in touched:
            (new if row.pop("is_new", False) else old).append(row)
        if new:
            self._connection.execute(insert(attempt), new)
        if old:
            self._connection.execute(
                update(attempt)
                .where(
                    attempt.c.run_id == bindparam("the_run"),
                    attempt.c.number == bindparam("the_number"),
                )
                .values({name: bindparam(f"new_{name}") for name in _ATTEMPT_COLUMNS}),
                [
                    {f"new_{name}": row[name] for name in _ATTEMPT_COLUMNS}
                    | {"the_run": row["run_id"], "the_number": row["number"]}
                    for row in old
                ],
            )
        self._complete_files({name: each.row for name, each in known.items() if each.got_transform})
        yield_to_inner(
            self._connection, sorted(name for name, each in known.items() if each.got_parent)
        )

    def _complete_files(self, rows: dict[str, dict[str, Any]]) -> None:
        """Files may have come before the start that says of which transform their run is."""
        table, names = schema.file, sorted(rows)
        for chunk in chunked(names):
            lacking = select(table.c.run_id).where(
                table.c.run_id.in_(chunk), table.c.transform_id.is_(None)
            )
            found = sorted(set(self._connection.execute(lacking).scalars()))
            if found:
                self._connection.execute(
                    update(table)
                    .where(table.c.run_id == bindparam("the_run"), table.c.transform_id.is_(None))
                    .values({name: bindparam(f"new_{name}") for name in _OF_TRANSFORM}),
                    [
                        {f"new_{name}": rows[run][name] for name in _OF_TRANSFORM}
                        | {"the_run": run}
                        for run in found
                    ],
                )


def _attempt(known: _Known, number: int) -> dict[str, Any]:
    known.was_changed = True
    if number not in known.attempts:
        known.changed.add(number)
        known.attempts[number] = {
            "run_id": known.row["id"],
            "number": number,
            "status": "started",
            "started_at": None,
            "finished_at": None,
            "error": None,
            "is_new": True,
        }
    return known.attempts[number]


def _set(known: _Known, attempt: dict[str, Any], name: str, value: Any) -> None:
    if attempt[name] != value:
        attempt[name] = value
        known.changed.add(attempt["number"])


def _derive(known: _Known) -> None:
    """A run's status is that of its last attempt, and it began with its first."""
    row, attempts = known.row, known.attempts
    if not attempts:
        return
    last = attempts[max(attempts)]
    row["status"], row["error"] = last["status"], last["error"]
    row["finished_at"] = last["finished_at"]
    for each in attempts.values():
        row["started_at"] = _earlier(row["started_at"], each["started_at"])


def _earlier(one: dt.datetime | None, other: dt.datetime | None) -> dt.datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _later(one: dt.datetime | None, other: dt.datetime | None) -> dt.datetime | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Join what plugins know of a run, by plugin and then by fact; the new wins."""
    joined = dict(old)
    for plugin, facts in new.items():
        former = joined.get(plugin)
        both = isinstance(former, dict) and isinstance(facts, dict)
        joined[plugin] = {**former, **facts} if both else facts  # type: ignore[dict-item]
    return joined


def _rows(
    connection: Connection, table: Table, column: Any, values: Sequence[str]
) -> Iterable[Any]:
    for chunk in chunked(values):
        query = select(table).where(column.in_(chunk))
        if connection.dialect.name == "postgresql":
            query = query.order_by(*table.primary_key).with_for_update(key_share=True)
        yield from connection.execute(query).mappings()
