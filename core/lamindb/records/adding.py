"""``ln.add``: records and their objects, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast, overload

from sqlalchemy import Connection, Table, delete, desc, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from lamindb import instance
from lamindb.db.database import chunked, serialise
from lamindb.db.schema import file as file_table
from lamindb.db.schema import now
from lamindb.db.schema import run_file as run_file_table
from lamindb.db.server import pause
from lamindb.errors import (
    AddError,
    DatabaseConflictError,
    LaminError,
    RecordError,
)
from lamindb.instance import Instance, register_storage
from lamindb.journal import Operation, operation
from lamindb.progress import named, progress, share
from lamindb.records import objects
from lamindb.records.base import Record, field_of, is_mapped, read_all, table_of
from lamindb.records.file import File
from lamindb.records.links import write_links
from lamindb.records.neighbours import Neighbours
from lamindb.records.objects import Job, OvertakenError
from lamindb.records.run import Run, require_json
from lamindb.records.storage import Storage
from lamindb.steps import Step
from lamindb.threads import mapped

R = TypeVar("R", bound=Record)
T = TypeVar("T")
# what a transaction has written, to be told to the records once it is committed
_Written = list[tuple[Record, dict[str, Any]]]
_TRIES = 3
_MAX_THREADS = 8


@overload
def add(record: R) -> R: ...
@overload
def add(record: type[R], **fields: Any) -> R: ...
@overload
def add(record: Iterable[R]) -> list[R]: ...
def add(record: Any, **fields: Any) -> Any:
    """Write records, and the objects of Files, together or not at all.

    Args: record: one record; several; or a record class with the fields of the record to get or
        create. What they refer to (a File's Run, its Transform) is added with them.
    Returns: the record, or a list in the order given. A File whose content is already there under
        its key becomes the existing record, with its run linked as one more producer.
    Raises: AddError: of several records, names each that failed and why; for one record, the error
        itself. Nothing half-added remains.
    """
    if is_mapped(record):
        return _get_or_create(record, fields)
    if fields:
        raise RecordError("fields go with a record class: ln.add(ln.User, handle='me')")
    if isinstance(record, Record):
        _add_all([record], single=True)
        return record
    if isinstance(record, str | bytes) or not isinstance(record, Iterable):
        raise RecordError(
            f"{record!r} is not a record: give a File, Run, Transform, Storage or User"
        )
    records = list(record)
    for each in records:
        if not isinstance(each, Record):
            raise RecordError(f"{each!r} is not a record: the list may hold records only")
    _add_all(records, single=False)
    return records


def _get_or_create(entity: type[R], fields: dict[str, Any]) -> R:
    if not fields:
        raise RecordError(
            f"ln.add({entity.__name__}) says nothing of the record: give its fields, as in "
            "ln.add(ln.User, handle='me')"
        )
    table = table_of(entity)
    same = [field_of(entity, name) == value for name, value in fields.items()]
    if entity is File:
        same.append(File.is_latest.is_(True))
    newest = select(entity).where(*same).order_by(desc(table.c.created_at)).limit(1)
    found: list[R] = read_all(newest)
    if found:
        return found[0]
    try:
        new = entity(**fields)
    except TypeError as error:
        raise RecordError(
            f"no {entity.__name__} has {fields}, and these fields do not make one ({error}): "
            "construct it yourself and add that"
        ) from error
    if isinstance(new, File | Storage):
        try:
            return add(new)
        except RecordError:
            found = read_all(newest)  # another was first
            if found:
                return found[0]
            raise
    here = instance.current()

    def write() -> _Written:
        with here.begin() as connection:
            serialise(connection, f"get or create {entity.__name__}")
            is_there = connection.execute(select(*table.primary_key).where(*same).limit(1)).first()
            return [] if is_there else _write_rows(connection, here, _with_needs([new]))

    written = _retried(write, [new])
    _settle(written)
    return new if written else cast("R", read_all(newest)[0])


def _add_all(records: Sequence[Record], *, single: bool) -> None:
    here = instance.current()

    def write() -> None:
        jobs = _jobs(here, records)
        if jobs:
            _add_files(here, records, jobs, single=single)
            return
        with here.begin() as connection:
            written = _write_rows(connection, here, _with_needs(records))
        _settle(written)

    _retried(write, records)


def _retried(write: Callable[[], T], records: Sequence[Record]) -> T:
    """Write records, and again where others came in between; RecordError where it never can be."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return write()
        except DatabaseConflictError:
            if not tries_left:
                raise
            pause(_TRIES - tries_left)
        except (IntegrityError, OvertakenError) as error:
            if isinstance(error, IntegrityError) and "foreign key" in str(error.orig).lower():
                raise RecordError(
                    f"{', '.join(map(repr, records))} refers to a record that is not there "
                    f"({error.orig}): it was deleted, or is of another instance"
                ) from error
            if isinstance(error, IntegrityError) and "null" in str(error.orig).lower():
                raise RecordError(
                    f"{', '.join(map(repr, records))} lacks a value that it needs ({error.orig}): "
                    "give it one"
                ) from error
            if tries_left:
                continue
            # another process wrote the same content, key or name between our look and our write
            names = ", ".join(map(repr, records))
            if isinstance(error, OvertakenError):
                raise RecordError(
                    f"others are adding or deleting the same as {names} all the time ({error}): "
                    "try again"
                ) from error
            raise RecordError(
                f"the database refuses {names} ({error.orig}): another record has the same unique "
                "field"
            ) from error
    raise AssertionError("the last try has raised")


def _jobs(here: Instance, records: Sequence[Record]) -> list[Job]:
    jobs: dict[int, Job] = {}
    for record in records:
        if isinstance(record, File) and record._pending is not None and id(record) not in jobs:
            record.refuse_moved()
            store = here.location(record.storage_id).store
            jobs[id(record)] = Job(len(jobs), record, record._pending, store)
    return list(jobs.values())


def _add_files(here: Instance, records: Sequence[Record], jobs: list[Job], *, single: bool) -> None:
    objects.refuse_shared_keys(jobs)
    for storage_id, store in {job.file.storage_id: job.store for job in jobs}.items():
        store.check(storage_id)
    _for_each(
        jobs, lambda job: job.store.refuse_foreign(job.final), single, len(records), threads=False
    )
    # where objects cannot be renamed, bytes go straight to their key: what they are must be known
    with _shown(jobs, "Hashing"):
        _for_each(
            jobs, lambda job: None if job.store.is_local else job.digest, single, len(records)
        )
    neighbours = Neighbours(here)
    if any(job.may_be_lost for job in jobs):
        with here.database.read() as connection:
            objects.find_lost(connection, jobs)

    def plan(work: Operation) -> list[Step]:
        with here.database.read() as connection:
            objects.find_latest(connection, jobs)
            objects.refuse_inside(connection, jobs)

        def plan_one(job: Job) -> None:
            job.step = objects.plan(work, job)

        has_remote = any(not job.store.is_local for job in jobs)
        _for_each(jobs, plan_one, single, len(records), threads=has_remote)
        with here.database.read() as connection:
            objects.refuse_shared(connection, neighbours, jobs)
        return [job.step for job in jobs if job.step is not None]

    with operation(
        here.database,
        lambda storage_id: here.location(storage_id).store,
        "add",
        [(job.file.storage_id, job.final) for job in jobs if job.is_shared],
        plan,
    ) as work:
        replacing = [job for job in jobs if job.replaces_object]
        _for_each(replacing, objects.refuse_changed, single, len(records))
        is_copied = any(job.step is not None for job in jobs)
        with _shown(jobs, "Copying" if is_copied else "Hashing"):
            _for_each(jobs, objects.receive, single, len(records))
        with here.database.read() as connection:
            objects.find_same_content(connection, jobs)
        _for_each(jobs, objects.look, single, len(records))
        objects.prove(work, jobs)
        with _shown(jobs, "Uploading"):
            _for_each(jobs, lambda job: objects.put(work, job), single, len(records))
        with here.begin() as connection:
            work.end(connection, objects.leftovers(jobs))
            # an engine's plugin may have registered something in place meanwhile
            objects.refuse_inside(connection, jobs)
            objects.refuse_shared(connection, neighbours, jobs)
            written = _write_rows(connection, here, _with_needs(records, jobs))
            written += _write_files(connection, here, jobs)
    _settle(written)
    for job in jobs:
        job.file.__dict__.pop("_pending", None)


def _shown(jobs: Sequence[Job], verb: str) -> AbstractContextManager[Any]:
    return progress(
        named(verb, [job.pending.source.name for job in jobs]),
        lambda: sum(job.pending.size for job in jobs),
    )


def _settle(written: _Written) -> None:
    # only now, for a transaction that is rolled back must leave the records as they were
    for record, values in written:
        record._set_values(values)


def _with_needs(records: Sequence[Record], jobs: Sequence[Job] = ()) -> list[Record]:
    """Return the records, without Files that have jobs, and before each what it refers to."""
    with_jobs = {id(job.file) for job in jobs}
    ordered: dict[int, Record] = {}

    def visit(record: Record) -> None:
        if id(record) in ordered:
            return
        for name in ("transform", "parent", "run"):
            needed = record.__dict__.get("_related", {}).get(name)
            if isinstance(needed, Record) and not needed._is_stored:
                visit(needed)
        if id(record) not in with_jobs:
            ordered[id(record)] = record

    for record in records:
        visit(record)
    return list(ordered.values())


def _write_rows(connection: Connection, here: Instance, records: Sequence[Record]) -> _Written:
    written: _Written = []
    made: list[tuple[str, str]] = []
    for record in records:
        if isinstance(record, File) and not record._is_stored:
            raise RecordError(f"{record!r} was deleted: make a new ln.File of its data")
        if isinstance(record, Storage) and not record._is_stored:
            written.append((record, _register(connection, here, record)))
            continue
        written.append((record, write_row(connection, here, record)))
        if isinstance(record, File) and record.run_id is not None:
            made.append((record.run_id, record.id))
    write_links(connection, made, "output")
    return written


def write_row(connection: Connection, here: Instance, record: Record, **new: Any) -> dict[str, Any]:
    """Insert a record, or update what changed in it since it was read; returns its row.

    Args: new: values that the record gets when this is committed.
    """
    table = table_of(type(record))
    values = {**record._values(), **new}
    if isinstance(record, Run):
        require_json(record.params)
    if "created_by_id" in table.columns and values["created_by_id"] is None:
        values["created_by_id"] = here.user_id
    if not record._is_stored:
        connection.execute(insert(table).values(**values))
    elif changes := {**record._changes(), **new}:
        # of an older version it says when it ceased to be the latest
        if "updated_at" in table.columns and values.get("is_latest", True):
            values["updated_at"] = changes["updated_at"] = now()
        key = zip(table.primary_key, record._primary_key(), strict=True)
        done = connection.execute(
            update(table).where(*(column == value for column, value in key)).values(**changes)
        )
        if done.rowcount == 0:
            raise RecordError(f"{record!r} was deleted meanwhile: nothing was written")
    elif not _is_there(connection, table, record):
        raise RecordError(
            f"{record!r} is not in the instance {here.name!r}: it was deleted, or is of another "
            "instance, where it stays"
        )
    return values


def _is_there(connection: Connection, table: Table, record: Record) -> bool:
    key = zip(table.primary_key, record._primary_key(), strict=True)
    found = select(literal(1)).where(*(column == value for column, value in key))
    return connection.execute(found).scalar() is not None


def _register(connection: Connection, here: Instance, storage: Storage) -> dict[str, Any]:
    storage_id = register_storage(
        connection,
        storage.root,
        here.user_id,
        managed=storage.managed,
        storage_id=storage.id,
        region=storage.region,
    )
    here.forget_locations()
    return _row(connection, table_of(Storage), storage_id)


def _write_files(connection: Connection, here: Instance, jobs: Sequence[Job]) -> _Written:
    at = now()
    retired: list[str] = []  # no longer the latest
    restored: list[str] = []  # the latest again
    known: dict[int, str] = {}  # number of the job → the record that it becomes
    values: dict[int, dict[str, Any]] = {}
    for job in jobs:
        if job.is_second:
            continue
        if job.pending.replaces:
            values[job.number] = _write_replaced(connection, here, job)
            continue
        same = job.latest if job.is_known and job.file.key is not None else job.older
        if not job.is_known and job.latest is not None:
            retired.append(job.latest.id)
        if same is not None:
            known[job.number] = same.id
            if not job.is_known:
                restored.append(same.id)
        else:
            values[job.number] = {
                **job.file._values(),
                "hash": job.digest.hash,
                "size": job.digest.size,
                "created_by_id": here.user_id,
            }
    new = [values[job.number] for job in jobs if job.number in values and not job.pending.replaces]
    _set_latest(connection, retired, at, is_latest=False)
    _set_latest(connection, restored, at, is_latest=True)
    if new:
        connection.execute(insert(file_table), new)
    rows = _rows_of(connection, set(known.values()))
    for job in jobs:
        if job.number in known:
            row = rows.get(known[job.number])
            if row is None or row["hash"] != job.digest.hash:
                raise OvertakenError(f"{known[job.number]} was deleted or replaced")
            values[job.number] = row
    for job in jobs:
        if job.twin is not None:
            values[job.number] = values[job.twin.number]
    links = [(job.file.run_id, values[job.number]["id"]) for job in jobs]
    write_links(connection, [(run, file) for run, file in links if run is not None], "output")
    return [(job.file, values[job.number]) for job in jobs]


def _write_replaced(connection: Connection, here: Instance, job: Job) -> dict[str, Any]:
    if job.latest is not None and job.latest.hash != job.digest.hash:
        _forget_producers(connection, job.file.id)
    return write_row(
        connection,
        here,
        job.file,
        hash=job.digest.hash,
        size=job.digest.size,
        hash_type=job.digest.type,
        source_uri=job.pending.source_uri,
    )


def _forget_producers(connection: Connection, file_id: str) -> None:
    """What runs wrote is no more this record's content; that others have read it stays true."""
    links = run_file_table.c
    connection.execute(
        delete(run_file_table).where(
            links.file_id == file_id, links.role.in_(("output", "retracted"))
        )
    )


def _row(connection: Connection, table: Table, record_id: str) -> dict[str, Any]:
    found = connection.execute(select(table).where(table.c.id == record_id)).mappings()
    return dict(found.one_or_none() or {})


def _rows_of(connection: Connection, ids: set[str]) -> dict[str, dict[str, Any]]:
    return {
        row["id"]: dict(row)
        for chunk in chunked(sorted(ids))
        for row in connection.execute(
            select(file_table).where(file_table.c.id.in_(chunk))
        ).mappings()
    }


def _set_latest(connection: Connection, ids: list[str], at: Any, *, is_latest: bool) -> None:
    for chunk in chunked(sorted(ids)):
        connection.execute(
            update(file_table)
            .where(file_table.c.id.in_(chunk))
            .values(is_latest=is_latest, updated_at=at)
        )


def _for_each(
    jobs: Sequence[Job], act: Any, single: bool, total: int, *, threads: bool = True
) -> None:
    """Do something for each job, in threads when there are several; collect what fails."""
    failures: list[tuple[File, Exception]] = []

    def attempt(job: Job) -> tuple[File, Exception] | None:
        try:
            act(job)
        except (LaminError, OSError) as error:
            return job.file, error
        return None

    if len(jobs) < 2 or not threads:
        results = [attempt(job) for job in jobs]
    else:
        results = mapped(attempt, jobs, _MAX_THREADS, share())
    failures = [failure for failure in results if failure is not None]
    if not failures:
        return
    if single:
        raise failures[0][1]
    raise AddError(failures, total)
