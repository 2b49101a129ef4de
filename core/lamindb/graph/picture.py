"""What the page draws: nodes with their details as plain JSON, so that it only places them.

Texts are on one line and free of control characters; the page sets them as text, never as HTML.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from lamindb import display, instance
from lamindb._version import __version__
from lamindb.db import schema
from lamindb.graph.folding import Group, fold, levels
from lamindb.graph.model import Graph, Node, Row, Subject, label
from lamindb.graph.objects import Object, Objects
from lamindb.graph.walking import load, rows_in, totals

MOST_NODES = 3_000
_MOST_RUNS = 2_000
_MOST_MEMBERS = 200
_LONGEST = 2_000
_LOST = {
    "gone": "is gone from where it was",
    "changed since": "has other bytes than were recorded: it was changed since",
}

# a detail: name, value, and how to show it (text, code, time, link or map)
Detail = list[Any]


def picture(subject: Subject, depth: int | None = None) -> dict[str, Any]:
    """Return what is drawn of the lineage of a file or run.

    Args: depth: runs to walk in each direction; None is as many as there is room for.
    """
    graph = load(subject, "both", depth, _MOST_RUNS)
    return _Picture(graph).as_json()


class _Picture:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._levels = levels(graph)
        self._groups = fold(graph)
        self._of_files, self._of_runs = totals(graph)
        self._attempts = _attempts(graph.runs)
        self._pythons = _pythons(graph.runs)
        self._handles = _handles()
        self._objects = Objects()

    def as_json(self) -> dict[str, Any]:
        graph, here = self._graph, instance.current()
        kept = self._kept()
        names = {name for _, name in kept}
        groups = {
            self._groups[node].id: self._groups[node] for node in kept if node in self._groups
        }
        boxes = self._boxes(kept)
        absent = self._absent(kept, groups)
        return {
            "focus": graph.subject.id,
            "starts": sorted(graph.starts & names),
            "title": display.printable(graph.title),
            "instance": here.name,
            "made_at": schema.now().isoformat(),
            "version": __version__,
            "nodes": [self._node(node, boxes) | {"absent": absent.get(node, {})} for node in kept],
            "edges": [edge for edge in self._edges() if edge[0] in names and edge[1] in names],
            "groups": {
                name: {
                    "label": display.printable(group.label),
                    "count": len(group.members),
                    "statuses": self._statuses(group),
                }
                for name, group in groups.items()
            },
            "boxes": boxes,
            "total": len(graph.files) + len(graph.runs),
            "is_cut": graph.is_cut,
        }

    def _kept(self) -> list[Node]:
        """Return the nodes that there is room for: of a group the first ones, the nearest first.

        Those of the next group that lead to them are its first, so that ways stay whole.
        """
        graph = self._graph
        by_label = sorted(graph.files, key=lambda each: (label(graph.files[each]), each))
        nodes: list[Node] = [("run", each) for each in graph.by_start(graph.runs)]
        nodes += [("file", each) for each in by_label]
        # a run's files are as far as it is, and come after it
        nodes.sort(key=lambda node: abs(self._levels.get(node, 0)))
        members: dict[str, list[Node]] = defaultdict(list)
        for node in nodes:
            members[self._groups[node].id if node in self._groups else node[1]].append(node)
        kept: dict[Node, None] = {graph.subject.node: None}
        for alike in members.values():
            if len(alike) > _MOST_MEMBERS:
                alike.sort(key=lambda node: not self._leads_to(node, kept))
            kept |= dict.fromkeys(alike[:_MOST_MEMBERS])
        return list(kept)[:MOST_NODES]

    def _absent(self, kept: list[Node], groups: dict[str, Group]) -> dict[Node, dict[str, Any]]:
        """Return of nodes how many neighbours have no room, though others of their group have it.

        By ``up`` and ``down``, as a list of group and number: where the group is drawn, they are
        counted with it.
        """
        shown = set(kept)
        found: dict[Node, dict[str, Any]] = {}
        for node in kept:
            for way, nexts in (("up", self._graph.before(node)), ("down", self._graph.after(node))):
                lacking = Counter(
                    self._groups[each].id
                    for each in nexts
                    if each[0] != node[0] and each not in shown and each in self._groups
                )
                if known := [[name, lacking[name]] for name in lacking if name in groups]:
                    found.setdefault(node, {})[way] = known
        return found

    def _statuses(self, group: Group) -> list[list[Any]]:
        if group.kind == "file":
            return []
        counts = Counter(self._graph.runs[each]["status"] for each in group.members)
        return [[status, count] for status, count in counts.items()]

    def _leads_to(self, node: Node, kept: dict[Node, None]) -> bool:
        is_downstream = self._levels.get(node, 0) > 0
        nexts = self._graph.before(node) if is_downstream else self._graph.after(node)
        return any(each in kept for each in nexts)

    def _node(self, node: Node, boxes: dict[str, Any]) -> dict[str, Any]:
        kind, name = node
        group = self._groups.get(node)
        box = self._box_of(node)
        drawn = {
            "id": name,
            "kind": kind,
            "level": self._levels.get(node, 0),
            "group": group.id if group else None,
            "box": box if box in boxes else None,
        }
        return drawn | (self._file(name) if kind == "file" else self._run(name))

    # --- boxes: what one run started --------------------------------------------------------------

    def _box_of(self, node: Node) -> str | None:
        kind, name = node
        if kind == "run":
            parent: str | None = self._graph.runs[name]["parent_id"]
            return parent
        makers = self._parents(self._graph.producers(name))
        users = self._parents(self._graph.readers(name))
        # what goes no farther than the runs of one box is in it
        return next(iter(makers)) if len(makers) == 1 and users <= makers else None

    def _parents(self, runs: Iterable[str]) -> set[str | None]:
        return {self._graph.runs[each]["parent_id"] for each in runs}

    def _boxes(self, kept: list[Node]) -> dict[str, Any]:
        graph = self._graph
        known = graph.runs | graph.parents
        boxes: dict[str, Any] = {}
        left = {graph.runs[name]["parent_id"] for kind, name in kept if kind == "run"}
        while left:
            name = left.pop()
            if name in known and name not in boxes:
                row = known[name]
                boxes[name] = {
                    "label": display.printable(graph.name_of(name)),
                    "engine": row["engine"],
                    "status": row["status"],
                    "box": row["parent_id"] if row["parent_id"] in known else None,
                    "details": self._run_details(row),
                }
                left.add(row["parent_id"])
        return boxes

    def _edges(self) -> list[list[str]]:
        found = []
        for link in self._graph.links:
            ends = [link.file_id, link.run_id]
            if link.role != "input":
                ends.reverse()
            found.append([*ends, link.role, link.how])
        found += [[each.other_id, each.run_id, each.role, ""] for each in self._graph.run_links]
        return found

    # --- files ------------------------------------------------------------------------------------

    def _file(self, name: str) -> dict[str, Any]:
        row = self._graph.files[name]
        up, down = self._of_files.get(name, (0, 0))
        found = self._objects.of(row)
        notes = ["" if row["is_latest"] else "older version", found.state]
        return {
            "label": display.printable(label(row)),
            "note": ", ".join(filter(None, notes)),
            "size": display.size(row["size"]),
            "up": up,
            "down": down,
            "details": self._file_details(row, found),
        }

    def _file_details(self, row: Row, found: Object) -> list[Detail]:
        version = "the latest" if row["is_latest"] else "an older one: there is newer content"
        hashed = f"{row['hash']} ({row['hash_type']})" if row["hash"] else row["hash_note"]
        return _details(
            ("key", row["key"], "text"),
            ("name", row["name"] if row["name"] != _last(row["key"]) else None, "text"),
            ("description", row["description"], "text"),
            ("size", _bytes(row["size"]), "text"),
            ("hash", hashed, "code"),
            ("version", version if row["key"] else None, "text"),
            ("object", _LOST.get(found.state), "text"),
            ("path", found.path, "code"),
            ("source", row["source_uri"] if row["source_uri"] != found.path else None, "code"),
            ("recorded", row["created_at"], "time"),
            ("by", self._handles.get(row["created_by_id"]), "text"),
            ("id", row["id"], "code"),
        )

    # --- runs -------------------------------------------------------------------------------------

    def _run(self, name: str) -> dict[str, Any]:
        row = self._graph.runs[name]
        up, down = self._of_runs.get(name, (0, 0))
        made = self._graph.transform_of(name)
        version = f"v{made['version']}" if made and made["version"] != "0" else ""
        return {
            "label": display.printable(self._graph.name_of(name)),
            "note": version,
            "engine": row["engine"],
            "status": row["status"],
            "took": display.duration(row["started_at"], row["finished_at"]),
            "up": up,
            "down": down,
            "details": self._run_details(row),
        }

    def _run_details(self, row: Row) -> list[Detail]:
        made = self._graph.transforms.get((row["transform_id"], row["transform_version"])) or {}
        attempts = self._attempts.get(row["id"], 1)
        parent = row["parent_id"]
        known = self._graph.runs | self._graph.parents if parent else {}
        reads, writes = self._of_runs.get(row["id"], (0, 0))
        title = f"{made['name']} ({made['type']}, version {made['version']})" if made else None
        return _details(
            ("status", row["status"], "status"),
            ("error", row["error"], "text"),
            ("params", row["params"], "map"),
            ("transform", title, "text"),
            ("name", row["name"] if row["name"] != made.get("name") else None, "text"),
            ("code", made.get("key"), "code"),
            ("code hash", made.get("source_hash"), "code"),
            ("source", made.get("reference"), "link"),
            ("engine", row["engine"], "text"),
            ("reference", row["reference"], "link"),
            ("engine's page", _url(row["details"] or {}), "link"),
            ("started", row["started_at"], "time"),
            ("ended", row["finished_at"], "time"),
            ("took", display.duration(row["started_at"], row["finished_at"]), "text"),
            ("attempts", attempts if attempts > 1 else None, "text"),
            ("read", display.counted(reads, "file") if reads else None, "text"),
            ("wrote", display.counted(writes, "file") if writes else None, "text"),
            ("started by", self._graph.name_of(parent) if parent in known else None, "text"),
            ("environment", self._pythons.get(row["environment_id"]), "text"),
            ("process", f"{row['pid']} on {row['host']}" if row["pid"] else None, "text"),
            ("by", self._handles.get(row["created_by_id"]), "text"),
            ("more", _flat(row["details"] or {}), "map"),
            ("id", row["id"], "code"),
        )


def _details(*details: tuple[str, Any, str]) -> list[Detail]:
    """Return what is known, as texts and maps of texts."""
    found: list[Detail] = []
    for name, value, how in details:
        if value is None or value == "" or value == {}:
            continue
        if isinstance(value, dt.datetime):
            value = value.isoformat()
        elif how == "map":
            value = [[display.printable(each), _text(value[each])] for each in value]
        else:
            value = _text(value)
        found.append([name, value, how])
    return found


def _text(value: Any) -> str:
    text = display.printable(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _flat(details: dict[str, Any]) -> dict[str, Any]:
    """Return what plugins know of a run as one level: ``snakemake.threads``."""
    flat: dict[str, Any] = {}
    for plugin, facts in details.items():
        if isinstance(facts, dict):
            flat |= {f"{plugin}.{name}": value for name, value in facts.items()}
        else:
            flat[plugin] = facts
    return {name: value for name, value in flat.items() if value not in (None, "", [], {})}


def _url(details: dict[str, Any]) -> str | None:
    facts = (each for each in details.values() if isinstance(each, dict))
    return next((str(each["url"]) for each in facts if each.get("url")), None)


def _bytes(size: int | None) -> str | None:
    if size is None:
        return None
    return display.size(size) if size < 1000 else f"{display.size(size)} ({size:,} bytes)"


def _last(key: str | None) -> str | None:
    return key.rsplit("/", 1)[-1] if key else None


def _handles() -> dict[str, str]:
    with instance.reading().database.read() as connection:
        return {
            row.id: row.handle
            for row in connection.execute(select(schema.user.c.id, schema.user.c.handle))
        }


def _pythons(runs: dict[str, Row]) -> dict[str, str]:
    """Return the Python and number of packages of each environment, by id."""
    wanted = sorted({row["environment_id"] for row in runs.values()} - {None})
    with instance.reading().database.read() as connection:
        return {
            row.id: f"{row.python}, {display.counted(len(row.packages), 'package')}"
            for row in rows_in(connection, schema.environment, "id", wanted)
            if row.python
        }


def _attempts(runs: dict[str, Row]) -> dict[str, int]:
    """Return the number of attempts of each run."""
    found: dict[str, int] = {}
    with instance.reading().database.read() as connection:
        for row in rows_in(connection, schema.attempt, "run_id", sorted(runs)):
            found[row.run_id] = max(found.get(row.run_id, 1), row.number)
    return found
