"""``ln.delete``: a record and its object, both or neither."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, select, tuple_, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.exc import IntegrityError

from lamindb import instance
from lamindb.db import schema
from lamindb.db.database import chunked
from lamindb.db.server import retried
from lamindb.errors import DeleteError, RecordError
from lamindb.instance import Instance
from lamindb.journal import Operation, operation
from lamindb.records.base import Record, table_of
from lamindb.records.dependents import refuse_missing, refuse_needed
from lamindb.records.file import File
from lamindb.records.neighbours import Moved, Neighbours, covering
from lamindb.records.run import Run
from lamindb.records.storage import Storage
from lamindb.records.transform import Transform
from lamindb.records.user import User
from lamindb.steps import Step
from lamindb.storage.cache import holds
from lamindb.storage.keys import object_key, version_key
from lamindb.threads import mapped

T = TypeVar("T")
# what refers to others before those
_ORDER = (File, Run, Transform, Storage, User, Record)
_SHOWN = 5
_MAX_THREADS = 8


def delete(
    record: Record | Iterable[Record], delete_data: bool | None = None, *, force: bool = False
) -> None:
    """Delete records; of Files also the objects, as ``delete_data`` says.

    When the latest version of a key goes, the version before it becomes the latest again.

    Args:
        delete_data: whether the object goes too; None asks on a terminal.
        force: delete also what others depend on: their links to it go with it.
    Raises: DeleteError: nobody can be asked, or the object cannot be removed;
        HasDependentsError: names what depends on the record. Nothing is deleted then.
    """
    given = list(record) if isinstance(record, Iterable) else [record]
    for each in given:
        if not isinstance(each, Record):
            raise RecordError(f"{each!r} is not a record: give a File, Run, Transform or Storage")
    records = _in_order(given)
    here = instance.current()
    files = [each for each in records if isinstance(each, File)]
    for file in files:
        file.refuse_moved()
    with_data = bool(files) and _with_data(files, delete_data)
    _refuse_unmanaged(here, files if with_data else [])
    try:
        retried(lambda: _delete_all(here, records, files, with_data, force))
    except IntegrityError as error:
        raise DeleteError(
            f"{', '.join(map(repr, records))} cannot be deleted ({error.orig}): another process "
            "has just added what needs it; nothing was deleted"
        ) from error
    for each in records:
        each.__dict__.pop("_stored", None)
        each.__dict__.pop("_pending", None)


def _in_order(records: Iterable[Record]) -> list[Record]:
    """Return each record once, what refers to another before that one."""
    runs = {record.id: record for record in records if isinstance(record, Run)}

    def place(record: Record) -> tuple[int, int]:
        kind = next(number for number, kind in enumerate(_ORDER) if isinstance(record, kind))
        above = 0
        while isinstance(record, Run) and record.parent_id in runs and above < len(runs):
            record = runs[record.parent_id]
            above += 1
        return kind, -above

    return sorted(dict.fromkeys(records), key=place)


def _delete_all(
    here: Instance, records: list[Record], files: list[File], with_data: bool, force: bool
) -> None:
    neighbours, doomed = Neighbours(here), {file.id for file in files}
    planned = _Plan()

    def plan(work: Operation) -> list[Step]:
        nonlocal planned
        planned = _plan(work, here, records, with_data, force, neighbours)
        return planned.steps

    keys = [(file.storage_id, file.key or file._object_key()) for file in files]
    with operation(
        here.database, lambda storage_id: here.location(storage_id).store, "delete", keys, plan
    ) as work:
        _refuse_changed(here, work.steps)
        for step in work.steps:
            store = here.location(step.storage_id).store
            if step.aside is not None:
                work.confirm()
                store.move(step.final, step.aside, step.aside_type)
            if step.back is not None:
                work.confirm()
                store.move(step.back, step.final, step.back_type)
        with here.database.begin() as connection:
            trash = [(step.storage_id, step.aside) for step in work.steps if step.aside is not None]
            work.end(connection, trash)
            # a run may have read one meanwhile, or an engine's plugin registered one in place
            refuse_needed(connection, records, force)
            _refuse_shared(connection, neighbours, planned.moved, doomed)
            _delete_rows(connection, records)
            for chunk in chunked(planned.promoted):
                connection.execute(
                    update(schema.file)
                    .where(schema.file.c.id.in_(chunk))
                    .values(is_latest=True, updated_at=schema.now())
                )


def _with_data(files: list[File], delete_data: bool | None) -> bool:
    if delete_data is not None:
        return delete_data
    names = ", ".join(file.name for file in files[:_SHOWN]) + (", …" if len(files) > _SHOWN else "")
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise DeleteError(
            f"deleting {names}: say whether the stored data goes too, with delete_data=True or "
            "delete_data=False"
        )
    answer = input(f"Delete the stored data of {names} too? [y/n/cancel] ").strip().lower()
    if answer not in ("y", "yes", "n", "no"):
        raise DeleteError("cancelled: nothing was deleted")
    return answer.startswith("y")


def _refuse_unmanaged(here: Instance, files: list[File]) -> None:
    for file in files:
        location = here.location(file.storage_id)
        if not location.managed:
            raise DeleteError(
                f"the data of {file.name} is only registered where it lies, below "
                f"{location.store.root}: remove it there, and the record with delete_data=False"
            )
        location.store.check(file.storage_id)


def _refuse_changed(here: Instance, steps: list[Step]) -> None:
    """What was put there without lamindb would go along, and nobody has it elsewhere."""

    def look(step: Step) -> None:
        if step.aside is None or step.aside_hash is None:
            return
        store = here.location(step.storage_id).store
        source = store.source(step.final, step.aside_type)
        if not holds(source, step.aside_hash, anew=True):
            raise DeleteError(
                f"{store.uri(step.final)} holds other {'files' if source.is_directory else 'bytes'}"
                " than its record says: move those away or register them first, or delete the "
                "record alone with delete_data=False"
            )

    _in_threads(look, steps)


@dataclass
class _Plan:
    """What is moved, and which older versions become the latest again."""

    steps: list[Step] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)


def _plan(
    work: Operation,
    here: Instance,
    records: list[Record],
    with_data: bool,
    force: bool,
    neighbours: Neighbours,
) -> _Plan:
    files = [record for record in records if isinstance(record, File)]
    doomed = {file.id for file in files}
    with here.database.read() as connection:
        refuse_missing(connection, records)
        refuse_needed(connection, records, force)
        rows = _rows(connection, doomed)
        versions = _older_versions(connection, files, doomed)
    places = [
        _Place(here, file, rows[file.id], versions.get((file.storage_id, file.key), ()))
        for file in files
    ]
    for place in places:
        if place.earlier and not with_data:
            raise DeleteError(
                f"{place.file.key!r} has {len(place.earlier)} older versions, and one of them "
                "takes its place: delete it with delete_data=True, or the older versions first"
            )
    if with_data:
        _in_threads(_Place.look, places)
    # a folder before what lies in it
    places.sort(key=lambda place: len(neighbours.place(place.file.storage_id, place.key)))
    found, removed = _Plan(), set[str]()
    for number, each in enumerate(places):
        lies_at = neighbours.place(each.file.storage_id, each.key)
        goes_along = lies_at in removed or covering(lies_at, removed)
        if goes_along and each.earlier:
            raise DeleteError(
                f"{each.file.key!r} has older versions, and the folder that it lies in is to be "
                "deleted too: delete the older versions first"
            )
        is_there, back = each.is_there and not goes_along, each.back
        if back is not None:
            found.promoted.append(back.id)
        if is_there or back is not None:
            aside = work.incoming(number, "trash") if is_there else None
            found.steps.append(each.step(aside))
        if is_there:
            removed.add(lies_at)
            found.moved.append(neighbours.moved(each.file.storage_id, each.key, each.row.hash_type))
    with here.database.read() as connection:
        _refuse_shared(connection, neighbours, found.moved, doomed)
    return found


@dataclass
class _Place:
    """Where the object of a file to be deleted lies, and what takes its place.

    Attributes:
        row: what the database says of it now; earlier: the older versions of its key, if it is the
            latest, the one that was the latest last first.
        is_there: whether its object is; back: the version that becomes the latest again.
    """

    here: Instance
    file: File
    row: Any
    versions: Sequence[Any]
    is_there: bool = False
    back: Any = None

    @property
    def earlier(self) -> Sequence[Any]:
        return self.versions if self.row.is_latest else ()

    @property
    def key(self) -> str:
        file = self.file
        return object_key(file.id, file.key, file.suffix, is_latest=self.row.is_latest)

    def look(self) -> None:
        """Ask the storage."""
        store = self.here.location(self.file.storage_id).store
        self.is_there = store.exists(self.key, self.row.hash_type)
        # one that was overwritten in place has no object
        kept = (
            each
            for each in self.earlier
            if store.exists(version_key(each.id, each.suffix), each.hash_type)
        )
        self.back = next(kept, None)

    def step(self, aside: str | None) -> Step:
        is_there, back = aside is not None, self.back
        return Step(
            self.file.storage_id,
            self.key,
            aside=aside,
            aside_hash=self.row.hash if is_there else None,
            back=version_key(back.id, back.suffix) if back is not None else None,
            back_hash=back.hash if back is not None else None,
            aside_type=self.row.hash_type if is_there else None,
            back_type=back.hash_type if back is not None else None,
        )


def _rows(connection: Connection, ids: Collection[str]) -> dict[str, Any]:
    table = schema.file.c
    return {
        row.id: row
        for chunk in chunked(ids)
        for row in connection.execute(
            select(table.id, table.is_latest, table.hash, table.hash_type).where(
                table.id.in_(chunk)
            )
        )
    }


def _older_versions(
    connection: Connection, files: list[File], doomed: set[str]
) -> dict[tuple[str, str | None], list[Any]]:
    """Return what else has the keys of files, the one that was the latest last first."""
    table = schema.file.c
    keys = dict.fromkeys(file.key for file in files if file.key is not None)
    found: dict[tuple[str, str | None], list[Any]] = {}
    for chunk in chunked(keys):
        query = select(
            table.id, table.suffix, table.hash, table.hash_type, table.storage_id, table.key
        ).where(table.key.in_(chunk))
        for row in connection.execute(query.order_by(table.updated_at.desc())):
            if row.id not in doomed:
                found.setdefault((row.storage_id, row.key), []).append(row)
    return found


def _refuse_shared(
    connection: Connection, neighbours: Neighbours, moved: Sequence[Moved], doomed: Collection[str]
) -> None:
    """Refuse to remove objects whose bytes are another record's too."""
    found = neighbours.find(connection, moved, doomed)
    if found is not None:
        raise DeleteError(
            f"the object of another record, {found[1]}, shares its bytes with {found[0]}: delete "
            "both records in one call, or one of them with delete_data=False"
        )


def _in_threads(act: Callable[[T], None], each: Sequence[T]) -> None:
    mapped(act, each, _MAX_THREADS)


def _delete_rows(connection: Connection, records: list[Record]) -> None:
    for kind, group in groupby(records, type):
        table = table_of(kind)
        for chunk in chunked(record._primary_key() for record in group):
            connection.execute(delete_rows(table).where(tuple_(*table.primary_key).in_(chunk)))
