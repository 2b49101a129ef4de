"""Files that runs read and wrote: registered where they are, or copied into the storage."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, or_, select, update
from sqlalchemy.exc import IntegrityError

from lamindb.config import is_remote
from lamindb.db import schema
from lamindb.db.database import serialise
from lamindb.db.server import retried
from lamindb.errors import DatabaseConflictError, LaminError, StorageUnreachableError
from lamindb.hooks.events import Event, FileRead, FileRetracted, FileStat, FileWritten, utc_now
from lamindb.instance import Instance
from lamindb.recording.looks import Look, look_at
from lamindb.recording.places import Place, place_of, storage_at
from lamindb.recording.said import say_recorded
from lamindb.recording.state import FileState
from lamindb.records.stubs import add_stubs

logger = logging.getLogger("lamindb")

# after so long a storage that does not answer is taken for gone
_COPY_WAITS = dt.timedelta(days=1)
file, link, run = schema.file, schema.run_file, schema.run

FileEvent = FileRead | FileWritten
# by event id
_Places = dict[str, Place | None]


def record_files(here: Instance, events: Sequence[Event]) -> None:
    """Hash the files that events speak of, then write all in one transaction.

    Raises: DatabaseError; StorageUnreachableError: what is to be copied has nowhere to go now.
    """
    ordered = sorted(
        (event for event in events if isinstance(event, FileRead | FileWritten | FileRetracted)),
        key=lambda event: event.at,
    )
    realpath = cache(os.path.realpath)  # many of them lie in one folder
    places = {event.event_id: place_of(here, event.uri, realpath) for event in ordered}
    seen = [event for event in ordered if not isinstance(event, FileRetracted)]
    looks = _look(here, seen, places)

    def write() -> list[tuple[Event, str]]:
        try:
            with here.begin() as connection:
                return _write(connection, here, ordered, places, looks)
        except (IntegrityError, DatabaseConflictError):
            here.unmanaged_storages.clear()  # rolled back
            raise

    # another process may write the same file or storage between our look and our write
    say_recorded(retried(write, IntegrityError))


# --- before the transaction: what the bytes were --------------------------------------------------


def _look(here: Instance, events: Sequence[FileEvent], places: _Places) -> dict[str, Look]:
    """Hash what the events speak of, by event id, without what is recorded or copied already."""
    recorded = _recorded(here, [(event, places[event.event_id]) for event in events])
    looks: dict[str, Look] = {}
    for event in events:
        place = places[event.event_id]
        if place is None or event.event_id in looks or _identity(event, place) in recorded:
            continue
        if isinstance(event, FileWritten) and (event.copy or event.key) and _copy(here, event):
            continue
        looks[event.event_id] = look_at(event, place)
    return looks


def _identity(event: FileEvent, place: Place) -> tuple[Any, ...]:
    return event.run, place.key, isinstance(event, FileRead), event.at


def _recorded(
    here: Instance, events: Sequence[tuple[FileEvent, Place | None]]
) -> set[tuple[Any, ...]]:
    """Which of these very events are in the database: their bytes may be gone or changed by now."""
    runs = sorted({event.run for event, _ in events})
    keys = sorted({place.key for _, place in events if place is not None})
    uris = sorted({place.uri for _, place in events if place is not None})
    keys_of = {place.uri: place.key for _, place in events if place is not None}
    with here.database.read() as connection:
        rows = connection.execute(
            select(link.c.run_id, link.c.role, link.c.created_at, file.c.key, file.c.source_uri)
            .join(file, file.c.id == link.c.file_id)
            .where(link.c.run_id.in_(runs), or_(file.c.key.in_(keys), file.c.source_uri.in_(uris)))
        ).all()
    return {
        (row.run_id, key, row.role == "input", row.created_at)
        for row in rows
        for key in (row.key, keys_of.get(row.source_uri or ""))
    }


def _copy(here: Instance, event: FileWritten) -> bool:
    """Add a file to the instance's storage as its run's output; False where it cannot be."""
    from lamindb.records.adding import add
    from lamindb.records.file import File
    from lamindb.records.run import Run

    if event.stat is not None and FileStat.of(event.uri) != event.stat:
        return False  # it was gone or changed before it could be copied
    with here.begin() as connection:
        add_stubs(connection, here, [(event.run, event.at)])
    with here.database.session() as session:  # to read as users do waits for what is told, for this
        producer = session.scalars(select(Run).where(Run.id == event.run)).one()
    try:
        copied = add(File(event.uri, key=event.key, run=producer, description=event.description))
    except (LaminError, OSError) as error:
        passes = isinstance(error, StorageUnreachableError) and not is_remote(event.uri)
        if passes and utc_now() - event.at < _COPY_WAITS:
            raise  # it waits in the spool for the storage to be back
        logger.warning("%s is not copied, only registered where it is: %s", event.uri, error)
        return False
    own = (link.c.run_id == event.run, link.c.file_id == copied.id, link.c.role == "output")
    with here.begin() as connection:
        # by its time the same event is known again, when the file may be gone or changed
        connection.execute(update(link).where(*own).values(created_at=event.at))
    say_recorded([(event, copied.id)])
    return True


# --- the transaction ------------------------------------------------------------------------------


def _write(
    connection: Connection,
    here: Instance,
    events: Sequence[FileEvent | FileRetracted],
    places: _Places,
    looks: dict[str, Look],
) -> list[tuple[Event, str]]:
    # in one order for all processes, so that none waits for another that waits for it
    for key in sorted({look.place.key for look in looks.values()}):
        serialise(connection, f"key {key}")
    heard = [(look.event.run, look.event.at) for look in looks.values()]
    heard += [(event.run, event.at) for event in events if isinstance(event, FileRetracted)]
    add_stubs(connection, here, heard)
    recorded: list[tuple[Event, str]] = []
    for is_retraction, group in groupby(events, lambda event: isinstance(event, FileRetracted)):
        if is_retraction:
            for event in group:
                assert isinstance(event, FileRetracted)
                taken = _retract(connection, event, places[event.event_id])
                recorded += [(event, file_id) for file_id in taken]
        else:
            seen = [looks[event.event_id] for event in group if event.event_id in looks]
            recorded += _write_looks(connection, here, seen)
    return recorded


def _write_looks(
    connection: Connection, here: Instance, looks: Sequence[Look]
) -> Iterable[tuple[Event, str]]:
    if not looks:
        return []
    storages = {look.place.root: storage_at(connection, here, look.place) for look in looks}
    state = FileState(connection, here.user_id, storages, looks)
    recorded = [
        (look.event, file_id)
        for look in looks
        if (file_id := (state.write if look.is_output else state.read)(look)) is not None
    ]
    state.flush()
    return recorded


def _retract(connection: Connection, event: FileRetracted, place: Place | None) -> list[str]:
    """Take an output back; noted with its run, for one whose own event comes later."""
    # what else is noted there comes from other threads and processes
    query = select(run.c.details).where(run.c.id == event.run).with_for_update(key_share=True)
    details = dict(connection.execute(query).scalar() or {})
    own = dict(details.get("lamindb") or {})
    said = {"at": event.at.isoformat(), "reason": event.reason}
    own["retracted"] = {**own.get("retracted", {}), event.uri: said}
    connection.execute(
        update(run).where(run.c.id == event.run).values(details={**details, "lamindb": own})
    )
    if place is None:
        return []
    taken = list(
        connection.execute(
            select(file.c.id)
            .join(link, link.c.file_id == file.c.id)
            .where(
                link.c.run_id == event.run,
                link.c.role == "output",
                link.c.created_at <= event.at,
                or_(file.c.key == place.key, file.c.source_uri == place.uri),
            )
        ).scalars()
    )
    connection.execute(
        update(link)
        .where(link.c.run_id == event.run, link.c.role == "output", link.c.file_id.in_(taken))
        .values(role="retracted")
    )
    return taken
