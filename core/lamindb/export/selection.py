"""What is handed over: some files or runs, and all that they come from."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, or_, select

from lamindb import instance
from lamindb.db import schema
from lamindb.db.schema import file, run, run_file, run_run
from lamindb.errors import RecordError
from lamindb.graph.model import Link, Row, RunLink
from lamindb.graph.references import find, paths_of, rows, subject_of
from lamindb.graph.walking import by_id, family_of, rows_in


@dataclass
class Selection:
    """Rows by id, and the links between them.

    Attributes:
        wanted: ids of the files that were asked for; the others are what they come from.
        attempts: the number of attempts, by run; places: URI of each file's object.
    """

    files: dict[str, Row] = field(default_factory=dict)
    runs: dict[str, Row] = field(default_factory=dict)
    transforms: dict[tuple[str, str], Row] = field(default_factory=dict)
    users: dict[str, Row] = field(default_factory=dict)
    environments: dict[str, Row] = field(default_factory=dict)
    storages: dict[str, Row] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    run_links: list[RunLink] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)

    def transform_of(self, row: Row) -> Row | None:
        return self.transforms.get((row["transform_id"], row["transform_version"]))

    def name_of(self, row: Row) -> str:
        """What a person calls a run: its transform's name, else its own, else its id."""
        made = self.transform_of(row)
        return str((made["name"] if made else None) or row["name"] or row["id"])

    def linked(self, run_id: str, role: str) -> list[Row]:
        """Return the files that a run read or wrote."""
        return list(self._linked.get((run_id, role), ()))

    def children(self, run_id: str) -> list[Row]:
        return list(self._children.get(run_id, ()))

    def top_of(self, run_id: str) -> str:
        """Return the run that started it, or the one that started that, and so on."""
        seen = {run_id}
        while (parent := self.runs[run_id]["parent_id"]) in self.runs and parent not in seen:
            run_id = parent
            seen.add(run_id)
        return run_id

    # once all rows are there

    @cached_property
    def _linked(self) -> dict[tuple[str, str], list[Row]]:
        found = defaultdict(list)
        for link in self.links:
            if link.file_id in self.files:
                found[link.run_id, link.role].append(self.files[link.file_id])
        return found

    @cached_property
    def _children(self) -> dict[str, list[Row]]:
        found = defaultdict(list)
        for row in sorted(self.runs.values(), key=_by_start):
            found[row["parent_id"]].append(row)
        return found


def _by_start(row: Row) -> tuple[bool, Any, str]:
    started = row["started_at"]
    return started is None, started or dt.datetime.min.replace(tzinfo=dt.UTC), row["id"]


def select_upstream(reference: str) -> Selection:
    """Return the files of a reference, and all that they come from.

    Args: reference: an id, key, path or name of a file or run, or a folder of recorded files.
    Raises: RecordError: nothing is recorded there.
    """
    files, runs = _named(reference)
    with instance.reading().database.read() as connection:
        found = Selection()
        if runs:
            found.wanted |= set(_linked(connection, runs, "run_id", ("output",), "file_id"))
        found.wanted |= set(files)
        _walk(connection, found, set(runs), set(found.wanted))
        _complete(connection, found)
    return found


def select_runs(run_ids: Iterable[str]) -> Selection:
    """Return runs with the files that they read and wrote, and not what is before."""
    with instance.reading().database.read() as connection:
        found = Selection()
        found.runs = by_id(connection, run, set(run_ids))
        _complete(connection, found)
    return found


def _named(reference: str) -> tuple[list[str], list[str]]:
    """Return the ids of the files, or else of the runs, that a person means."""
    try:
        table, row = find(reference)
    except RecordError:
        files = _in_folder(reference)
        if not files:
            raise
        return files, []
    if table is file:
        return [row["id"]], []
    family = family_of(subject_of(row["id"]).id)
    return [], [each["run_id"] for each in rows(select(family.c.run_id))]


def _in_folder(reference: str) -> list[str]:
    paths = [each.rstrip("/") for each in paths_of(reference)]
    key = reference.strip("/").removeprefix("./")
    inside = instance.current().default_location.store.key_of(paths[0])
    conditions = [file.c.source_uri.startswith(f"{each}/", autoescape=True) for each in paths]
    conditions += [
        file.c.key.startswith(f"{each}/", autoescape=True)
        for each in {key, inside or key}
        if each not in ("", ".")
    ]
    if inside == ".":
        conditions.append(file.c.storage_id == instance.current().default_storage_id)
    query = select(file.c.id).where(file.c.is_latest, or_(*conditions)).order_by(file.c.key)
    return [row["id"] for row in rows(query)]


def _walk(connection: Connection, found: Selection, runs: set[str], files: set[str]) -> None:
    """Go from files to the runs that wrote them, and from those to what they read, to the end."""
    seen_files: set[str] = set()
    while runs - found.runs.keys() or files - seen_files:
        fresh = files - seen_files
        seen_files |= fresh
        runs |= set(_linked(connection, sorted(fresh), "file_id", ("output",), "run_id"))
        new = runs - found.runs.keys()
        found.runs |= by_id(connection, run, new)
        files = set(_linked(connection, sorted(new), "run_id", ("input",), "file_id"))
        sources = rows_in(connection, run_run, "run_id", sorted(new))
        runs = {row.other_id for row in sources}
    found.files |= by_id(connection, file, seen_files)


def _linked(
    connection: Connection, ids: list[str], name: str, roles: tuple[str, ...], other: str
) -> list[str]:
    linked = rows_in(connection, run_file, name, sorted(ids))
    return list(dict.fromkeys(getattr(row, other) for row in linked if row.role in roles))


def _complete(connection: Connection, found: Selection) -> None:
    """Add the rows that those of runs and files refer to."""
    _add_parents(connection, found)
    names = sorted(found.runs)
    links = [Link(*row) for row in rows_in(connection, run_file, "run_id", names)]
    if found.files:  # what a run wrote beside is not part of it
        links = [link for link in links if link.file_id in found.files]
    found.links = sorted(links, key=lambda link: (link.run_id, link.role, link.file_id))
    found.files |= by_id(connection, file, {link.file_id for link in links} - found.files.keys())
    found.run_links = [RunLink(*row) for row in rows_in(connection, run_run, "run_id", names)]
    for row in rows_in(connection, schema.attempt, "run_id", names):
        found.attempts[row.run_id] = max(found.attempts.get(row.run_id, 1), row.number)
    records = [*found.runs.values(), *found.files.values()]
    versions = sorted({row["transform_id"] for row in records} - {None})
    found.transforms = {
        (row.id, row.version): dict(row._mapping)
        for row in rows_in(connection, schema.transform, "id", versions)
    }
    found.users = by_id(connection, schema.user, {row["created_by_id"] for row in records})
    wanted = {row["environment_id"] for row in found.runs.values()} - {None}
    found.environments = by_id(connection, schema.environment, wanted)
    used = {row["storage_id"] for row in found.files.values()}
    found.storages = by_id(connection, schema.storage, used)


def _add_parents(connection: Connection, found: Selection) -> None:
    wanted = {row["parent_id"] for row in found.runs.values()}
    while wanted := wanted - found.runs.keys() - {None}:
        parents = by_id(connection, run, wanted)
        if not parents:
            return
        found.runs |= parents
        wanted = {row["parent_id"] for row in parents.values()}
