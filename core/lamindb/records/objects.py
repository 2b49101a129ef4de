"""What becomes of the objects of the Files that are added: planned, received, put in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Connection, Row, select

from lamindb.db.database import Database, chunked
from lamindb.db.schema import file as file_table
from lamindb.errors import KeyConflictError, ObjectChangedError, RecordError
from lamindb.identifiers import FILE_ID_LENGTH
from lamindb.journal import Operation
from lamindb.records.data import Pending
from lamindb.records.file import File
from lamindb.records.neighbours import Neighbours
from lamindb.steps import Step
from lamindb.storage.cache import holds, remember_parts
from lamindb.storage.hashing import Digest
from lamindb.storage.keys import ancestors, object_key, version_key
from lamindb.storage.store import Store

_COLUMNS = tuple(
    file_table.c[name]
    for name in ("id", "hash", "hash_type", "suffix", "key", "name", "storage_id", "is_latest")
)

# S3 takes no smaller parts but the last
_MAY_HAVE_PARTS = 5 * 2**20


@dataclass
class Job:
    """One File whose bytes are to be stored.

    Attributes:
        number: within the operation; store: where the bytes go.
        latest: the row that has the key now; older: the row of the same content, if there is one.
        step: what happens to the object; None for bytes that stay where they are.
        twin: an earlier job of this list with the same keyless content and name.
        lost: the row of the same keyless content, whose object is gone and put back.
        is_there: whether the content is known and its object holds it.
    """

    number: int
    file: File
    pending: Pending
    store: Store
    latest: Row[Any] | None = None
    older: Row[Any] | None = None
    step: Step | None = None
    twin: Job | None = None
    lost: Row[Any] | None = None
    is_there: bool = False

    @property
    def is_second(self) -> bool:
        """Whether an earlier job of the same list has the same keyless content."""
        return self.twin is not None

    @property
    def digest(self) -> Digest:
        return self.pending.read_digest()

    @property
    def final(self) -> str:
        return self.file.key or _keyless_key(self.lost or self.file)

    @property
    def is_shared(self) -> bool:
        """Whether others may know the place of its object, which is then claimed."""
        return self.file.key is not None or self.pending.replaces or self.lost is not None

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
    def may_be_lost(self) -> bool:
        """Whether it is keyless and so far known that its record can be looked up."""
        return (
            self.file.key is None and not self.pending.replaces and self.pending.digest is not None
        )


class OvertakenError(Exception):
    """The record that this content was known by has been deleted or replaced meanwhile, or has
    lost its object: what to do has to be thought out once more."""


def _keyless_key(row: File | Row[Any]) -> str:
    return object_key(row.id, None, row.suffix, is_latest=True)


def find_lost(connection: Connection, jobs: Sequence[Job]) -> None:
    """Look up the records of the same keyless content whose objects are gone: they get them back.

    Only of content that is hashed already; of other, :func:`look` finds out.
    """
    hashed = [job for job in jobs if job.may_be_lost]
    rows = {
        (row.storage_id, row.hash, row.name): row
        for row in _rows(connection, file_table.c.hash, {job.digest.hash for job in hashed})
        if row.key is None
    }
    for job in hashed:
        row = rows.get((job.file.storage_id, job.digest.hash, job.file.name))
        if row is not None and not job.store.exists(_keyless_key(row), row.hash_type):
            job.lost = row


def look(job: Job) -> None:
    """Find out whether known content has its object; refuse to take other bytes for it.

    Raises: ObjectChangedError: other bytes lie there; OvertakenError: a keyless object is gone.
    """
    same = job.latest if job.file.key is not None else job.older
    if job.lost is not None and (same is None or same.id != job.lost.id):
        raise OvertakenError(f"{job.lost.id} was deleted or replaced")
    if same is not None and same.key is None and job.file.key is not None and not job.is_known:
        raise ObjectChangedError(
            f"{job.store.uri(job.file.key)} is the object of the record {same.id}, but was changed "
            "without lamindb: give its record the new content with file.replace(path)"
        )
    if not job.is_known:
        _look_at_former(job)
    if job.is_second or not job.is_known or same is None:
        return
    key = job.file.key or _keyless_key(same)
    if job.pending.in_place:
        job.is_there = True
    elif job.store.exists(key, same.hash_type):
        if not holds(job.store.source(key, same.hash_type), same.hash):
            raise ObjectChangedError(
                f"{job.store.uri(key)} was changed without lamindb and is not what was recorded: "
                "move it away, then add the old content again, which puts it back"
            )
        job.is_there = True
    elif job.file.key is None and job.lost is None:
        raise OvertakenError(f"{same.id} has lost its object")


def _look_at_former(job: Job) -> None:
    """Refuse to keep other bytes as an older version, and to drop any that are not in the new."""
    if job.pending.replaces:
        return
    moved = job.latest if job.step is not None and job.step.aside is not None else None
    if moved is not None and _is_changed(job, job.final, moved):
        raise ObjectChangedError(
            f"{job.store.uri(job.final)} was changed without lamindb, and would be taken for "
            "the older version: register it first with ln.add(ln.File(path)), or put the old "
            "content back"
        )
    kept = _version_of(job)
    if kept is not None and job.older is not None and _is_changed(job, kept, job.older, anew=True):
        raise ObjectChangedError(
            f"{job.store.uri(kept)} was changed without lamindb, and would be removed, for its "
            "content is the latest again: move it away, then add it once more"
        )


def _is_changed(job: Job, key: str, known: Row[Any], *, anew: bool = False) -> bool:
    return (
        known.hash is not None
        and job.store.exists(key, known.hash_type)
        and not holds(job.store.source(key, known.hash_type), known.hash, anew=anew)
    )


def _version_of(job: Job) -> str | None:
    """Return where the object of an older version lies whose content is the latest again."""
    if job.pending.replaces or job.older is None or job.older.key is None or job.is_known:
        return None
    return version_key(job.older.id, job.older.suffix)


def refuse_changed(job: Job) -> None:
    """Refuse to put new bytes in place of some that no record knows: they would be lost."""
    if job.latest is None or not job.store.exists(job.final, job.latest.hash_type):
        return
    source, known = job.store.source(job.final, job.latest.hash_type), job.latest.hash
    if known is None or not holds(source, known, anew=True):
        raise ObjectChangedError(
            f"{job.store.uri(job.final)} was changed without lamindb, and replacing it would lose "
            "that: register it first with ln.add(ln.File(path)), or put the old content back"
        )


def refuse_shared_keys(jobs: Sequence[Job]) -> None:
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


def plan(work: Operation, job: Job) -> Step | None:
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
    older = job.latest if job.latest is not None and _stands(job, job.latest) else None
    if older is None and job.store.exists(job.final):
        if job.lost is not None:
            raise OvertakenError(f"{job.lost.id} has its object again")
        _refuse_folder(work.database, job)
        _refuse_unknown(job)
    if older is not None and not job.store.is_local and job.is_known:
        return None
    aside = None
    if older is not None:
        aside = (
            work.incoming(job.number, "old")
            if job.pending.replaces
            else version_key(older.id, older.suffix)
        )
    step = Step(
        job.file.storage_id,
        job.final,
        aside=aside,
        aside_hash=older.hash if older is not None else None,
        aside_type=older.hash_type if older is not None else None,
    )
    if job.store.is_local:
        return replace(step, incoming=work.incoming(job.number))
    new = job.digest
    if older is not None and older.hash_type != new.type and job.store.exists(job.final, new.type):
        _refuse_unknown(job)
    return replace(step, new_hash=new.hash, new_type=new.type)


def _stands(job: Job, row: Row[Any]) -> bool:
    """Whether something lies where a record's object belongs."""
    return job.store.exists(job.final, row.hash_type)


def _refuse_unknown(job: Job) -> NoReturn:
    raise KeyConflictError(
        f"an object that no record knows lies at {job.store.uri(job.final)}: register it in place "
        "with ln.File of that path, or choose another key"
    )


def refuse_shared(connection: Connection, neighbours: Neighbours, jobs: Sequence[Job]) -> None:
    """Refuse to move objects aside whose bytes are another record's too."""
    rows = [job.latest for job in jobs if job.step is not None and job.step.aside is not None]
    moved = [
        neighbours.moved(row.storage_id, row.key or _keyless_key(row), row.hash_type)
        for row in rows
        if row is not None
    ]
    found = neighbours.find(connection, moved, {row.id for row in rows if row is not None})
    if found is not None:
        raise KeyConflictError(
            f"{found[0]} cannot get new content: the object of another record, {found[1]}, would "
            "move with the old one; delete that record first with delete_data=False, or choose "
            "another key"
        )


def find_latest(connection: Connection, jobs: Sequence[Job]) -> None:
    """Look up what has the keys now."""
    keys = {job.file.key for job in jobs if job.file.key is not None}
    latest = _latest(connection, keys)
    by_id = {
        row.id: row
        for row in _rows(
            connection, file_table.c.id, {job.file.id for job in jobs if job.pending.replaces}
        )
    }
    # a path may be that of an object that its record's id names
    owners = _keyless(connection, {job.file.key or "" for job in jobs if job.pending.in_place})
    for job in jobs:
        if job.pending.replaces:
            job.latest = by_id.get(job.file.id)
        elif job.file.key is not None:
            job.latest = latest.get((job.file.storage_id, job.file.key)) or owners.get(
                (job.file.storage_id, job.file.key)
            )


def refuse_inside(connection: Connection, jobs: Sequence[Job]) -> None:
    """Refuse to copy a file to a key inside that of another one, which would be changed by it."""
    copied = [job for job in jobs if not job.pending.in_place]
    above = {each for job in copied for each in ancestors(job.file.key or "")}
    latest = {**_latest(connection, above), **_keyless(connection, above)}
    for job in copied:
        for folder in ancestors(job.file.key or ""):
            if (job.file.storage_id, folder) in latest:
                raise KeyConflictError(
                    f"the key {job.file.key!r} cannot lie inside {folder!r}, which is itself a "
                    "recorded file: choose another key"
                )


def _keyless(connection: Connection, places: set[str]) -> dict[tuple[str, str], Row[Any]]:
    """Return the files whose objects their ids name, and that lie at one of these places."""
    ids = {place[:FILE_ID_LENGTH] for place in places if "/" not in place}
    return {
        (row.storage_id, _keyless_key(row)): row
        for row in _rows(
            connection, file_table.c.id, {each for each in ids if len(each) == FILE_ID_LENGTH}
        )
        if row.key is None
    }


def _latest(connection: Connection, keys: set[str]) -> dict[tuple[str, str], Row[Any]]:
    return {
        (row.storage_id, row.key): row
        for row in _rows(connection, file_table.c.key, keys)
        if row.is_latest
    }


def _rows(connection: Connection, column: ColumnElement[Any], values: set[Any]) -> list[Row[Any]]:
    """Read the files that have one of these values, some hundred at a time."""
    return [
        row
        for chunk in chunked(sorted(values))
        for row in connection.execute(select(*_COLUMNS).where(column.in_(chunk)))
    ]


def _refuse_folder(database: Database, job: Job) -> None:
    key = file_table.c.key
    query = select(key).where(
        file_table.c.storage_id == job.file.storage_id,
        file_table.c.is_latest,
        key > f"{job.final}/",
        key < f"{job.final}0",
    )
    with database.read() as connection:
        inside = connection.execute(query.limit(1)).scalar()
    if inside is not None:
        raise KeyConflictError(
            f"the key {job.final!r} is the folder of {inside!r}, which has a record: choose "
            "another key"
        )


def receive(job: Job) -> None:
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


def find_same_content(connection: Connection, jobs: Sequence[Job]) -> None:
    """Look up the records of this very content under each key; without a key, of each name."""
    rows = {
        (row.storage_id, row.hash, row.key, None if row.key else row.name): row
        for row in _rows(connection, file_table.c.hash, {job.digest.hash for job in jobs})
    }
    first: dict[Any, Job] = {}
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


def prove(work: Operation, jobs: Sequence[Job]) -> None:
    """What is renamed to its place has to be told from another's by its hash in the plan."""
    renamed = False
    for job in jobs:
        step = job.step
        if step is not None and step.incoming is not None and not job.store.links(step.incoming):
            job.step = replace(step, new_hash=job.digest.hash, new_type=job.digest.type)
            renamed = True
    if renamed:
        work.amend([job.step for job in jobs if job.step is not None])


def put(work: Operation, job: Job) -> None:
    """Move what has the key aside, and the new bytes to it."""
    step = job.step
    if step is None or job.is_second or job.is_there:
        return
    if step.aside is not None:
        work.confirm()
        job.store.move(step.final, step.aside, step.aside_type)
    work.confirm()
    if step.incoming is not None:
        job.store.place(step.incoming, step.final)
        return
    job.pending.check_unchanged()
    found = job.store.write(job.pending.source, step.final)
    if found != job.digest:
        job.pending.check_unchanged()
        raise RecordError(f"{job.pending.source.uri} changed while it was copied: add it again")
    if found.size >= _MAY_HAVE_PARTS:
        remember_parts(job.store.source(step.final, found.type), found)


def leftovers(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """What may go once the rows are committed: replaced objects, and asides that are back."""
    gone = []
    for job in jobs:
        if job.pending.replaces:
            if job.step is not None and job.step.aside is not None:
                gone.append((job.file.storage_id, job.step.aside))
        elif (kept := _version_of(job)) is not None:
            gone.append((job.file.storage_id, kept))
    return gone
