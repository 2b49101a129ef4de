"""``ln.stale``: what is out of date, because something that it was made from has changed."""

from __future__ import annotations

import datetime as dt
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Select, exists, func, select, tuple_

from lamindb import display, instance
from lamindb.db.database import chunked
from lamindb.db.frames import TEXT, TIME, typed_frame
from lamindb.db.schema import file, run, run_file, transform
from lamindb.errors import LaminError
from lamindb.graph.model import Row
from lamindb.hooks import FileStat
from lamindb.progress import progress
from lamindb.storage.cache import digest_once, recall
from lamindb.storage.hashing import DIRECTORY_HASH
from lamindb.storage.sources import LocalSource

if TYPE_CHECKING:
    import pandas as pd

Reason = Literal["run", "input", "code", "disk", "upstream"]
_ENDINGS = {
    "failed": "its last run failed",
    "cancelled": "its last run was cancelled",
    "aborted": "its last run was aborted",
}
_COLUMNS = {
    "id": TEXT,
    "file": TEXT,
    "distance": "int64",
    "reason": TEXT,
    "because": TEXT,
    "changed_at": TIME,
    "transform": TEXT,
    "engine": TEXT,
    "run_id": TEXT,
}


@dataclass(frozen=True)
class _Finding:
    """Why what a run wrote is out of date."""

    reason: Reason
    because: str
    changed_at: dt.datetime | None
    distance: int = 1


def stale(*, code: bool = True, disk: bool = True) -> pd.DataFrame:
    """Return the files that are out of date, in the order in which to make them anew.

    A file is out of date when the run that wrote it last read an older version of an input, or ran
    code of which another version has run since, or read a file that is out of date itself, or did
    not end well: it failed, was cancelled or aborted. Runs of other engines count like one's own.

    Args: code: whether other code counts; the current one is that which ran last, whoever ran it;
        disk: whether to look at the inputs that lie on this machine for bytes that no run has
        recorded yet.
    Returns: one row for each latest version that is out of date, by ``id``: file (key or name),
        distance int64 (1: something that its run used has changed; 2: its run read such a file; …),
        reason (``run``, ``input``, ``code``, ``disk`` or ``upstream``), because (a sentence),
        changed_at, transform, engine, run_id. No rows: the same columns and dtypes.
    """
    rows = (row.values() for row in stale_rows(code=code, disk=disk))
    return typed_frame(_COLUMNS, map(tuple, rows)).set_index("id")


def stale_rows(*, code: bool, disk: bool) -> list[Row]:
    """Return what :func:`stale` does, as dicts."""
    with instance.reading().database.read() as connection:
        found = _Search(connection, code=code, disk=disk)
        return [dict(zip(_COLUMNS, row, strict=True)) for row in found.rows()]


class _Search:
    def __init__(self, connection: Connection, *, code: bool, disk: bool) -> None:
        self._connection = connection
        self._because: dict[str, _Finding] = {}  # by run
        self._files: dict[str, _Finding] = {}
        for run_id, finding in self._ended_badly():
            self._because.setdefault(run_id, finding)
        for run_id, finding in self._changed_inputs():
            self._because.setdefault(run_id, finding)
        if code:
            for run_id, finding in self._changed_code():
                self._because.setdefault(run_id, finding)
        if disk:
            for run_id, finding in self._changed_on_disk():
                self._because.setdefault(run_id, finding)
        self._spread()

    def rows(self) -> list[tuple[Any, ...]]:
        makers = self._last_makers(self._files)
        rows = []
        for row in self._in_chunks(_files_with_runs(), file.c.id, self._files):
            found = self._files[row.id]
            made = makers[row.id]
            name = row.key or row.name
            rows.append(
                (
                    row.id,
                    name,
                    found.distance,
                    found.reason,
                    found.because,
                    found.changed_at,
                    made.transform,
                    made.engine,
                    made.run_id,
                )
            )
        return sorted(rows, key=lambda each: (each[2], each[1], each[0]))

    # --- what has changed ---------------------------------------------------------------------

    def _ended_badly(self) -> Iterable[tuple[str, _Finding]]:
        """Runs that may have left what they wrote half-written."""
        query = select(run.c.id, run.c.status, run.c.finished_at).where(
            run.c.status.in_(_ENDINGS),
            exists().where(run_file.c.run_id == run.c.id, run_file.c.role == "output"),
        )
        for row in self._connection.execute(query):
            yield row.id, _Finding("run", _ENDINGS[row.status], row.finished_at)

    def _changed_inputs(self) -> Iterable[tuple[str, _Finding]]:
        """Runs that read a version of a file that has a newer one, made by another run."""
        newer, wrote = file.alias("newer"), run_file.alias("wrote")
        query = (
            select(run_file.c.run_id, file.c.key, newer.c.created_at, newer.c.updated_at)
            .join(file, file.c.id == run_file.c.file_id)
            .join(
                newer,
                (newer.c.storage_id == file.c.storage_id)
                & (newer.c.key == file.c.key)
                & newer.c.is_latest,
            )
            .where(
                run_file.c.role == "input",
                file.c.is_latest.is_(False),
                # who reads a state and writes the next one is not out of date by it
                ~exists().where(
                    wrote.c.run_id == run_file.c.run_id,
                    wrote.c.file_id == newer.c.id,
                    wrote.c.role == "output",
                ),
            )
        )
        for row in self._connection.execute(query):
            because = f"{display.printable(row.key)} has a newer version"
            yield row.run_id, _Finding("input", because, max(row.created_at, row.updated_at))

    def _changed_code(self) -> Iterable[tuple[str, _Finding]]:
        """Runs of a transform that has run with other code since: with that which ran last."""
        versions: dict[str, list[Any]] = defaultdict(list)
        for row in self._connection.execute(_versions_that_ran()):
            versions[row.id].append(row)
        findings = {}
        for ran in versions.values():
            current = max(ran, key=lambda row: (row.last_at, row.created_at))
            for former in ran:
                if former.source_hash != current.source_hash:
                    findings[former.id, former.version] = self._code_since(former, current)
        version = tuple_(run.c.transform_id, run.c.transform_version)
        query = select(run.c.id, run.c.transform_id, run.c.transform_version)
        for row in self._in_chunks(query, version, findings):
            yield row.id, findings[row.transform_id, row.transform_version]

    def _code_since(self, former: Any, current: Any) -> _Finding:
        name = display.printable(current.name)
        if current.first_at > former.last_at:
            because = f"{name} (version {current.version}) is newer code"
            return _Finding("code", because, current.first_at)
        began = select(func.min(_began_at())).where(
            run.c.transform_id == current.id,
            run.c.transform_version == current.version,
            _began_at() > former.last_at,
        )
        at = self._connection.execute(began).scalar()
        return _Finding("code", f"{name} is back at version {current.version}", at)

    def _changed_on_disk(self) -> Iterable[tuple[str, _Finding]]:
        """Runs that read a file whose bytes on this machine are no longer those recorded."""
        read = select(file).where(
            file.c.is_latest,
            file.c.hash.is_not(None),
            exists().where(run_file.c.file_id == file.c.id, run_file.c.role == "input"),
        )
        changed, look = {}, _Disk()
        with progress("Hashing what has changed"):
            for row in self._connection.execute(read):
                when = look.changed_at(row)
                if when is not None:
                    changed[row.id] = (row.key or row.name, when)
        readers = select(run_file.c.run_id, run_file.c.file_id).where(run_file.c.role == "input")
        for row in self._in_chunks(readers, run_file.c.file_id, changed):
            name, when = changed[row.file_id]
            because = f"{display.printable(name)} has other bytes than were read"
            yield row.run_id, _Finding("disk", because, when)

    # --- what comes of it -----------------------------------------------------------------------

    def _spread(self) -> None:
        """Go from runs to what they wrote last, from there to the runs that read it, and so on."""
        runs: Iterable[str] = list(self._because)
        while runs:
            new = {}
            for row in self._written_by(runs):
                if row.file_id not in self._files:
                    new[row.file_id] = row
            makers = self._last_makers(new)
            stale_now = {
                name for name in new if (made := makers.get(name)) and made.run_id in self._because
            }
            for name in stale_now:
                self._files[name] = self._because[makers[name].run_id]
            runs = self._readers(stale_now, {name: new[name].label for name in stale_now})

    def _written_by(self, runs: Iterable[str]) -> Iterable[Any]:
        query = (
            select(run_file.c.file_id, file.c.key, file.c.name)
            .join(file, file.c.id == run_file.c.file_id)
            .where(run_file.c.role == "output", file.c.is_latest)
        )
        for row in self._in_chunks(query, run_file.c.run_id, runs):
            yield _Written(row.file_id, row.key or row.name)

    def _readers(self, files: Iterable[str], labels: dict[str, str]) -> list[str]:
        query = select(run_file.c.run_id, run_file.c.file_id).where(run_file.c.role == "input")
        found = []
        for row in self._in_chunks(query, run_file.c.file_id, files):
            if row.run_id not in self._because:
                before = self._files[row.file_id]
                because = f"{display.printable(labels[row.file_id])} is out of date"
                self._because[row.run_id] = _Finding(
                    "upstream", because, before.changed_at, before.distance + 1
                )
                found.append(row.run_id)
        return found

    def _last_makers(self, files: Iterable[str]) -> dict[str, Any]:
        """Return for each file the run that wrote it last: a later one may have made it anew."""
        query = (
            select(
                run_file.c.file_id,
                run_file.c.run_id,
                run_file.c.created_at,
                run.c.engine,
                transform.c.name.label("transform"),
            )
            .join(run, run.c.id == run_file.c.run_id)
            .outerjoin(
                transform,
                (transform.c.id == run.c.transform_id)
                & (transform.c.version == run.c.transform_version),
            )
            .where(run_file.c.role == "output")
        )
        makers: dict[str, list[Any]] = defaultdict(list)
        for row in self._in_chunks(query, run_file.c.file_id, files):
            makers[row.file_id].append(row)
        return {
            name: max(found, key=lambda row: (row.created_at, row.run_id))
            for name, found in makers.items()
        }

    def _in_chunks(self, query: Select[Any], column: Any, values: Iterable[Any]) -> Iterable[Any]:
        for chunk in chunked(sorted(values)):
            yield from self._connection.execute(query.where(column.in_(chunk)))


@dataclass(frozen=True)
class _Written:
    file_id: str
    label: str


def _files_with_runs() -> Select[Any]:
    return select(file.c.id, file.c.key, file.c.name)


def _began_at() -> Any:
    return func.coalesce(run.c.started_at, run.c.created_at)


def _versions_that_ran() -> Select[Any]:
    """Of transforms that have several codes: each version, with its first and last start."""
    known = (transform.c.id, transform.c.version)
    several = (
        select(transform.c.id)
        .group_by(transform.c.id)
        .having(func.count(transform.c.source_hash.distinct()) > 1)
    )
    facts = (*known, transform.c.name, transform.c.source_hash, transform.c.created_at)
    return (
        select(
            *facts,
            func.min(_began_at()).label("first_at"),
            func.max(_began_at()).label("last_at"),
        )
        .join(run, (run.c.transform_id == known[0]) & (run.c.transform_version == known[1]))
        .where(transform.c.id.in_(several), transform.c.source_hash.is_not(None))
        .group_by(*facts)
    )


def _time(ns: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ns / 1e9, dt.UTC)


class _Disk:
    """What lies on this machine now; of many files, so each costs one look."""

    def __init__(self) -> None:
        self._roots: dict[str, str | None] = {}

    def changed_at(self, row: Any) -> dt.datetime | None:
        """Return when a local file was last changed, if its bytes are no longer those recorded.

        One that is gone has not changed: what was made from it is as good as it was.
        """
        root = self._root(row.storage_id)
        if root is None or row.key is None or row.hash_type == DIRECTORY_HASH:
            return None
        path = os.path.join(root, row.key)  # noqa: PTH118 - a million of them
        stat = FileStat.of(path)
        if stat is None:
            return None
        changed_at = _time(stat.mtime_ns)
        if changed_at <= row.created_at:
            # mv, cp -p, rsync -a and tar bring the time of writing along, but not this one
            changed_at = max(changed_at, _time(stat.ctime_ns))
        if stat.size != row.size:
            return changed_at
        known = recall((stat.size, stat.mtime_ns, stat.ctime_ns, stat.device, stat.inode))
        if known is None and changed_at <= row.created_at:
            return None
        try:
            digest = known or digest_once(LocalSource(Path(path)))
        except (LaminError, OSError):
            return None
        return changed_at if digest.hash != row.hash else None

    def _root(self, storage_id: str) -> str | None:
        if storage_id not in self._roots:
            try:
                store = instance.current().location(storage_id).store
            except LaminError:
                store = None  # a folder of another host
            self._roots[storage_id] = store.root if store and store.is_local else None
        return self._roots[storage_id]
