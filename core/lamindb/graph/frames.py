"""What is up- or downstream, as a typed DataFrame, by one query."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, DateTime, Row, Select, func, select, type_coerce

from lamindb import instance
from lamindb.db.frames import TEXT, TIME, TRUTH, WHOLE, frame_of_columns, typed_frame
from lamindb.db.schema import file, run, run_file, run_run, transform
from lamindb.graph.model import Subject
from lamindb.graph.walking import family_of, runs_from

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "distance": "int64",
    "run_id": TEXT,
    "transform": TEXT,
    "transform_version": TEXT,
    "engine": TEXT,
    "status": TEXT,
    "started_at": TIME,
    "duration_s": "float64",
    "file_id": TEXT,
    "file": TEXT,
    "size": WHOLE,
    "hash": TEXT,
    "is_latest": TRUTH,
    "how": TEXT,
}
# what the query reads, in its order
_READ = (
    "run_id",
    "file_id",
    "started_at",
    "file",
    "finished_at",
    "transform",
    "transform_version",
    "engine",
    "status",
    "size",
    "hash",
    "is_latest",
    "how",
    "next_id",
)
_RUN_ID, _FILE_ID, _STARTED_AT, _FILE = range(4)
_CHUNK = 10_000


def frame(
    subject: Subject, direction: Literal["upstream", "downstream"], depth: int | None
) -> pd.DataFrame:
    """Return one row for each run and file that it read, or wrote; see ``Lineage.upstream``."""
    forth = direction == "downstream"
    with instance.reading().database.read() as connection:
        rows = connection.execute(_query(connection, subject, forth, depth)).all()
        names = sorted({row[_RUN_ID] for row in rows})
        by_value = _run_links(connection, names, forth)
        starts = _starts(connection, subject, forth)
    distances = _distances(rows, by_value, starts, 1 if subject.kind == "file" else 0)
    # an input that several runs wrote is there once for each
    once = {(row[_RUN_ID], row[_FILE_ID]): row for row in rows}.values()
    # by start, those of which it is not known last
    ordered = sorted(
        (distances[row[0]], row[2] is None, row[2], row[0], row[3] or "", row) for row in once
    )
    if not ordered:
        return typed_frame(COLUMNS, [])
    values = dict(zip(_READ, zip(*(row for *_, row in ordered), strict=True), strict=True))
    values["distance"] = tuple(distance for distance, *_ in ordered)
    values["duration_s"] = (math.nan,) * len(ordered)
    found = frame_of_columns({name: (dtype, values[name]) for name, dtype in COLUMNS.items()})
    ended = frame_of_columns({"at": (TIME, values["finished_at"])})["at"]
    found["duration_s"] = (ended - found["started_at"]).dt.total_seconds()
    return found


def _query(connection: Connection, subject: Subject, forth: bool, depth: int | None) -> Select[Any]:
    walked = runs_from(
        subject, "downstream" if forth else "upstream", depth, connection.dialect.name
    )
    # as a table of its own: else SQLite reads all links to build a Bloom filter of them
    found = select(walked.c.run_id).distinct().subquery("found")
    near, far = run_file.alias("near"), run_file.alias("far")
    mine, theirs = ("output", "input") if forth else ("input", "output")
    is_made_by = (transform.c.id == run.c.transform_id) & (
        transform.c.version == run.c.transform_version
    )
    return (
        select(
            run.c.id.label("run_id"),
            file.c.id.label("file_id"),
            # pandas makes them UTC, all at once
            type_coerce(run.c.started_at, DateTime(timezone=True)),
            func.coalesce(file.c.key, file.c.name).label("file"),
            type_coerce(run.c.finished_at, DateTime(timezone=True)),
            func.coalesce(transform.c.name, run.c.name).label("transform"),
            run.c.transform_version,
            run.c.engine,
            run.c.status,
            file.c.size,
            file.c.hash,
            file.c.is_latest,
            near.c.how,
            far.c.run_id.label("next_id"),
        )
        .select_from(found)
        .join(run, run.c.id == found.c.run_id)
        .outerjoin(transform, is_made_by)
        .outerjoin(near, (near.c.run_id == run.c.id) & (near.c.role == mine))
        .outerjoin(file, file.c.id == near.c.file_id)
        .outerjoin(far, (far.c.file_id == file.c.id) & (far.c.role == theirs))
    )


def _starts(connection: Connection, subject: Subject, forth: bool) -> list[str]:
    if subject.kind == "run":
        return list(connection.execute(select(family_of(subject.id).c.run_id)).scalars())
    query = select(run_file.c.run_id).where(
        run_file.c.file_id == subject.id, run_file.c.role == ("input" if forth else "output")
    )
    return list(connection.execute(query).scalars())


def _run_links(connection: Connection, names: list[str], forth: bool) -> dict[str, list[str]]:
    mine, theirs = (
        (run_run.c.other_id, run_run.c.run_id) if forth else (run_run.c.run_id, run_run.c.other_id)
    )
    found: dict[str, list[str]] = defaultdict(list)
    if connection.execute(select(run_run.c.run_id).limit(1)).first() is None:
        return found  # as where no engine passes values: spares many parameters
    for start in range(0, len(names), _CHUNK):
        query = select(mine, theirs).where(mine.in_(names[start : start + _CHUNK]))
        for one, other in connection.execute(query):
            found[one].append(other)
    return found


def _distances(
    rows: Sequence[Row[Any]], by_value: dict[str, list[str]], starts: list[str], first: int
) -> dict[str, int]:
    nexts = defaultdict(list)
    for row in rows:
        if row[-1] is not None:
            nexts[row[_RUN_ID]].append(row[-1])
    found = dict.fromkeys(starts, first)
    left = deque(starts)
    while left:
        name = left.popleft()
        for other in (*nexts[name], *by_value.get(name, ())):
            if other not in found:
                found[other] = found[name] + 1
                left.append(other)
    return found
