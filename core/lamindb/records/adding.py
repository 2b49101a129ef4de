"""``ln.add``: records and their objects, all of them or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from sqlalchemy import ColumnElement, Connection, Row, Table, desc, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from lamindb import instance
from lamindb.db.schema import file as file_table
from lamindb.db.schema import now
from lamindb.errors import (
    AddError,
    KeyConflictError,
    LaminError,
    ObjectChangedError,
    RecordError,
)
from lamindb.instance import Instance, register_storage
from lamindb.journal import Operation, Step, operation
from lamindb.records.base import Record, field_of, is_mapped, read_all, table_of
from lamindb.records.file import File, Pending
from lamindb.records.links import write_link
from lamindb.records.storage import Storage
from lamindb.storage.hashing import Digest
from lamindb.storage.keys import ancestors, version_key
from lamindb.storage.sources import digest
from lamindb.storage.store import Store

R = TypeVar("R", bound=Record)
# what a transaction has written, to be told to the records once it is committed
_Written = list[tuple[Record, dict[str, Any]]]
_COLUMNS = tuple(
    file_table.c[name]
    for name in ("id", "hash", "suffix", "key", "name", "storage_id", "is_latest")
)
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
    same = (field_of(entity, name) == value for name, value in fields.items())
    query = select(entity).where(*same)
    if entity is File:
        query = query.where(File.is_latest.is_(True))
    created = desc(table_of(entity).c.created_at)
    found: list[R] = read_all(query.order_by(created).limit(1))
    if found:
        return found[0]
    try:
        new = entity(**fields)
    except TypeError as error:
        raise RecordError(
            f"no {entity.__name__} has {fields}, and these fields do not make one ({error}): "
            "construct it yourself and add that"
        ) from error
    return add(new)


@dataclass
class _Job:
    """One File whose bytes are to be stored.

    Attributes:
        number: within the operation; store: where the bytes go.
        latest: the row that has the key now; older: the row of the same content, if there is one.
        step: what happens to the object; None for bytes that stay where they are.
        twin: an earlier job of this list with the same keyless content and name.
    """

    number: int
    file: File
    pending: Pending
    store: Store
    latest: Row[Any] | None = None
    older: Row[Any] | None = None
    step: Step | None = None
    twin: _Job | None = None

    @property
    def is_second(self) -> bool:
        """Whether an earlier job of the same list has the same keyless content."""
        return self.twin is not None

    @property
    def digest(self) -> Digest:
        return self.pending.read_digest()

    @property
    def final(self) -> str:
        return self.file.key or f"{self.file.id}{self.file.suffix}"

    @property
    def is_shared(self) -> bool:
        """Whether others may know the place of its object, which is then claimed."""
        return self.file.key is not None or self.pending.replaces

    @property
    def replaces_object(self) -> bool:
        """Whether the object that is there goes for good."""
        return self.pending.replaces and not self.pending.in_place

    @property
    def is_known(self) -> bool:
        """Whether a record with this content stands for it already."""
        same = self.latest if self.file.key is not None else self.older
        return not self.pending.replaces and same is not None and same.hash == self.digest.hash

    @property
    def is_there(self) -> bool:
        """Whether it is known and has its object; one that its key has lost is put back."""
        return self.is_known and (self.file.key is None or self.store.exists(self.final))


class _OvertakenError(Exception):
    """The record that this content was known by has been deleted or replaced meanwhile."""


def _add_all(records: Sequence[Record], *, single: bool) -> None:
    here = instance.current()
    _ = here.user_id  # a new user is registered now: within a transaction it would wait for it
    for tries_left in reversed(range(_TRIES)):
        jobs = _jobs(here, records)
        try:
            if jobs:
                _add_files(here, records, jobs, single=single)
            else:
                with here.database.begin() as connection:
                    written = _write_rows(connection, here, _with_needs(records))
                _settle(written)
            return
        except (IntegrityError, _OvertakenError) as error:
            if isinstance(error, IntegrityError) and "foreign key" in str(error.orig).lower():
                raise RecordError(
                    f"{', '.join(map(repr, records))} refers to a record that is not there "
                    f"({error.orig}): it was deleted, or is of another instance"
                ) from error
            # another process wrote the same content, key or name between our look and our write
            if not tries_left:
                raise RecordError(
                    f"the database refuses {', '.join(map(repr, records))} "
                    f"({getattr(error, 'orig', error)}): another record has the same unique field"
                ) from error


def _jobs(here: Instance, records: Sequence[Record]) -> list[_Job]:
    jobs: dict[int, _Job] = {}
    for record in records:
        if isinstance(record, File) and record._pending is not None and id(record) not in jobs:
            store = here.location(record.storage_id).store
            jobs[id(record)] = _Job(len(jobs), record, record._pending, store)
    return list(jobs.values())


def _add_files(
    here: Instance, records: Sequence[Record], jobs: list[_Job], *, single: bool
) -> None:
    _refuse_shared_keys(jobs)
    for storage_id, store in {job.file.storage_id: job.store for job in jobs}.items():
        store.check(storage_id)
    for job in jobs:
        job.store.refuse_foreign(job.final)
    # where objects cannot be renamed, bytes go straight to their key: what they are must be known
    _for_each(jobs, lambda job: None if job.store.is_local else job.digest, single, len(records))

    def plan(work: Operation, connection: Connection) -> list[Step]:
        _find_latest(connection, jobs)
        for job in jobs:
            job.step = _plan(work, connection, job)
        return [job.step for job in jobs if job.step is not None]

    with operation(
        here.database,
        lambda storage_id: here.location(storage_id).store,
        "add",
        [(job.file.storage_id, job.final) for job in jobs if job.is_shared],
        plan,
    ) as work:
        replacing = [job for job in jobs if job.replaces_object]
        _for_each(replacing, _refuse_changed, single, len(records))
        _for_each(jobs, _receive, single, len(records))
        with here.database.read() as connection:
            _find_same_content(connection, jobs)
        _prove(work, jobs)
        _for_each(jobs, lambda job: _put(work, job), single, len(records))
        with here.database.begin() as connection:
            work.end(connection, _leftovers(jobs))
            written = _write_rows(connection, here, _with_needs(records, jobs))
            written += _write_files(connection, here, jobs)
    _settle(written)
    for job in jobs:
        job.file.__dict__.pop("_pending", None)


def _settle(written: _Written) -> None:
    # only now, for a transaction that is rolled back must leave the records as they were
    for record, values in written:
        record._set_values(values)


def _refuse_changed(job: _Job) -> None:
    """Refuse to put new bytes in place of some that no record knows: they would be lost."""
    if job.latest is None or not job.store.exists(job.final):
        return
    if digest(job.store.source(job.final)).hash != job.latest.hash:
        raise ObjectChangedError(
            f"{job.store.uri(job.final)} was changed without lamindb, and replacing it would lose "
            "that: register it first with ln.add(ln.File(path)), or put the old content back"
        )


def _refuse_shared_keys(jobs: Sequence[_Job]) -> None:
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        if job.file.key is None:
            continue
        place = (job.file.storage_id, job.file.key)
        if place in seen:
            raise KeyConflictError(
                f"two files of this list have the key {job.file.key!r}: add them one after the "
                "other, oldest first, or give them different keys"
            )
        seen.add(place)
    for job in jobs:
        for folder in ancestors(job.file.key or ""):
            if (job.file.storage_id, folder) in seen and not job.pending.in_place:
                raise KeyConflictError(
                    f"the key {job.file.key!r} cannot lie inside {folder!r}, which is also in this "
                    "list: choose another key"
                )


def _plan(work: Operation, connection: Connection, job: _Job) -> Step | None:
    """Say what will happen to the objects; what has the key now is known."""
    if job.pending.replaces and job.latest is None:
        raise RecordError(f"{job.file!r} was deleted meanwhile: make a new ln.File")
    if job.pending.replaces and job.latest is not None and not job.latest.is_latest:
        raise RecordError(
            f"{job.file!r} is an older version by now: replace the latest one, or add the content "
            "as a new ln.File"
        )
    if job.pending.in_place:
        return None
    taken = job.store.exists(job.final)
    aside = None
    if job.latest is not None and taken:
        aside = (
            work.incoming(job.number, "old")
            if job.pending.replaces
            else version_key(job.latest.id, job.latest.suffix)
        )
    elif taken:
        _refuse_folder(connection, job)
        raise KeyConflictError(
            f"an object that no record knows lies at {job.store.uri(job.final)}: register it in "
            "place with ln.File of that path, or choose another key"
        )
    if job.store.is_local:
        return Step(
            job.file.storage_id,
            job.final,
            work.incoming(job.number),
            aside,
            job.latest.hash if aside and job.latest else None,
        )
    if taken and job.is_known:
        return None
    return Step(
        job.file.storage_id,
        job.final,
        aside=aside,
        aside_hash=job.latest.hash if aside and job.latest else None,
        new_hash=job.digest.hash,
    )


def _find_latest(connection: Connection, jobs: Sequence[_Job]) -> None:
    """Look up what has the keys now; a key may not lie inside that of another file."""
    keys = {job.file.key for job in jobs if job.file.key is not None}
    copied = {job.file.key for job in jobs if job.file.key is not None and not job.pending.in_place}
    above = {folder for key in copied for folder in ancestors(key)}
    latest = {
        (row.storage_id, row.key): row
        for row in _rows(connection, file_table.c.key, keys | above)
        if row.is_latest
    }
    by_id = {
        row.id: row
        for row in _rows(
            connection, file_table.c.id, {job.file.id for job in jobs if job.pending.replaces}
        )
    }
    for job in jobs:
        if job.pending.replaces:
            job.latest = by_id.get(job.file.id)
        elif job.file.key is not None:
            job.latest = latest.get((job.file.storage_id, job.file.key))
        if job.file.key not in copied:
            continue
        for folder in ancestors(job.file.key):
            if (job.file.storage_id, folder) in latest:
                raise KeyConflictError(
                    f"the key {job.file.key!r} cannot lie inside {folder!r}, which is itself a "
                    "recorded file: choose another key"
                )


def _rows(connection: Connection, column: ColumnElement[Any], values: set[Any]) -> list[Row[Any]]:
    """Read the files that have one of these values, some hundred at a time."""
    ordered = sorted(values)
    return [
        row
        for start in range(0, len(ordered), 500)
        for row in connection.execute(
            select(*_COLUMNS).where(column.in_(ordered[start : start + 500]))
        )
    ]


def _refuse_folder(connection: Connection, job: _Job) -> None:
    key = file_table.c.key
    inside = connection.execute(
        select(key)
        .where(
            file_table.c.storage_id == job.file.storage_id,
            file_table.c.is_latest,
            key > f"{job.final}/",
            key < f"{job.final}0",
        )
        .limit(1)
    ).scalar()
    if inside is not None:
        raise KeyConflictError(
            f"the key {job.final!r} is the folder of {inside!r}, which has a record: choose "
            "another key"
        )


def _receive(job: _Job) -> None:
    """Bring the bytes into the instance's own folder, hashing them in the same pass."""
    if job.step is None or job.step.incoming is None:
        job.pending.read_digest()
        return
    job.pending.check_unchanged()
    found = job.store.write(job.pending.source, job.step.incoming)
    job.pending.check_unchanged()
    if job.pending.digest is not None and job.pending.digest != found:
        job.pending.check_unchanged()
        raise RecordError(
            f"{job.pending.source.uri} gave other bytes when it was read again: check its disk"
        )
    job.pending.digest = found


def _find_same_content(connection: Connection, jobs: Sequence[_Job]) -> None:
    """Look up the records of this very content under each key; without a key, of each name."""
    rows = {
        (row.storage_id, row.hash, row.key, None if row.key else row.name): row
        for row in _rows(connection, file_table.c.hash, {job.digest.hash for job in jobs})
    }
    first: dict[Any, _Job] = {}
    for job in jobs:
        file = job.file
        content = (file.storage_id, job.digest.hash, file.key, None if file.key else file.name)
        same = rows.get(content)
        if job.pending.replaces:
            if same is not None and same.id != file.id:
                raise RecordError(
                    f"{file!r} cannot be replaced by what the record {same.id} of the same "
                    f"{'key' if file.key else 'name'} holds: add that as a new ln.File, which "
                    "makes it the latest again"
                )
            continue
        job.older = same
        twin = first.setdefault(content, job)
        job.twin = twin if twin is not job else None


def _prove(work: Operation, jobs: Sequence[_Job]) -> None:
    """What is renamed to its place has to be told from another's by its hash in the plan."""
    renamed = False
    for job in jobs:
        step = job.step
        if step is not None and step.incoming is not None and not job.store.links(step.incoming):
            job.step = replace(step, new_hash=job.digest.hash)
            renamed = True
    if renamed:
        work.amend([job.step for job in jobs if job.step is not None])


def _put(work: Operation, job: _Job) -> None:
    """Move what has the key aside, and the new bytes to it."""
    step = job.step
    if step is None or job.is_second or job.is_there:
        return
    if step.aside is not None:
        work.confirm()
        job.store.move(step.final, step.aside)
    work.confirm()
    if step.incoming is not None:
        job.store.place(step.incoming, step.final)
        return
    job.pending.check_unchanged()
    found = job.store.write(job.pending.source, step.final)
    if found != job.digest:
        job.pending.check_unchanged()
        raise RecordError(f"{job.pending.source.uri} changed while it was copied: add it again")


def _leftovers(jobs: Sequence[_Job]) -> list[tuple[str, str]]:
    """What may go once the rows are committed: replaced objects, and asides that are back."""
    gone = []
    for job in jobs:
        if job.pending.replaces:
            if job.step is not None and job.step.aside is not None:
                gone.append((job.file.storage_id, job.step.aside))
        elif job.older is not None and job.older.key is not None and not job.is_known:
            gone.append((job.file.storage_id, version_key(job.older.id, job.older.suffix)))
    return gone


def _with_needs(records: Sequence[Record], jobs: Sequence[_Job] = ()) -> list[Record]:
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
    for record in records:
        if isinstance(record, File) and not record._is_stored:
            raise RecordError(f"{record!r} was deleted: make a new ln.File of its data")
        if isinstance(record, Storage) and not record._is_stored:
            written.append((record, _register(connection, here, record)))
            continue
        written.append((record, write_row(connection, here, record)))
        if isinstance(record, File) and record.run_id is not None:
            write_link(connection, record.run_id, record.id, "output")
    return written


def write_row(connection: Connection, here: Instance, record: Record, **new: Any) -> dict[str, Any]:
    """Insert a record, or update what changed in it since it was read; returns its row.

    Args: new: values that the record gets when this is committed.
    """
    table = table_of(type(record))
    values = {**record._values(), **new}
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


def _write_files(connection: Connection, here: Instance, jobs: Sequence[_Job]) -> _Written:
    written: _Written = []
    new_rows, links = [], []
    for job in jobs:
        file, at = job.file, now()
        if job.is_second and job.twin is not None:
            values = next(values for record, values in written if record is job.twin.file)
        elif job.pending.replaces:
            values = write_row(
                connection,
                here,
                file,
                hash=job.digest.hash,
                size=job.digest.size,
                hash_type=job.digest.type,
                source_uri=job.pending.source_uri,
            )
        elif (same := job.latest if job.is_known and file.key is not None else job.older) is None:
            if job.latest is not None:
                _retire(connection, job.latest.id, at)
            values = {
                **file._values(),
                "hash": job.digest.hash,
                "size": job.digest.size,
                "created_by_id": here.user_id,
            }
            new_rows.append(values)
        else:
            if not job.is_known:
                if job.latest is not None:
                    _retire(connection, job.latest.id, at)
                connection.execute(
                    update(file_table)
                    .where(file_table.c.id == same.id)
                    .values(is_latest=True, updated_at=at)
                )
            values = _row(connection, file_table, same.id)
            if values.get("hash") != job.digest.hash:
                raise _OvertakenError(f"{same.id} was deleted or replaced")
        written.append((file, values))
        if file.run_id is not None:
            links.append((file.run_id, values["id"]))
    if new_rows:
        connection.execute(insert(file_table), new_rows)
    for run_id, file_id in links:
        write_link(connection, run_id, file_id, "output")
    return written


def _row(connection: Connection, table: Table, record_id: str) -> dict[str, Any]:
    found = connection.execute(select(table).where(table.c.id == record_id)).mappings()
    return dict(found.one_or_none() or {})


def _retire(connection: Connection, file_id: str, at: Any) -> None:
    connection.execute(
        update(file_table).where(file_table.c.id == file_id).values(is_latest=False, updated_at=at)
    )


def _for_each(jobs: Sequence[_Job], act: Any, single: bool, total: int) -> None:
    """Do something for each job, in threads when there are several; collect what fails."""
    failures: list[tuple[File, Exception]] = []

    def attempt(job: _Job) -> tuple[File, Exception] | None:
        try:
            act(job)
        except (LaminError, OSError) as error:
            return job.file, error
        return None

    if len(jobs) < 2:
        results = [attempt(job) for job in jobs]
    else:
        with ThreadPoolExecutor(min(_MAX_THREADS, len(jobs))) as pool:
            results = list(pool.map(attempt, jobs))
    failures = [failure for failure in results if failure is not None]
    if not failures:
        return
    if single:
        raise failures[0][1]
    raise AddError(failures, total)
