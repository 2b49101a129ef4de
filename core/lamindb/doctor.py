"""Compares what is recorded with what is there; mends what is safe."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions
from typing import Any, Literal

from sqlalchemy import select, text

from lamindb import config, journal, liveness, spool
from lamindb.db import schema
from lamindb.errors import DataError, DataMissingError, LaminError, StorageUnreachableError
from lamindb.instance import Instance, Location
from lamindb.progress import progress
from lamindb.storage.hashing import DIRECTORY_HASH, FILE_HASH
from lamindb.storage.keys import object_key, version_key
from lamindb.storage.sources import digest
from lamindb.storage.uploads import abort_uploads_of, uploads_of

DISTRIBUTION = "lamindb-workflows"
# the longest that an upload may be under way
_UPLOAD_TAKES = dt.timedelta(days=1)

Problem = Literal[
    "import-name",
    "database",
    "storage",
    "interrupted",
    "dead-run",
    "events-waiting",
    "events-refused",
    "object-missing",
    "object-changed",
    "object-unrecorded",
    "upload-unfinished",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes: problem: its kind; subject: record id or place; message: what to do about it;
        mended: whether this look mended it.
    """

    problem: Problem
    subject: str
    message: str
    mended: bool = False


def examine(*, fix: bool = False, hashes: bool = False) -> Iterator[Finding]:
    """Look at the installation, the database and every storage that can be reached from here.

    Args:
        fix: also end what dead processes have left. Objects and records are never removed; parts
            of objects are that were begun a day ago and never put together.
        hashes: read every object and compare its hash; else sizes only.
    Raises: NoInstanceError; DatabaseError.
    """
    yield from _other_distributions()
    # not the instance in use: opening that one would mend what is to be reported
    here = Instance(config.configuration())
    try:
        yield from _database(here)
        interrupted = list(_interrupted(here))
        if fix and interrupted:
            here.settle()
        left = {finding.subject for finding in _interrupted(here)} if fix else set()
        for finding in interrupted:
            yield replace(finding, mended=fix and finding.subject not in left)
        locations = here.managed_locations()
        for location in locations:
            inner = [
                key
                for other in locations
                if (key := location.store.key_of(other.store.root)) not in (None, ".")
            ]
            yield from _storage(here, location, hashes, inner)
            yield from _uploads(location, fix)
    finally:
        here.database.dispose()


def _other_distributions() -> Iterator[Finding]:
    for name in sorted(set(packages_distributions().get("lamindb", [])) - {DISTRIBUTION}):
        yield Finding(
            "import-name",
            name,
            f"the distribution {name} also owns the import name 'lamindb', so which of the two is "
            f"imported is chance: pip uninstall {name}, or use another environment, then "
            f"pip install --force-reinstall {DISTRIBUTION}",
        )


def _database(here: Instance) -> Iterator[Finding]:
    if not here.database.is_sqlite:
        return
    with here.database.read() as connection:
        answers = connection.execute(text("PRAGMA integrity_check(5)")).scalars().all()
    for answer in answers:
        if answer != "ok":
            yield Finding("database", str(here.config.sqlite_path), f"{answer}: put back a backup")


def _interrupted(here: Instance) -> Iterator[Finding]:
    for row in journal.pending(here.database):
        if journal.is_abandoned(row):
            yield Finding(
                "interrupted",
                row["id"],
                f"an interrupted {row['kind']} of process {row['owner']['pid']}: "
                "'lamin doctor --fix', or any use of the instance, undoes or ends it",
            )
    for path in spool.abandoned(here.config):
        yield Finding(
            "events-waiting",
            str(path),
            "a process that is gone has left events here which are not recorded yet: "
            "'lamin doctor --fix', or any use of the instance, records them",
        )
    for path in spool.refused(here.config):
        yield Finding(
            "events-refused",
            str(path),
            "the database refused some of these events, and they are kept here: report them with "
            "the versions of lamindb-workflows, or delete the file",
        )
    for run_id in liveness.dead_runs(here.database):
        yield Finding(
            "dead-run",
            run_id,
            "its process is gone, but it never ended: 'lamin doctor --fix', or any use of the "
            "instance, marks it as aborted",
        )


def _storage(
    here: Instance, location: Location, hashes: bool, inner: Sequence[str | None]
) -> Iterator[Finding]:
    """Examine one storage; ``inner``: the keys of nested ones, which have their own turn."""
    store = location.store
    try:
        store.check(location.id)
        sizes = store.sizes()
        present = set(store.keys(sizes))
        versions = set(store.version_keys(sizes))
    except (LaminError, OSError) as error:
        yield Finding("storage", location.id, str(error))
        return
    table = schema.file
    with here.database.read() as connection:
        rows = connection.execute(
            select(
                table.c.id,
                table.c.name,
                table.c.key,
                table.c.suffix,
                table.c.size,
                table.c.hash,
                table.c.hash_type,
                table.c.is_latest,
            ).where(table.c.storage_id == location.id)
        ).all()
    recorded = {row.key or f"{row.id}{row.suffix}" for row in rows if row.is_latest}
    for key in sorted(versions - {version_key(row.id, row.suffix) for row in rows}):
        yield Finding(
            "object-unrecorded",
            store.uri(key),
            "no record knows this object, which an older version has left: remove it, or move it "
            "out of here and add it with ln.add(ln.File(path))",
        )
    listing = None if sizes is None else _Listing(sizes)
    size = sum(row.size or 0 for row in rows)
    found: list[Finding] = []
    try:
        with progress(
            f"Checking {store.root}",
            lambda: size if hashes else len(rows),
            "bytes" if hashes else "items",
        ) as advance:
            for row in rows:
                found += _object(location, row, hashes, listing)
                if not hashes:
                    advance(1)
    except StorageUnreachableError as error:
        yield from found
        yield Finding("storage", location.id, str(error))
        return
    yield from found
    for key in sorted(present - recorded):
        if not any(folder in recorded or folder in inner for folder in _folders(key)):
            yield Finding(
                "object-unrecorded",
                store.uri(key),
                "no record knows this object: register it with ln.add(ln.File(path)), or remove it",
            )


def _folders(key: str) -> Iterator[str]:
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _uploads(location: Location, fix: bool) -> Iterator[Finding]:
    """Look for uploads in parts that nobody has ended: no listing shows them, but they cost."""
    try:
        found = uploads_of(location.store)
    except (LaminError, OSError):
        return  # they may not be listed with everyone's permissions
    for upload in found:
        is_old = dt.datetime.now(dt.UTC) - upload.begun_at > _UPLOAD_TAKES
        key = location.store.key_of(f"{location.store.type}://{upload.path}")
        if fix and is_old and key is not None:
            abort_uploads_of(location.store, key)
        yield Finding(
            "upload-unfinished",
            f"{location.store.type}://{upload.path}",
            f"an upload begun at {upload.begun_at:%Y-%m-%d %H:%M} was not ended: it is under way, "
            "or its process is gone; 'lamin doctor --fix' removes the parts of one a day old",
            mended=fix and is_old,
        )


def _object(
    location: Location, row: Any, hashes: bool, listing: _Listing | None
) -> Iterator[Finding]:
    store = location.store
    key = object_key(row.id, row.key, row.suffix, is_latest=row.is_latest)
    try:
        if listing is not None and not hashes:
            changed = listing.size(key, row.hash_type) != row.size
        else:
            source = store.source(key, row.hash_type)
            if hashes:
                changed = row.hash is not None and digest(source).hash != row.hash
            else:
                changed = sum(entry.size for entry in source.entries()) != row.size
    except DataError:
        # an older version that was overwritten in place has no object, and its record says so
        if row.is_latest:
            yield Finding(
                "object-missing",
                row.id,
                f"the object of {row.name} is gone from {store.uri(key)}: put it back, or delete "
                "the record with ln.delete",
            )
        return
    if changed:
        yield Finding(
            "object-changed",
            row.id,
            f"{store.uri(key)} is not what {row.name} recorded: put the old content back, or "
            "register the new with ln.add(ln.File(path))",
        )


class _Listing:
    """What a storage behind a URL holds, listed once: no need to ask for each object."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._keys = sorted(sizes)

    def size(self, key: str, hash_type: str | None) -> int:
        """Return the size of an object or directory; raises DataMissingError."""
        if hash_type != DIRECTORY_HASH and key in self._sizes:
            return self._sizes[key]
        first, last = bisect_left(self._keys, f"{key}/"), bisect_left(self._keys, f"{key}0")
        inside = [name for name in self._keys[first:last] if not name.endswith("/")]
        if hash_type == FILE_HASH or not inside:
            raise DataMissingError(f"nothing lies at {key}")
        return sum(self._sizes[name] for name in inside)
