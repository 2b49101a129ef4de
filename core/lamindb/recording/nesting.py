"""The innermost run owns a file: what was merely observed of a run around it is not its own.

A script that starts a workflow sees the files of the workflow's steps appear. They are the steps'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from lamindb.db import schema
from lamindb.db.database import chunked

run, link, file = schema.run, schema.run_file, schema.file


def runs_around(connection: Connection, runs: Sequence[str]) -> dict[str, set[str]]:
    """Return the runs inside which each of these runs began, at any distance."""
    found: dict[str, set[str]] = defaultdict(set)
    for chunk in chunked(runs):
        walk = (
            select(run.c.id.label("inner"), run.c.parent_id.label("around"))
            .where(run.c.id.in_(chunk), run.c.parent_id.is_not(None))
            .cte("around", recursive=True)
        )
        # union, not union all: a circle of parents comes to an end
        walk = walk.union(
            select(walk.c.inner, run.c.parent_id)
            .join(run, run.c.id == walk.c.around)
            .where(run.c.parent_id.is_not(None))
        )
        for row in connection.execute(select(walk.c.inner, walk.c.around)):
            found[row.inner].add(row.around)
    return found


def owned_inside(
    connection: Connection, runs: Sequence[str], files: Sequence[str]
) -> set[tuple[str, str, str]]:
    """Return (run, file, role) of the files that runs inside these runs have read or written."""
    with_children = [
        each
        for chunk in chunked(runs)
        for each in connection.execute(
            select(run.c.parent_id).where(run.c.parent_id.in_(chunk)).distinct()
        ).scalars()
    ]
    if not with_children:
        return set()
    walk = (
        select(run.c.parent_id.label("outer_id"), run.c.id.label("inside"))
        .where(run.c.parent_id.in_(with_children))
        .cte("inside", recursive=True)
    )
    walk = walk.union(select(walk.c.outer_id, run.c.id).join(run, run.c.parent_id == walk.c.inside))
    return {
        (row.outer_id, row.file_id, row.role)
        for chunk in chunked(files)
        for row in connection.execute(
            select(walk.c.outer_id, link.c.file_id, link.c.role)
            .join(link, link.c.run_id == walk.c.inside)
            .where(link.c.file_id.in_(chunk))
        )
    }


def yield_to_inner(connection: Connection, runs: Sequence[str]) -> None:
    """Take what these runs have read and written from the runs around them, of which it is known
    only now that they are."""
    outer = runs_around(connection, _linked(connection, runs))
    watched = _linked(connection, sorted(set().union(*outer.values())), link.c.how == "observed")
    for inner in outer:
        around = outer[inner].intersection(watched)
        if not around:
            continue  # as within a workflow that no tracked script has started
        of_around = (link.c.run_id.in_(around), link.c.how == "observed")
        own = select(link.c.file_id).where(link.c.run_id == inner)
        written = list(connection.execute(own.where(link.c.role == "output")).scalars())
        connection.execute(
            delete(link).where(*of_around, link.c.role == "input", link.c.file_id.in_(own))
        )
        for chunk in chunked(written):
            taken = connection.execute(
                delete(link).where(*of_around, link.c.role == "output", link.c.file_id.in_(chunk))
            )
            if taken.rowcount:
                made_by = connection.execute(
                    select(run.c.transform_id, run.c.transform_version).where(run.c.id == inner)
                ).one()
                connection.execute(
                    update(file)
                    .where(file.c.id.in_(chunk), file.c.run_id.in_(around))
                    .values(run_id=inner, **made_by._mapping)
                )


def _linked(connection: Connection, runs: Sequence[str], *conditions: Any) -> list[str]:
    """Return which of these runs have files."""
    return [
        each
        for chunk in chunked(runs)
        for each in connection.execute(
            select(link.c.run_id).where(link.c.run_id.in_(chunk), *conditions).distinct()
        ).scalars()
    ]
