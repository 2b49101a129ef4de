"""Compares what is recorded with what is there; mends what is safe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions
from typing import Any, Literal

from sqlalchemy import select, text

from lamindb import config, journal, liveness, spool
from lamindb.db import schema
from lamindb.errors import DataError, LaminError
from lamindb.instance import Instance, Location
from lamindb.progress import progress
from lamindb.storage.keys import object_key, version_key
from lamindb.storage.sources import digest

DISTRIBUTION = "lamindb-workflows"

Problem = Literal[
    "import-name",
    "database",
    "storage",
    "interrupted",
    "dead-run",
    "events-waiting",
    "object-missing",
    "object-changed",
    "object-unrecorded",
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
        fix: also end what dead processes have left. Objects and records are never removed.
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
        present = set(store.keys())
        versions = set(store.version_keys())
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
    size = sum(row.size or 0 for row in rows)
    with progress(
        f"Checking {store.root}",
        lambda: size if hashes else len(rows),
        "bytes" if hashes else "items",
    ) as advance:
        found: list[Finding] = []
        for row in rows:
            found += _object(location, row, hashes)
            if not hashes:
                advance(1)
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


def _object(location: Location, row: Any, hashes: bool) -> Iterator[Finding]:
    store = location.store
    key = object_key(row.id, row.key, row.suffix, is_latest=row.is_latest)
    try:
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
