"""What a file comes from: the runs and files upstream of it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Table, select

from lamindb import instance
from lamindb.db import schema
from lamindb.db.schema import run_file

_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True)
class Link:
    """A run read (``input``) or wrote (``output``) a file; ``how`` this is known."""

    run_id: str
    file_id: str
    role: str
    how: str


@dataclass(frozen=True)
class Graph:
    """Rows by id, as dicts in column order, and the links between them."""

    files: dict[str, dict[str, Any]]
    runs: dict[str, dict[str, Any]]
    transforms: dict[tuple[str, str], dict[str, Any]]
    links: list[Link]

    def producers(self, file_id: str) -> list[str]:
        """The runs that wrote a file: the one its record names first, then by start."""
        return self._producers.get(file_id, [])

    def inputs(self, run_id: str) -> list[str]:
        """The files that a run read, by key or name."""
        return self._inputs.get(run_id, [])

    def runs_upstream(self, file_id: str) -> set[str]:
        """The runs in a file's past, its own among them."""
        found: set[str] = set()
        left = [file_id]
        while left:
            for run_id in self.producers(left.pop()):
                if run_id not in found:
                    found.add(run_id)
                    left += self.inputs(run_id)
        return found

    @cached_property
    def _producers(self) -> dict[str, list[str]]:
        def order(file_id: str, run_id: str) -> tuple[bool, bool, dt.datetime, str]:
            started = self.runs[run_id]["started_at"]  # None while only the end is known
            is_first = run_id == self.files[file_id]["run_id"]
            return not is_first, started is None, started or _EARLIEST, run_id

        return {
            file_id: sorted(writers, key=lambda run_id: order(file_id, run_id))
            for file_id, writers in self._linked("output", "file_id", "run_id").items()
        }

    @cached_property
    def _inputs(self) -> dict[str, list[str]]:
        return {
            run_id: sorted(read, key=lambda file_id: (label(self.files[file_id]), file_id))
            for run_id, read in self._linked("input", "run_id", "file_id").items()
        }

    def _linked(self, role: str, one: str, other: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for link in self.links:
            if link.role == role:
                found[getattr(link, one)].add(getattr(link, other))
        return found

    def name_of(self, run_id: str) -> str:
        """What a person calls a run: its transform's name, else its own, else its id."""
        made = self.transform_of(run_id)
        return str(made["name"] if made else self.runs[run_id]["name"] or run_id)

    def transform_of(self, run_id: str) -> dict[str, Any] | None:
        run = self.runs[run_id]
        return self.transforms.get((run["transform_id"], run["transform_version"]))


def label(file: dict[str, Any]) -> str:
    """What a person calls a file: its key, else its name."""
    return str(file["key"] or file["name"])


def upstream(file_id: str) -> Graph:
    """Return every run and file from which a file was made, in any number of steps.

    Source: W3C PROV-DM 2013, ``wasGeneratedBy`` and ``used`` walked backwards. A cycle, as when a
    script reads the file that it rewrites, is walked once.
    """
    writes, reads, writes_before = (run_file.alias(name) for name in ("w", "r", "b"))
    runs = (
        select(writes.c.run_id)
        .where(writes.c.file_id == file_id, writes.c.role == "output")
        .cte("upstream", recursive=True)
    )
    runs = runs.union(
        select(writes_before.c.run_id)
        .select_from(runs)
        .join(reads, (reads.c.run_id == runs.c.run_id) & (reads.c.role == "input"))
        .join(
            writes_before,
            (writes_before.c.file_id == reads.c.file_id) & (writes_before.c.role == "output"),
        )
    )
    with instance.reading().database.read() as connection:
        found = [row.run_id for row in connection.execute(select(runs.c.run_id))]
        links = [
            Link(row.run_id, row.file_id, row.role, row.how)
            for row in _in_chunks(connection, run_file, run_file.c.run_id, found)
        ]
        relevant = _relevant(file_id, links)
        files = _by_id(connection, schema.file, {link.file_id for link in relevant} | {file_id})
        run_rows = _by_id(connection, schema.run, set(found))
        versions = {row["transform_id"] for row in run_rows.values() if row["transform_id"]}
        transforms = {
            (row.id, row.version): dict(row._mapping)
            for row in _in_chunks(
                connection, schema.transform, schema.transform.c.id, sorted(versions)
            )
        }
    return Graph(files, run_rows, transforms, relevant)


def _relevant(file_id: str, links: list[Link]) -> list[Link]:
    # what a run upstream wrote beside, and nobody here read, did not go into the file
    read = {link.file_id for link in links if link.role == "input"} | {file_id}
    return [link for link in links if link.role == "input" or link.file_id in read]


def _by_id(connection: Connection, table: Table, ids: set[str]) -> dict[str, dict[str, Any]]:
    rows = _in_chunks(connection, table, table.c.id, sorted(ids))
    return {row.id: dict(row._mapping) for row in rows}


def _in_chunks(connection: Connection, table: Table, column: Any, values: list[str]) -> list[Any]:
    return [
        row
        for start in range(0, len(values), 500)
        for row in connection.execute(select(table).where(column.in_(values[start : start + 500])))
    ]
