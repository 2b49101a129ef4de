"""Walks from a file or run to all that it comes from, or that came of it, in one query.

Source: W3C PROV-DM 2013, ``wasGeneratedBy``, ``used`` and ``wasInformedBy``. A cycle, as when a
script reads the file that it rewrites, is walked once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    Connection,
    Select,
    Table,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)

from lamindb import instance
from lamindb.db import schema
from lamindb.db.database import chunked
from lamindb.db.schema import run_file, run_run
from lamindb.graph.model import Direction, Graph, Link, Row, RunLink, Subject


def runs_from(subject: Subject, direction: Direction, depth: int | None, dialect: str) -> CTE:
    """Return the runs up- or downstream of a subject as a recursive query of ``run_id``.

    Args: depth: runs to walk, None is all; dialect: name of the database's.
    """
    forth = direction == "downstream"
    bounded = depth is not None
    if subject.kind == "file":
        role = "input" if forth else "output"
        first: Select[Any] = select(run_file.c.run_id).where(
            run_file.c.file_id == subject.id, run_file.c.role == role
        )
    else:
        first = select(family_of(subject.id).c.run_id)
    distance = 1 if subject.kind == "file" else 0
    if bounded:
        first = first.add_columns(literal(distance).label("distance"))
    walked = first.cte(direction, recursive=True)
    steps = _steps(walked, forth)
    if dialect == "postgresql":
        # it allows one recursive term; SQLite has no lateral joins, but allows several
        each = union_all(*(step.where(link == walked.c.run_id) for step, link in steps)).lateral()
        nexts = [select(each.c.next_id).select_from(walked.join(each, true()))]
    else:
        nexts = [step.join(walked, walked.c.run_id == link) for step, link in steps]
    if depth is not None:
        nexts = [
            step.add_columns(walked.c.distance + 1).where(walked.c.distance < depth)
            for step in nexts
        ]
    return walked.union(*nexts)


def _steps(walked: CTE, forth: bool) -> list[tuple[Select[Any], Any]]:
    """Return the ways from one run to the next, and the column that names the one before."""
    here, there = run_file.alias("here"), run_file.alias("there")
    mine, theirs = ("output", "input") if forth else ("input", "output")
    by_file = (
        select(there.c.run_id.label("next_id"))
        .select_from(here)
        .join(there, (there.c.file_id == here.c.file_id) & (there.c.role == theirs))
        .where(here.c.role == mine)
    )
    one, other = (
        (run_run.c.other_id, run_run.c.run_id) if forth else (run_run.c.run_id, run_run.c.other_id)
    )
    by_value = select(other.label("next_id")).select_from(run_run)
    return [(by_file, here.c.run_id), (by_value, one)]


def family_of(run_id: str) -> CTE:
    """Return a run and the runs that it started, and those that they started, as ``run_id``."""
    run = schema.run
    family = (
        select(run.c.id.label("run_id")).where(run.c.id == run_id).cte("family", recursive=True)
    )
    return family.union(select(run.c.id).join(family, run.c.parent_id == family.c.run_id))


def load(
    subject: Subject,
    direction: Direction = "upstream",
    depth: int | None = None,
    most_runs: int | None = None,
) -> Graph:
    """Return the rows and links up- and downstream of a file or run.

    What a run upstream wrote beside, and nobody there read, is left out, for it did not go into
    the subject; what a run downstream read beside likewise.

    Args: most_runs: take no more than this many in a direction, the nearest ones.
    """
    ways: list[Direction] = ["upstream", "downstream"] if direction == "both" else [direction]
    with instance.reading().database.read() as connection:
        found = {way: _walk(connection, subject, way, depth, most_runs) for way in ways}
        is_cut = any(most_runs is not None and len(runs) > most_runs for runs in found.values())
        found = {way: runs[:most_runs] for way, runs in found.items()}
        starts = _family(connection, subject, most_runs)
        runs = _unique([*starts, *(run_id for way in ways for run_id in found[way])])
        all_links = [Link(*row) for row in rows_in(connection, run_file, "run_id", runs)]
        links = _relevant(subject, all_links, {w: set(ids) for w, ids in found.items()}, starts)
        run_rows = by_id(connection, schema.run, runs)
        files = by_id(connection, schema.file, {link.file_id for link in links})
        if subject.kind == "file":
            files[subject.id] = subject.row
        parents = _parents(connection, run_rows)
        versions = {row["transform_id"] for row in [*run_rows.values(), *parents.values()]}
        transforms = {
            (row.id, row.version): dict(row._mapping)
            for row in rows_in(connection, schema.transform, "id", sorted(versions - {None}))
        }
        run_links = [
            RunLink(*row)
            for row in rows_in(connection, run_run, "run_id", runs)
            if row.other_id in run_rows
        ]
    return Graph(
        subject, files, run_rows, transforms, links, run_links, frozenset(starts), parents, is_cut
    )


def _walk(
    connection: Connection,
    subject: Subject,
    direction: Direction,
    depth: int | None,
    most: int | None,
) -> list[str]:
    walked = runs_from(subject, direction, depth, connection.dialect.name)
    query = select(walked.c.run_id)
    if depth is not None:
        query = query.distinct()  # a run is there once for each distance
    if most is not None:
        # both databases walk breadth first, and stop when they have as many
        query = query.limit(most + 1)
    return _unique(connection.execute(query).scalars())


def _family(connection: Connection, subject: Subject, most: int | None) -> list[str]:
    if subject.kind == "file":
        return []
    query = select(family_of(subject.id).c.run_id).limit(most)
    return _unique(connection.execute(query).scalars())


def _relevant(
    subject: Subject, links: list[Link], found: dict[Direction, set[str]], starts: Sequence[str]
) -> list[Link]:
    back, forth = found.get("upstream", set()), found.get("downstream", set())
    own = set(starts)
    read = {link.file_id for link in links if link.role == "input" and link.run_id in back}
    written = {link.file_id for link in links if link.role == "output" and link.run_id in forth}
    if subject.kind == "file":
        read.add(subject.id)
        written.add(subject.id)

    def is_relevant(link: Link) -> bool:
        if link.run_id in own:
            return True
        if link.role == "input":
            return link.run_id in back or link.file_id in written
        return link.run_id in forth or link.file_id in read

    return [link for link in links if is_relevant(link)]


def _parents(connection: Connection, runs: dict[str, Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    wanted = {row["parent_id"] for row in runs.values()}
    while wanted := wanted - runs.keys() - found.keys() - {None}:
        rows = by_id(connection, schema.run, wanted)
        found |= rows
        wanted = {row["parent_id"] for row in rows.values()}
        if not rows:
            break
    return found


def totals(graph: Graph) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
    """Return by file how many runs wrote and read it, by run how many files it read and wrote.

    All that are recorded, in the graph or not.
    """
    with instance.reading().database.read() as connection:
        return tuple(  # type: ignore[return-value]
            _counts(connection, column, sorted(ids), roles)
            for column, ids, roles in (
                ("file_id", graph.files, ("output", "input")),
                ("run_id", graph.runs, ("input", "output")),
            )
        )


def _counts(
    connection: Connection, name: str, ids: Sequence[str], roles: tuple[str, str]
) -> dict[str, tuple[int, int]]:
    column = run_file.c[name]
    found: dict[tuple[str, str], int] = {}
    for chunk in chunked(ids):
        query = (
            select(column, run_file.c.role, func.count())
            .where(column.in_(chunk), or_(run_file.c.role == roles[0], run_file.c.role == roles[1]))
            .group_by(column, run_file.c.role)
        )
        found |= {(row[0], row[1]): row[2] for row in connection.execute(query)}
    return {each: (found.get((each, roles[0]), 0), found.get((each, roles[1]), 0)) for each in ids}


def by_id(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, Row]:
    """Return rows of a table by id."""
    rows = rows_in(connection, table, "id", sorted(ids))
    return {row.id: dict(row._mapping) for row in rows}


def rows_in(connection: Connection, table: Table, name: str, values: Sequence[str]) -> list[Any]:
    """Return the rows that have one of many values in a column."""
    return [
        row
        for chunk in chunked(values)
        for row in connection.execute(select(table).where(table.c[name].in_(chunk)))
    ]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
