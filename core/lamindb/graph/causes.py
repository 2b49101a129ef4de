"""``ln.why``: why a file differs from its previous version, back to what was changed first."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, func, select

from lamindb import display
from lamindb.db import schema
from lamindb.db.frames import TEXT, WHOLE, typed_frame
from lamindb.errors import RecordError
from lamindb.graph.compare import Change, compare, files_of, lines_of, maker, name_of
from lamindb.graph.model import Row, label
from lamindb.graph.references import first, rows, subject_of

if TYPE_CHECKING:
    import pandas as pd

_MOST = 200
_OUTSIDE = "it came from outside, or its run was not tracked"
_COLUMNS = {
    "depth": WHOLE,
    "of": TEXT,
    "run": TEXT,
    "what": TEXT,
    "name": TEXT,
    "before": TEXT,
    "after": TEXT,
}


@dataclass
class Cause:
    """What differs between the two runs that led to two contents of one thing.

    Attributes:
        of: the file, or the run whose value was used; run: the name of the runs.
        changes: between the runs; unknown: what is not recorded of them, as sentences.
        causes: of the inputs and values that differ; again: those that stand elsewhere already.
    """

    of: str
    run: str | None = None
    changes: list[Change] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    again: list[Cause] = field(default_factory=list)

    @property
    def roots(self) -> list[Change]:
        """The changes that nothing recorded explains: those that people made."""
        reached = self._reached()
        explaining = {id(each) for each in reached if any(e.changes for e in each._reached())}
        found: dict[Change, None] = {}
        for cause in reached:
            explained = {
                each.of for each in (*cause.causes, *cause.again) if id(each) in explaining
            }
            for change in cause.changes:
                if change.what != "inputs" or change.name not in explained:
                    found[change] = None
        return list(found)

    def _reached(self) -> list[Cause]:
        """This one and those behind it, the nearest first, each once."""
        reached = {id(self): self}
        left = [self]
        while left:
            cause = left.pop(0)
            for each in (*cause.causes, *cause.again):
                if id(each) not in reached:
                    reached[id(each)] = each
                    left.append(each)
        return list(reached.values())


@dataclass(frozen=True)
class Why:
    """The answer to :func:`why`; its text is meant to be read.

    Attributes:
        file, previous: rows; previous is None if there is none.
        answer: one sentence; cause: the differences, None where there is nothing to compare.
    """

    file: Row
    previous: Row | None
    answer: str
    cause: Cause | None = None

    @property
    def changes(self) -> list[Change]:
        """What was changed first: the differences that no other difference explains."""
        return self.cause.roots if self.cause else []

    def df(self) -> pd.DataFrame:
        """Return one row a difference, the file's own run first.

        Returns: depth Int64 (0 is the run that wrote the file), of (the file or run that differs),
            run (name), what, name, before, after. No rows: the same columns and dtypes.
        """
        return typed_frame(_COLUMNS, self._rows())

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        left = [(0, self.cause)] if self.cause else []
        while left:
            depth, cause = left.pop(0)
            for each in cause.changes:
                yield depth, cause.of, cause.run, each.what, each.name, each.before, each.after
            left += [(depth + 1, inner) for inner in cause.causes]

    def __str__(self) -> str:
        lines = [self.answer]
        if self.cause is not None:
            lines += _lines(self.cause, 1)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


def why(file: Any, than: Any = None) -> Why:
    """Return why a file differs from its previous version: code, params, inputs or environment.

    Goes back through the inputs that differ, to what was changed first. Says so where the records
    do not suffice.

    Args: file: a File, or its id, key, path or name; than: another version, or another file, to
        compare with instead of the previous version.
    Raises: RecordError: nothing of that name is recorded, or it is no file.
    """
    row = _file_of(file)
    name = display.printable(label(row))
    previous = _file_of(than) if than is not None else previous_version(row)
    if previous is None:
        return Why(row, None, _alone(row, name))
    other = f"its previous version, {previous['id']}"
    if than is not None:
        other = display.printable(f"{label(previous)}, {previous['id']}")
    if row["hash"] is not None and row["hash"] == previous["hash"]:
        return Why(row, previous, f"{name} has the same content as {other}")
    if row["hash"] is None or previous["hash"] is None:
        note = row["hash_note"] if row["hash"] is None else previous["hash_note"]
        return Why(
            row,
            previous,
            f"whether {name} differs from {other} is not known: no hash, {note or '?'}",
        )
    return _explained(row, previous, name, other)


def _explained(row: Row, previous: Row, name: str, other: str) -> Why:
    old, new = _makers(previous, row)
    if new is None or old is None:
        which = name if new is None else other
        return Why(
            row,
            previous,
            f"{name} differs from {other}, but which run wrote {which} is not recorded: {_OUTSIDE}",
        )
    if new["id"] == old["id"]:
        return Why(row, previous, f"{name} and {other} were both written by the run {new['id']}")
    cause = _explain(label(row), old, new)
    roots = cause.roots
    if roots:
        first_ = " and ".join(str(each) for each in roots[:2])
        more = f", and {len(roots) - 2} more" if len(roots) > 2 else ""
        return Why(row, previous, f"{name} differs from {other}, because of {first_}{more}", cause)
    answer = (
        f"{name} differs from {other}, but nothing that is recorded of their runs does: either the "
        "code does not always give the same, or it depends on what is not recorded"
    )
    return Why(row, previous, answer, cause)


# of two runs that are compared, or of two contents whose runs are not known
_Pair = tuple[str, str]


def _explain(of: str, old: Row, new: Row) -> Cause:
    """Compare two runs, then those that made what differs: the nearest first, each pair once."""
    first_ = Cause(of)
    known: dict[_Pair, Cause] = {(old["id"], new["id"]): first_}
    left: deque[tuple[Cause, Row, Row]] = deque([(first_, old, new)])
    while left and len(known) < _MOST:
        cause, old, new = left.popleft()
        found = compare(old, new)
        cause.run, cause.changes, cause.unknown = name_of(new), found.changes, found.unknown
        for name, one, other in (*_inputs(old, new), *_values(old, new)):
            if one is None or other is None:
                cause.causes.append(Cause(name, unknown=[_without_run(one, other)]))
                continue
            if one["id"] == other["id"]:
                continue
            pair = one["id"], other["id"]
            if pair in known:
                cause.again.append(_named(known[pair], name))
                continue
            known[pair] = Cause(name)
            cause.causes.append(known[pair])
            left.append((known[pair], one, other))
    return first_


def _without_run(old: Row | None, new: Row | None) -> str:
    which = "either" if old is new else "the former" if old is None else "the new"
    return f"no run is recorded that wrote {which} content: {_OUTSIDE}"


def _named(cause: Cause, of: str) -> Cause:
    """One run writes many files: the cause of another of them is the same, by another name."""
    return cause if cause.of == of else Cause(of, cause.run, again=[cause])


def _inputs(old: Row, new: Row) -> Iterator[tuple[str, Row | None, Row | None]]:
    """The inputs whose content differs, with the runs that made the two."""
    before, after = files_of(old["id"], "input"), files_of(new["id"], "input")
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        if one["id"] != other["id"] and one["hash"] != other["hash"]:
            yield name, *_makers(one, other, until=other["linked_at"])


def _makers(
    old: Row, new: Row, *, until: dt.datetime | None = None
) -> tuple[Row | None, Row | None]:
    """Return the runs that wrote two contents: of one place, those next to the change.

    Args: until: when the new one was read; the change was before that.
    """
    place = old["storage_id"], old["key"]
    if old["key"] is None or place != (new["storage_id"], new["key"]):
        return maker(old), maker(new)
    before, after = _writes(old), _writes(new)
    if found := _at_change(before, after, until):
        return found
    if found := _at_change(after, before):  # what is back, but not by a run
        return found[::-1]
    return maker(old), maker(new)


def _at_change(
    before: list[Row], after: list[Row], until: dt.datetime | None = None
) -> tuple[Row, Row] | None:
    """Return the run that wrote the one content last, and of those that wrote the other since,
    the first or last: the one with fewer differences, for the others had no effect."""
    known = [each for each in after if until is None or each["created_at"] <= until] or after
    former = [each for each in before if known and each["created_at"] <= known[-1]["created_at"]]
    if not former:
        return None
    changed_at = former[-1]["created_at"]
    back_at = next((each["created_at"] for each in before[len(former) :]), None)
    since = [
        each
        for each in after
        if changed_at <= each["created_at"] and (back_at is None or each["created_at"] < back_at)
    ]
    old, first_, last = (_run(each["run_id"]) for each in (former[-1], since[0], since[-1]))
    if first_["id"] == last["id"]:
        return old, first_
    return old, min(first_, last, key=lambda new: len(compare(old, new).changes))


def _run(run_id: str) -> Row:
    return rows(select(schema.run).where(schema.run.c.id == run_id))[0]


def _values(old: Row, new: Row) -> Iterator[tuple[str, Row | None, Row | None]]:
    """The runs whose values were used, paired by name: a value itself is not recorded."""
    before, after = _sources(old), _sources(new)
    for name in sorted(before.keys() & after.keys()):
        yield f"the value of {name}", before[name], after[name]


def _sources(run: Row) -> dict[str, Row]:
    link, table = schema.run_run, schema.run
    query = (
        select(table)
        .join(link, link.c.other_id == table.c.id)
        .where(link.c.run_id == run["id"])
        .order_by(table.c.started_at)
    )
    return {name_of(row): row for row in rows(query)}


def previous_version(file: Row) -> Row | None:
    """Return the version that was written last at this key, before this one was: content that came
    back was written more than once."""
    if file["key"] is None:
        return None
    table, link = schema.file, schema.run_file
    written_at = func.coalesce(link.c.created_at, table.c.created_at)
    query = (
        select(table)
        .outerjoin(link, (link.c.file_id == table.c.id) & (link.c.role == "output"))
        .where(*_other_versions(file))
        .order_by(written_at.desc(), table.c.id)
        .limit(1)
    )
    if not file["is_latest"]:
        writes = _writes(file)
        query = query.where(
            written_at <= (writes[-1]["created_at"] if writes else file["created_at"])
        )
    return first(query)


def _writes(file: Row) -> list[Row]:
    """Return when which runs wrote a file's content: run_id, created_at, the first one first."""
    link = schema.run_file
    return rows(
        select(link.c.run_id, link.c.created_at)
        .where(link.c.file_id == file["id"], link.c.role == "output")
        .order_by(link.c.created_at, link.c.run_id)
    )


def _other_versions(file: Row) -> tuple[ColumnElement[bool], ...]:
    table = schema.file
    return (
        table.c.storage_id == file["storage_id"],
        table.c.key == file["key"],
        table.c.id != file["id"],
    )


def _alone(row: Row, name: str) -> str:
    if row["key"] is None:
        return (
            f"{name} has no key, so there are no versions of it: compare by why(file, than=other)"
        )
    if first(select(schema.file.c.id).where(*_other_versions(row)).limit(1)) is not None:
        return (
            f"{row['id']} is the oldest version of {name} that is recorded, so there is nothing "
            "that it differs from: compare by why(file, than=other)"
        )
    return f"{name} has one version only, so there is nothing that it differs from"


def _file_of(given: Any) -> Row:
    subject = subject_of(given)
    if subject.kind != "file":
        raise RecordError(f"{given!r} is no file: compare runs by ln.diff(run_a, run_b)")
    return subject.row


def _lines(cause: Cause, depth: int) -> list[str]:
    pad = "  " * depth
    by = f", by {display.printable(cause.run)}" if cause.run else ""
    lines = [f"{pad}{display.printable(cause.of)}{by}"]
    lines += [f"{pad}  {line}" for line in lines_of(cause.changes)]
    if not cause.changes and not (cause.causes or cause.again):
        # without runs nothing was compared
        compared = ["nothing that is recorded differs"] if cause.run else []
        lines += [f"{pad}  {line}" for line in [*compared, *cause.unknown]]
    for inner in cause.causes:
        lines += _lines(inner, depth + 1)
    lines += [f"{pad}  {display.printable(each.of)}: as said elsewhere" for each in cause.again]
    return lines
