"""Files that runs read and wrote: registered where they are, or copied into the storage."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, desc, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from lamindb.db import schema
from lamindb.db.database import serialise
from lamindb.errors import LaminError
from lamindb.hooks.events import Event, FileRead, FileRetracted, FileWritten
from lamindb.identifiers import FILE_ID_LENGTH, random_id
from lamindb.instance import Instance
from lamindb.recording.looks import Look, look_at
from lamindb.recording.places import place_of, storage_at
from lamindb.recording.said import say_recorded
from lamindb.records.stubs import add_stubs

logger = logging.getLogger("lamindb")

_TRIES = 5
file, link, run = schema.file, schema.run_file, schema.run


def record_files(here: Instance, events: Sequence[Event]) -> None:
    """Hash the files that events speak of, then write all in one transaction.

    Raises: DatabaseError; StorageMissingError: what is to be copied has nowhere to go now.
    """
    ordered = sorted(events, key=lambda event: event.at)
    looks: dict[str, Look] = {}
    for event in ordered:
        if isinstance(event, FileRead | FileWritten) and event.event_id not in looks:
            look = None if _is_recorded(here, event) else look_at(here, event)
            if look is not None and not (_is_to_copy(event) and _copy(here, event)):
                looks[event.event_id] = look
    for tries_left in reversed(range(_TRIES)):
        try:
            with here.database.begin() as connection:
                batch = _Batch(connection, here)
                batch.begin(looks.values())
                recorded = [
                    (event, file_id)
                    for event in ordered
                    if (file_id := batch.record(event, looks.get(event.event_id))) is not None
                ]
            break
        except IntegrityError:
            here.unmanaged_storages.clear()
            if not tries_left:
                raise
    say_recorded(recorded)


def _is_to_copy(event: FileRead | FileWritten) -> bool:
    return isinstance(event, FileWritten) and (event.copy or event.key is not None)


def _is_recorded(here: Instance, event: FileRead | FileWritten) -> bool:
    """Whether this very event is in the database: its bytes may be gone or changed by now."""
    place = place_of(here, event.uri)
    if place is None:
        return True
    role = "input" if isinstance(event, FileRead) else "output"
    with here.database.read() as connection:
        found = connection.execute(
            select(link.c.file_id)
            .join(file, file.c.id == link.c.file_id)
            .where(
                link.c.run_id == event.run,
                link.c.role == role,
                link.c.created_at == event.at,
                or_(file.c.key == place.key, file.c.source_uri == place.uri),
            )
            .limit(1)
        ).scalar()
    return found is not None


def _copy(here: Instance, event: FileRead | FileWritten) -> bool:
    """Add a file to the instance's storage as its run's output; False where it cannot be."""
    from lamindb.records.adding import add
    from lamindb.records.base import read_all
    from lamindb.records.file import File
    from lamindb.records.run import Run

    assert isinstance(event, FileWritten)
    with here.database.begin() as connection:
        add_stubs(connection, here, [event.run], event.at)
    producer = read_all(select(Run).where(Run.id == event.run))[0]
    try:
        add(
            File(event.uri, key=event.key, run=producer, description=event.description),
        )
    except (LaminError, OSError) as error:
        logger.warning("%s is not copied, only registered where it is: %s", event.uri, error)
        return False
    return True


class _Batch:
    """One transaction's worth of file events."""

    def __init__(self, connection: Connection, here: Instance) -> None:
        self._connection = connection
        self._here = here

    def begin(self, looks: Iterable[Look]) -> None:
        """Take what the events need, in one order for all processes."""
        for key in sorted({look.place.key for look in looks}):
            serialise(self._connection, f"key {key}")

    def record(self, event: Event, look: Look | None) -> str | None:
        if isinstance(event, FileRetracted):
            return self._retract(event)
        if look is None:
            return None
        add_stubs(self._connection, self._here, [look.event.run], event.at)
        if isinstance(event, FileWritten):
            return self._write(look)
        return self._read(look)

    # --- what a run wrote -------------------------------------------------------------------------

    def _write(self, look: Look) -> str | None:
        event, storage_id = look.event, storage_at(self._connection, self._here, look.place)
        if look.hash is None:
            file_id = self._unhashed_output(look, storage_id)
            if file_id is None:
                return None
        else:
            same = self._same_content(look, storage_id) or self._added_by_code(look)
            file_id = same.id if same is not None else self._insert(look, storage_id, event.run)
            if same is not None and same.key is not None:
                self._make_latest(same, storage_id, event.at)
        role = "retracted" if self._was_retracted(event) else "output"
        self._link(event.run, file_id, role, event.how, "path", event.at)
        # what it has written itself is not its input when it looks at it again
        self._connection.execute(
            delete(link).where(
                link.c.run_id == event.run,
                link.c.file_id == file_id,
                link.c.role == "input",
                link.c.created_at >= event.at,
            )
        )
        self._name_first_producer(file_id)
        return file_id

    def _same_content(self, look: Look, storage_id: str) -> Row[Any] | None:
        return self._connection.execute(
            select(file).where(
                file.c.storage_id == storage_id,
                file.c.key == look.place.key,
                file.c.hash == look.hash,
            )
        ).one_or_none()

    def _added_by_code(self, look: Look) -> Row[Any] | None:
        """The record that the run's code has itself made of these bytes at this path."""
        return self._connection.execute(
            select(file)
            .join(link, and_(link.c.file_id == file.c.id, link.c.role == "output"))
            .where(
                link.c.run_id == look.event.run,
                file.c.source_uri == look.place.uri,
                file.c.hash == look.hash,
            )
            .limit(1)
        ).one_or_none()

    def _unhashed_output(self, look: Look, storage_id: str) -> str | None:
        """The record of an output whose bytes are no more; None if the run has a better one."""
        linked = self._connection.execute(
            select(file.c.id, file.c.hash)
            .join(link, link.c.file_id == file.c.id)
            .where(
                link.c.run_id == look.event.run,
                link.c.role.in_(("output", "retracted")),
                file.c.storage_id == storage_id,
                file.c.key == look.place.key,
            )
        ).all()
        if any(row.hash is not None for row in linked):
            return None
        return linked[0].id if linked else self._insert(look, storage_id, look.event.run)

    def _name_first_producer(self, file_id: str) -> None:
        """A record names the run that wrote it first, whichever event came first."""
        first = self._connection.execute(
            select(link.c.run_id, run.c.transform_id, run.c.transform_version)
            .join(run, run.c.id == link.c.run_id)
            .where(link.c.file_id == file_id, link.c.role.in_(("output", "retracted")))
            .order_by(link.c.created_at, link.c.run_id)
            .limit(1)
        ).one()
        self._connection.execute(
            update(file)
            .where(file.c.id == file_id, file.c.run_id.is_distinct_from(first.run_id))
            .values(
                run_id=first.run_id,
                transform_id=first.transform_id,
                transform_version=first.transform_version,
            )
        )

    def _was_retracted(self, event: FileRead | FileWritten) -> bool:
        details = self._connection.execute(
            select(run.c.details).where(run.c.id == event.run)
        ).scalar()
        taken_back = ((details or {}).get("lamindb") or {}).get("retracted", {}).get(event.uri)
        return bool(taken_back) and taken_back["at"] >= event.at.isoformat()

    def _retract(self, event: FileRetracted) -> str | None:
        add_stubs(self._connection, self._here, [event.run], event.at)
        details = dict(
            self._connection.execute(select(run.c.details).where(run.c.id == event.run)).scalar()
            or {}
        )
        own = dict(details.get("lamindb") or {})
        own["retracted"] = {
            **own.get("retracted", {}),
            event.uri: {"at": event.at.isoformat(), "reason": event.reason},
        }
        self._connection.execute(
            update(run).where(run.c.id == event.run).values(details={**details, "lamindb": own})
        )
        place = place_of(self._here, event.uri)
        if place is None:
            return None
        found = self._connection.execute(
            select(file.c.id)
            .join(link, link.c.file_id == file.c.id)
            .where(
                link.c.run_id == event.run,
                link.c.role == "output",
                link.c.created_at <= event.at,
                or_(file.c.key == place.key, file.c.source_uri == place.uri),
            )
        ).scalars()
        taken = list(found)
        self._connection.execute(
            update(link)
            .where(link.c.run_id == event.run, link.c.role == "output", link.c.file_id.in_(taken))
            .values(role="retracted")
        )
        return taken[0] if taken else None

    # --- what a run read --------------------------------------------------------------------------

    def _read(self, look: Look) -> str | None:
        event, storage_id = look.event, storage_at(self._connection, self._here, look.place)
        found, matched_by = self._known_input(look, storage_id)
        file_id = found if found is not None else self._insert(look, storage_id, None)
        own = self._connection.execute(
            select(link.c.created_at).where(
                link.c.run_id == event.run, link.c.file_id == file_id, link.c.role == "output"
            )
        ).scalar()
        if own is not None and own <= event.at:
            return None
        self._link(event.run, file_id, "input", event.how, matched_by, event.at)
        return file_id

    def _known_input(self, look: Look, storage_id: str) -> tuple[str | None, str]:
        """The record of what was read, and by what it is known: its path, the path it was added
        from, or its content alone."""
        at_path = and_(file.c.storage_id == storage_id, file.c.key == look.place.key)
        if look.hash is None:
            query = select(file).where(at_path).order_by(desc(file.c.is_latest))
            for row in self._connection.execute(query):
                if look.size is None or row.size is None or row.size == look.size:
                    return row.id, "path"
            return None, "path"
        same = file.c.hash == look.hash
        newest = desc(file.c.created_at)
        queries = [
            ("path", select(file.c.id).where(at_path, same)),
            ("source", select(file.c.id).where(file.c.source_uri == look.place.uri, same)),
        ]
        if look.size:  # all empty files are alike
            own = select(link.c.file_id).where(
                link.c.run_id == look.event.run, link.c.role == "output"
            )
            # a copy that the run itself makes of what it reads is not what it read
            made = and_(same, file.c.run_id.is_not(None), file.c.id.not_in(own))
            queries.append(("content", select(file.c.id).where(made)))
        for matched_by, query in queries:
            found = self._connection.execute(query.order_by(newest).limit(1)).scalar()
            if found is not None:
                return found, matched_by
        return None, "path"

    # --- rows -------------------------------------------------------------------------------------

    def _insert(self, look: Look, storage_id: str, run_id: str | None) -> str:
        event, place = look.event, look.place
        latest = self._latest(storage_id, place.key)
        since = event.at if latest is None else latest.updated_at
        is_latest = latest is None or since <= event.at
        if latest is not None and is_latest:
            self._retire(latest.id, event.at)
        transform = None
        if run_id is not None:
            transform = self._connection.execute(
                select(run.c.transform_id, run.c.transform_version).where(run.c.id == run_id)
            ).one()
        values = {
            "id": random_id(FILE_ID_LENGTH),
            "name": place.name,
            "suffix": look.suffix,
            "size": look.size,
            "hash": look.hash,
            "hash_type": look.hash_type,
            "hash_note": look.note,
            "key": place.key,
            "run_id": run_id,
            "transform_id": transform.transform_id if transform else None,
            "transform_version": transform.transform_version if transform else None,
            "storage_id": storage_id,
            "source_uri": place.uri,
            "is_latest": is_latest,
            "description": getattr(event, "description", None),
            "created_at": event.at,
            "updated_at": event.at if is_latest else since,
            "created_by_id": self._here.user_id,
        }
        self._connection.execute(insert(file).values(**values))
        return str(values["id"])

    def _latest(self, storage_id: str, key: str) -> Row[Any] | None:
        return self._connection.execute(
            select(file).where(file.c.storage_id == storage_id, file.c.key == key, file.c.is_latest)
        ).one_or_none()

    def _make_latest(self, same: Row[Any], storage_id: str, at: dt.datetime) -> None:
        """Content that has come back is the latest again, unless newer content is known."""
        if same.is_latest:
            return
        latest = self._latest(storage_id, same.key)
        if latest is not None:
            if latest.updated_at > at:
                return
            self._retire(latest.id, at)
        self._connection.execute(
            update(file).where(file.c.id == same.id).values(is_latest=True, updated_at=at)
        )

    def _retire(self, file_id: str, at: dt.datetime) -> None:
        self._connection.execute(
            update(file).where(file.c.id == file_id).values(is_latest=False, updated_at=at)
        )

    def _link(
        self, run_id: str, file_id: str, role: str, how: str, matched_by: str, at: dt.datetime
    ) -> None:
        """Link a run and a file: since the earliest time, and as declared if it ever was."""
        here = and_(link.c.run_id == run_id, link.c.file_id == file_id, link.c.role == role)
        known = self._connection.execute(select(link).where(here)).one_or_none()
        if known is None:
            values = {
                "run_id": run_id,
                "file_id": file_id,
                "role": role,
                "how": how,
                "matched_by": matched_by,
                "created_at": at,
            }
            self._connection.execute(insert(link).values(**values))
            return
        values = {
            "how": "declared" if "declared" in (how, known.how) else how,
            "matched_by": "path" if "path" in (matched_by, known.matched_by) else known.matched_by,
            "created_at": min(at, known.created_at),
        }
        if any(getattr(known, name) != value for name, value in values.items()):
            self._connection.execute(update(link).where(here).values(**values))
