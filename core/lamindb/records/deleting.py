"""``ln.delete``: a record and its object, both or neither."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.exc import IntegrityError

from lamindb import instance
from lamindb.db import schema
from lamindb.errors import DeleteError, HasDependentsError, RecordError
from lamindb.instance import Instance
from lamindb.journal import Operation, Step, operation
from lamindb.records.base import Record, table_of
from lamindb.records.file import File
from lamindb.records.neighbours import Moved, Neighbours, covering
from lamindb.records.run import Run
from lamindb.records.storage import Storage
from lamindb.records.transform import Transform
from lamindb.records.user import User
from lamindb.storage.cache import holds
from lamindb.storage.keys import object_key, version_key

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
        _delete_all(here, records, files, with_data, force)
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
    promoted: list[str] = []
    neighbours, doomed = Neighbours(here), {file.id for file in files}
    moved: list[Moved] = []
    with operation(
        here.database,
        lambda storage_id: here.location(storage_id).store,
        "delete",
        [(file.storage_id, file.key or file._object_key()) for file in files],
        lambda work, connection: _plan(
            work, connection, here, records, with_data, force, promoted, neighbours, moved
        ),
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
            _refuse_needed(connection, records, force)
            _refuse_shared(connection, neighbours, moved, doomed)
            for each in records:
                _delete_row(connection, each)
            connection.execute(
                update(schema.file)
                .where(schema.file.c.id.in_(promoted))
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


def _refuse_changed(here: Instance, steps: Sequence[Step]) -> None:
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

    if steps:
        with ThreadPoolExecutor(min(_MAX_THREADS, len(steps))) as pool:
            list(pool.map(look, steps))


def _plan(
    work: Operation,
    connection: Connection,
    here: Instance,
    records: list[Record],
    with_data: bool,
    force: bool,
    promoted: list[str],
    neighbours: Neighbours,
    moved: list[Moved],
) -> list[Step]:
    promoted.clear()
    moved.clear()
    for record in records:
        if not _exists(connection, record):
            raise RecordError(f"{record!r} is not in the database: nothing was deleted")
    _refuse_needed(connection, records, force)
    files = [record for record in records if isinstance(record, File)]
    doomed = {file.id for file in files}
    steps: list[Step] = []
    removed: set[str] = set()
    # a folder before what lies in it
    files.sort(key=lambda file: len(neighbours.place(file.storage_id, file.key or "")))
    for number, file in enumerate(files):
        row = connection.execute(
            select(schema.file.c.is_latest, schema.file.c.hash, schema.file.c.hash_type).where(
                schema.file.c.id == file.id
            )
        ).one()
        key = object_key(file.id, file.key, file.suffix, is_latest=row.is_latest)
        store = here.location(file.storage_id).store
        earlier = _versions_before(connection, file, doomed) if row.is_latest else []
        if earlier and not with_data:
            raise DeleteError(
                f"{file.key!r} has {len(earlier)} older versions, and one of them takes its place: "
                "delete it with delete_data=True, or the older versions first"
            )
        place = neighbours.place(file.storage_id, key)
        goes_along = place in removed or covering(place, removed)
        if goes_along and earlier:
            raise DeleteError(
                f"{file.key!r} has older versions, and the folder that it lies in is to be deleted "
                "too: delete the older versions first"
            )
        is_there = with_data and store.exists(key, row.hash_type) and not goes_along
        back = None
        for before in earlier:
            kept = version_key(before.id, before.suffix)
            if store.exists(
                kept, before.hash_type
            ):  # one that was overwritten in place has no object
                promoted.append(before.id)
                back = kept
                break
        if is_there or back is not None:
            steps.append(
                Step(
                    file.storage_id,
                    key,
                    aside=work.incoming(number, "trash") if is_there else None,
                    aside_hash=row.hash if is_there else None,
                    back=back,
                    back_hash=before.hash if back is not None else None,
                    aside_type=row.hash_type if is_there else None,
                    back_type=before.hash_type if back is not None else None,
                )
            )
        if is_there:
            removed.add(place)
            moved.append(neighbours.moved(file.storage_id, key, file.hash_type))
    _refuse_shared(connection, neighbours, moved, doomed)
    return steps


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


def _refuse_needed(connection: Connection, records: list[Record], force: bool) -> None:
    for record in records:
        dependents = _dependents(connection, record, records)
        if dependents and not (force and isinstance(record, File)):
            raise HasDependentsError(
                f"{record!r} is needed by {', '.join(dependents)}: delete those first"
                + (", or pass force=True" if isinstance(record, File) else ""),
                dependents,
            )


def _versions_before(connection: Connection, file: File, doomed: set[str]) -> Sequence[Any]:
    """Return the rows of a key's other versions, the one that was the latest last first."""
    if file.key is None:
        return []
    table = schema.file
    return connection.execute(
        select(table.c.id, table.c.suffix, table.c.hash, table.c.hash_type)
        .where(
            table.c.storage_id == file.storage_id,
            table.c.key == file.key,
            table.c.id.not_in(doomed),
        )
        .order_by(table.c.updated_at.desc())
    ).all()


def _exists(connection: Connection, record: Record) -> bool:
    table = table_of(type(record))
    key = zip(table.primary_key, record._primary_key(), strict=True)
    found = connection.execute(select(table).where(*(column == value for column, value in key)))
    return found.one_or_none() is not None


def _dependents(connection: Connection, record: Record, doomed: list[Record]) -> list[str]:
    """Name what refers to a record and is not deleted with it."""
    file, run, transform = schema.file, schema.run, schema.transform
    links = schema.run_file
    if isinstance(record, File):
        queries = [
            (
                "run",
                select(links.c.run_id).where(links.c.file_id == record.id, links.c.role == "input"),
            )
        ]
    elif isinstance(record, Run):
        queries = [
            ("file", select(file.c.id).where(file.c.run_id == record.id)),
            ("run", select(run.c.id).where(run.c.parent_id == record.id)),
        ]
    elif isinstance(record, Transform):
        same = (run.c.transform_id == record.id, run.c.transform_version == record.version)
        made = (file.c.transform_id == record.id, file.c.transform_version == record.version)
        queries = [
            ("run", select(run.c.id).where(*same)),
            ("file", select(file.c.id).where(*made)),
        ]
    elif isinstance(record, Storage):
        queries = [("file", select(file.c.id).where(file.c.storage_id == record.id))]
        if record.id == instance.current().default_storage_id:
            return ["the instance, whose default storage it is"]
    else:
        tables = (file, run, transform, schema.storage)
        queries = [
            (
                table.name,
                select(table.c.id).where(table.c.created_by_id == record._primary_key()[0]),
            )
            for table in tables
        ]
    gone = {(type(each).__name__.lower(), each._primary_key()[0]) for each in doomed}
    if isinstance(record, Storage):
        gone = set()  # its place must be known until the objects are gone, which is after the rows
    found = [
        f"{name} {row_id}"
        for name, query in queries
        for row_id in connection.execute(query.limit(_SHOWN + len(gone))).scalars()
        if (name, row_id) not in gone
    ]
    return found[:_SHOWN]


def _delete_row(connection: Connection, record: Record) -> None:
    table = table_of(type(record))
    key = zip(table.primary_key, record._primary_key(), strict=True)
    connection.execute(delete_rows(table).where(*(column == value for column, value in key)))
