"""The rows that a batch of file events concerns, changed in memory and written at once."""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, desc, func, insert, or_, select, update

from lamindb.db import schema
from lamindb.db.database import chunked
from lamindb.identifiers import FILE_ID_LENGTH, random_id
from lamindb.recording.looks import Look
from lamindb.recording.nesting import owned_inside, runs_around

logger = logging.getLogger("lamindb")

file, link, run = schema.file, schema.run_file, schema.run

_FILE_COLUMNS = (
    "run_id",
    "transform_id",
    "transform_version",
    "is_latest",
    "created_at",
    "updated_at",
)
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)
_LINK_COLUMNS = ("how", "matched_by", "created_at")
_LINK_KEY = ("run_id", "file_id", "role")

Row = dict[str, Any]


class FileState:
    """What is known of the places and runs of some looks; apply them in the order of their times.

    Every look is an upsert: in whatever order they come, and however often, the rows become the
    same. The latest version of a key is the one whose content was last seen there, by the times of
    the events.
    """

    def __init__(
        self,
        connection: Connection,
        user_id: str,
        storages: dict[str, str],
        looks: Sequence[Look],
    ) -> None:
        """Args: storages: root → id of those that the looks' places are in."""
        self._connection = connection
        self._user_id = user_id
        self._storages = storages
        self._by_place: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._by_source: dict[str, list[Row]] = defaultdict(list)
        self._files: dict[str, Row] = {}
        self._links: dict[tuple[str, str, str], Row] = {}
        self._runs: dict[str, Row] = {}
        self._new_files: list[Row] = []
        self._changed_files: set[str] = set()
        self._changed_links: set[tuple[str, str, str]] = set()
        self._gone_links: set[tuple[str, str, str]] = set()
        # by run: those around it; and what runs inside it have done
        self._outer: dict[str, set[str]] = {}
        self._inner: set[tuple[str, str, str]] = set()
        self._load(looks)

    # --- one look ---------------------------------------------------------------------------------

    def write(self, look: Look) -> str | None:
        """A run has left these bytes; returns the file's id, None if a better record is there."""
        event, place = look.event, self._place(look)
        if getattr(event, "reused", False) and not self._is_as_recorded(look, place):
            return None
        role = "retracted" if self._was_retracted(look) else "output"
        if look.hash is None:
            found = self._unhashed_output(look, place)
            if found is None:
                return None
        else:
            known = self._same_content(look, place) or self._added_by_code(look)
            if known is not None and self._is_inner(look, known, "output"):
                return None
            found = known or self._insert(look, place, event.run)
            self._see(found, place, event.at)
            if found["updated_at"] < event.at:
                self._change(found, updated_at=event.at)
        self._link(event.run, found["id"], role, event.how, "path", event.at)
        read = (event.run, found["id"], "input")
        # what it has written itself is not its input when it looks at it again
        own = self._links.get(read)
        if own is not None and own["created_at"] >= event.at:
            del self._links[read]
            if not own.get("is_new"):
                self._gone_links.add(read)
        self._take_from_outer(found, event.run, ("input", "output"))
        self._name_first_producer(found, event.run, event.at)
        return str(found["id"])

    def read(self, look: Look) -> str | None:
        """A run has read these bytes; returns the file's id, None if it had written them itself."""
        event, place = look.event, self._place(look)
        known, matched_by = self._known_input(look, place)
        found = known or self._insert(look, place, None)
        if matched_by == "path" and look.hash is not None:
            self._see(found, place, event.at)
        own = self._links.get((event.run, found["id"], "output"))
        if own is not None and own["created_at"] <= event.at:
            return None
        if self._is_inner(look, found, "input", "output"):
            return None
        self._link(event.run, found["id"], "input", event.how, matched_by, event.at)
        self._take_from_outer(found, event.run, ("input",))
        return str(found["id"])

    def _place(self, look: Look) -> tuple[str, str]:
        return self._storages[look.place.root], look.place.key

    def _is_as_recorded(self, look: Look, place: tuple[str, str]) -> bool:
        """Whether the file of a reused result is what its run had left; says so if it is not."""
        if look.hash is not None and self._same_content(look, place) is not None:
            return True
        if self._by_place[place]:
            logger.warning(
                "%s has changed or is gone since a run made it: run %s, which reuses its result, "
                "is not linked to it",
                look.event.uri,
                look.event.run,
            )
        return False

    def _same_content(self, look: Look, place: tuple[str, str]) -> Row | None:
        return next((row for row in self._by_place[place] if row["hash"] == look.hash), None)

    def _added_by_code(self, look: Look) -> Row | None:
        """The record that the run's code has itself made of these bytes at this path."""
        for row in self._by_source[look.place.uri]:
            if row["hash"] == look.hash and (look.event.run, row["id"], "output") in self._links:
                return row
        return None

    def _unhashed_output(self, look: Look, place: tuple[str, str]) -> Row | None:
        """The record of an output whose bytes are no more; None if the run has a better one."""
        own = [
            row
            for row in self._by_place[place]
            for role in ("output", "retracted")
            if (look.event.run, row["id"], role) in self._links
        ]
        if any(row["hash"] is not None for row in own):
            return None
        return own[0] if own else self._insert(look, place, look.event.run)

    def _known_input(self, look: Look, place: tuple[str, str]) -> tuple[Row | None, str]:
        """The record of what was read, and by what it is known: its path, the path it was added
        from, or its content alone."""
        if look.hash is None:
            # never a successor: its run may even have read what this one wrote
            rows = [
                row
                for row in self._by_place[place]
                if row["created_at"] <= look.event.at
                and (look.size is None or row["size"] is None or row["size"] == look.size)
            ]
            newest = max(rows, key=lambda row: (row["is_latest"], row["created_at"]), default=None)
            return newest, "path"
        known = self._same_content(look, place)
        if known is not None:
            return known, "path"
        from_here = [row for row in self._by_source[look.place.uri] if row["hash"] == look.hash]
        if from_here:
            return max(from_here, key=lambda row: row["created_at"]), "source"
        made = self._made_elsewhere(look) if look.size else None
        return made, "path" if made is None else "content"

    def _made_elsewhere(self, look: Look) -> Row | None:
        """The record of the same bytes that another run made: of the same name, else the newest.

        All empty files are alike. A copy that the run itself makes of what it reads is not what it
        read. Where one of the same name is known that nobody made, no other is meant.
        """
        run_id, name = look.event.run, look.place.name
        candidates = [
            row
            for row in self._new_files
            if row["hash"] == look.hash
            and (row["run_id"] is not None or row["name"] == name)
            and (run_id, row["id"], "output") not in self._links
        ]
        own = select(link.c.file_id).where(link.c.run_id == run_id, link.c.role == "output")
        is_made, is_namesake = file.c.run_id.is_not(None), file.c.name == name
        stored = (
            self._connection.execute(
                select(file)
                .where(file.c.hash == look.hash, or_(is_made, is_namesake), file.c.id.not_in(own))
                .order_by(desc(is_namesake), desc(is_made), desc(file.c.created_at))
                .limit(1)
            )
            .mappings()
            .one_or_none()
        )
        if stored is not None:
            candidates.append(self._files.get(stored["id"]) or {**stored, "made_at": None})
        if not candidates:
            return None
        best = max(
            candidates,
            key=lambda row: (row["name"] == name, row["run_id"] is not None, row["created_at"]),
        )
        if best["run_id"] is None:
            return None
        if best["id"] not in self._files:
            self._remember(best)
            self._load_links([run_id], [best["id"]])
        return best

    def _was_retracted(self, look: Look) -> bool:
        details = self._runs[look.event.run]["details"] or {}
        said = (details.get("lamindb") or {}).get("retracted", {}).get(look.event.uri)
        return bool(said) and said["at"] >= look.event.at.isoformat()

    # --- rows in memory ---------------------------------------------------------------------------

    def _insert(self, look: Look, place: tuple[str, str], run_id: str | None) -> Row:
        event = look.event
        is_latest = self._retire_latest(place, event.at)
        made_by = self._runs[run_id] if run_id is not None else {}
        row = {
            "id": random_id(FILE_ID_LENGTH),
            "name": look.place.name,
            "suffix": look.suffix,
            "size": look.size,
            "hash": look.hash,
            "hash_type": look.hash_type,
            "hash_note": look.note,
            "key": place[1],
            "run_id": run_id,
            "transform_id": made_by.get("transform_id"),
            "transform_version": made_by.get("transform_version"),
            "storage_id": place[0],
            "source_uri": look.place.uri,
            "is_latest": is_latest,
            "description": getattr(event, "description", None),
            "created_at": event.at,
            "updated_at": event.at,
            "created_by_id": self._user_id,
        }
        self._new_files.append(row)
        return self._remember(row)

    def _latest(self, place: tuple[str, str]) -> Row | None:
        return next((row for row in self._by_place[place] if row["is_latest"]), None)

    def _see(self, row: Row, place: tuple[str, str], at: dt.datetime) -> None:
        """This content was at its place at this time: if nothing newer is known, it is the latest
        (again)."""
        if (row["storage_id"], row["key"]) != place:
            return
        if at < row["created_at"]:
            self._change(row, created_at=at)
        if not row["is_latest"] and self._retire_latest(place, at):
            self._change(row, is_latest=True, updated_at=at)

    def _retire_latest(self, place: tuple[str, str], at: dt.datetime) -> bool:
        """Make way for content of this time; False if newer content is known."""
        latest = next((row for row in self._by_place[place] if row["is_latest"]), None)
        if latest is None:
            return True
        if latest["updated_at"] > at or self._last_touched(latest) > at:
            return False
        self._change(latest, is_latest=False)
        return True

    def _last_touched(self, row: Row) -> dt.datetime:
        """When some run last read or wrote it, as far as is known."""
        found = self._connection.execute(
            select(func.max(link.c.created_at)).where(link.c.file_id == row["id"])
        ).scalar()
        times = [each["created_at"] for key, each in self._links.items() if key[1] == row["id"]]
        return max((each for each in (found, *times) if each is not None), default=_NEVER)

    def _is_inner(self, look: Look, row: Row, *roles: str) -> bool:
        """Whether a run inside this one has done what was merely observed here."""
        return look.event.how == "observed" and any(
            (look.event.run, row["id"], role) in self._inner for role in roles
        )

    def _take_from_outer(self, row: Row, run_id: str, roles: tuple[str, ...]) -> None:
        """What was observed of the runs around this one was its own doing."""
        for outer in self._outer.get(run_id, ()):
            for role in roles:
                key = (outer, row["id"], role)
                held = self._links.get(key)
                if held is None or held["how"] != "observed":
                    continue
                del self._links[key]
                if not held.get("is_new"):
                    self._gone_links.add(key)
                if role == "output" and row["run_id"] == outer:
                    row["made_at"] = None
                    self._change(row, run_id=None)
            self._inner |= {(outer, row["id"], role) for role in roles}

    def _name_first_producer(self, row: Row, run_id: str, at: dt.datetime) -> None:
        """A record names the run that wrote it first, whichever event came first."""
        made_at = row.get("made_at")
        if row["run_id"] is not None and row["run_id"] != run_id:
            if made_at is None:
                made_at = row["created_at"]
            if (made_at, row["run_id"]) <= (at, run_id):
                return
        row["made_at"] = at if made_at is None else min(at, made_at)
        made_by = self._runs[run_id]
        self._change(
            row,
            run_id=run_id,
            transform_id=made_by["transform_id"],
            transform_version=made_by["transform_version"],
        )

    def _change(self, row: Row, **values: Any) -> None:
        if any(row[name] != value for name, value in values.items()):
            row.update(values)
            self._changed_files.add(row["id"])

    def _link(
        self, run_id: str, file_id: str, role: str, how: str, matched_by: str, at: dt.datetime
    ) -> None:
        """Link a run and a file: since the earliest time, and as declared if it ever was."""
        key = (run_id, file_id, role)
        known = self._links.get(key)
        values: Row = {"how": how, "matched_by": matched_by, "created_at": at}
        if known is not None:
            values = {
                "how": "declared" if "declared" in (how, known["how"]) else how,
                "matched_by": "path" if matched_by == "path" else known["matched_by"],
                "created_at": min(at, known["created_at"]),
            }
            if all(known[name] == value for name, value in values.items()):
                return
        is_new = key not in self._gone_links if known is None else known.get("is_new", False)
        self._links[key] = {**dict(zip(_LINK_KEY, key, strict=True)), **values, "is_new": is_new}
        self._gone_links.discard(key)
        self._changed_links.add(key)

    # --- the database -----------------------------------------------------------------------------

    def _load(self, looks: Sequence[Look]) -> None:
        runs = sorted({look.event.run for look in looks})
        made = link.alias("made")
        query = select(file, made.c.created_at.label("made_at")).outerjoin(
            made,
            and_(
                made.c.file_id == file.c.id,
                made.c.run_id == file.c.run_id,
                made.c.role == "output",
            ),
        )
        for places in chunked({(look.place.key, look.place.uri) for look in looks}):
            keys, uris = zip(*places, strict=True)
            here = or_(file.c.key.in_(keys), file.c.source_uri.in_(uris))
            for found in self._connection.execute(query.where(here)).mappings():
                if found["id"] not in self._files:
                    self._remember(dict(found))
        columns = (
            run.c.id,
            run.c.parent_id,
            run.c.transform_id,
            run.c.transform_version,
            run.c.details,
        )
        for chunk in chunked(runs):
            for found in self._connection.execute(
                select(*columns).where(run.c.id.in_(chunk))
            ).mappings():
                self._runs[found["id"]] = dict(found)
        files = sorted(self._files)
        within = [each for each in runs if self._runs[each]["parent_id"] is not None]
        self._outer = runs_around(self._connection, within)
        self._inner = owned_inside(self._connection, runs, files)
        around = {outer for each in self._outer.values() for outer in each}
        self._load_links(sorted({*runs, *around}), files)

    def _load_links(self, runs: Sequence[str], files: Sequence[str]) -> None:
        for some_runs in chunked(runs):
            for some_files in chunked(files):
                for found in self._connection.execute(
                    select(link).where(link.c.run_id.in_(some_runs), link.c.file_id.in_(some_files))
                ).mappings():
                    row = dict(found)
                    self._links[row["run_id"], row["file_id"], row["role"]] = row

    def _remember(self, row: Row) -> Row:
        self._files[row["id"]] = row
        if row["key"] is not None:
            self._by_place[row["storage_id"], row["key"]].append(row)
        if row["source_uri"] is not None:
            self._by_source[row["source_uri"]].append(row)
        return row

    def flush(self) -> None:
        """Write what has changed."""
        execute = self._connection.execute
        new = {row["id"] for row in self._new_files}
        changed = [self._files[file_id] for file_id in sorted(self._changed_files - new)]
        # a key has one latest version at any instant: those that no longer are it go first
        for is_latest in (False, True):
            rows = [row for row in changed if row["is_latest"] == is_latest]
            if rows:
                execute(
                    update(file)
                    .where(file.c.id == bindparam("the_id"))
                    .values({name: bindparam(f"new_{name}") for name in _FILE_COLUMNS}),
                    [
                        {f"new_{name}": row[name] for name in _FILE_COLUMNS} | {"the_id": row["id"]}
                        for row in rows
                    ],
                )
        if self._new_files:
            names = [column.name for column in file.columns]
            execute(insert(file), [{name: row[name] for name in names} for row in self._new_files])
        same_link = and_(*(link.c[name] == bindparam(f"the_{name}") for name in _LINK_KEY))
        if gone := [
            {f"the_{name}": part for name, part in zip(_LINK_KEY, key, strict=True)}
            for key in sorted(self._gone_links)
        ]:
            execute(delete(link).where(same_link), gone)
        links = [self._links[key] for key in sorted(self._changed_links) if key in self._links]
        if fresh := [row for row in links if row["is_new"]]:
            names = [*_LINK_KEY, *_LINK_COLUMNS]
            execute(insert(link), [{name: row[name] for name in names} for row in fresh])
        if known := [row for row in links if not row.get("is_new")]:
            execute(
                update(link)
                .where(same_link)
                .values({name: bindparam(f"new_{name}") for name in _LINK_COLUMNS}),
                [
                    {f"the_{name}": row[name] for name in _LINK_KEY}
                    | {f"new_{name}": row[name] for name in _LINK_COLUMNS}
                    for row in known
                ],
            )
