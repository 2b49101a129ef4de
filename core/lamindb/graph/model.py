"""Rows of runs and files, and what ties them together."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Direction = Literal["upstream", "downstream", "both"]
Kind = Literal["file", "run"]
Row = dict[str, Any]

_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True)
class Subject:
    """The file or run whose lineage is asked for, with its row."""

    kind: Kind
    row: Row

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def node(self) -> Node:
        return (self.kind, self.id)


# a node of the graph: its kind, and the id of its row
Node = tuple[Kind, str]


@dataclass(frozen=True)
class Link:
    """A run read (``input``) or wrote (``output``) a file, or took it back (``retracted``).

    Attributes: how: declared or observed; matched_by: path, source or content.
    """

    run_id: str
    file_id: str
    role: str
    how: str
    matched_by: str
    created_at: dt.datetime


@dataclass(frozen=True)
class RunLink:
    """A run took the result of another (``cached_from``), or a value (``informed_by``)."""

    run_id: str
    other_id: str
    role: str


@dataclass(frozen=True)
class Graph:
    """Rows by id, as dicts in column order, and the links between them.

    Attributes:
        subject: where the walk began; starts: the runs of a subject that is a run: itself, and
            the runs that it started.
        parents: rows of the runs that started those in ``runs``, where they are none of them.
        is_cut: whether more runs are recorded than were asked for.
    """

    subject: Subject
    files: dict[str, Row]
    runs: dict[str, Row]
    transforms: dict[tuple[str, str], Row]
    links: list[Link]
    run_links: list[RunLink] = field(default_factory=list)
    starts: frozenset[str] = frozenset()
    parents: dict[str, Row] = field(default_factory=dict)
    is_cut: bool = False

    # --- neighbours, in the order in which people want to see them ----------------------------

    def producers(self, file_id: str) -> list[str]:
        """The runs that wrote a file: the one its record names first, then by start."""
        return self._producers.get(file_id, [])

    def readers(self, file_id: str) -> list[str]:
        """The runs that read a file, by start."""
        return self._readers.get(file_id, [])

    def inputs(self, run_id: str) -> list[str]:
        """The files that a run read, by key or name."""
        return self._inputs.get(run_id, [])

    def outputs(self, run_id: str) -> list[str]:
        """The files that a run wrote, by key or name."""
        return self._outputs.get(run_id, [])

    def sources(self, run_id: str) -> list[RunLink]:
        """The runs of which a run took a result or a value."""
        return self._sources.get(run_id, [])

    def followers(self, run_id: str) -> list[RunLink]:
        """The runs that took a result or a value of this one."""
        return self._followers.get(run_id, [])

    def before(self, node: Node) -> list[Node]:
        """What a file or run comes from, one edge back."""
        kind, name = node
        if kind == "file":
            return [("run", run_id) for run_id in self.producers(name)]
        return [
            *(("file", file_id) for file_id in self.inputs(name)),
            *(("run", link.other_id) for link in self.sources(name)),
        ]

    def after(self, node: Node) -> list[Node]:
        """What came of a file or run, one edge on."""
        kind, name = node
        if kind == "file":
            return [("run", run_id) for run_id in self.readers(name)]
        return [
            *(("file", file_id) for file_id in self.outputs(name)),
            *(("run", link.run_id) for link in self.followers(name)),
        ]

    def distances(self, direction: Literal["upstream", "downstream"]) -> dict[Node, int]:
        """Return how many runs lie between the subject and each node in one direction.

        A run's files are as far as the run: the file itself is at 0, the run that wrote it at 1,
        what that read at 1 too. A subject that is a run is at 0 with its files.
        """
        step = self.before if direction == "upstream" else self.after
        found: dict[Node, int] = {self.subject.node: 0}
        found |= {("run", run_id): 0 for run_id in self.starts}
        left = deque(found)
        while left:
            node = left.popleft()
            for other in step(node):
                if other not in found:
                    found[other] = found[node] + (other[0] == "run")
                    left.append(other)
        return found

    def runs_beyond(
        self, file_id: str, step: Callable[[Graph, Node], list[Node]] | None = None
    ) -> set[str]:
        """The runs in a file's past, its own among them; or in its future, with ``Graph.after``."""
        follow = step or Graph.before
        seen: set[Node] = {("file", file_id)}
        left: list[Node] = [("file", file_id)]
        while left:
            for node in follow(self, left.pop()):
                if node not in seen:
                    seen.add(node)
                    left.append(node)
        return {name for kind, name in seen if kind == "run"}

    def by_start(self, runs: Iterable[str]) -> list[str]:
        """Return runs in the order in which they began."""
        return sorted(runs, key=self._by)

    # --- words ------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What a person calls the subject."""
        if self.subject.kind == "file":
            return label(self.subject.row)
        return self.name_of(self.subject.id)

    def name_of(self, run_id: str) -> str:
        """What a person calls a run: its transform's name, else its own, else its id."""
        run = self.runs.get(run_id) or self.parents[run_id]
        made = self.transform_of(run_id)
        return str((made["name"] if made else None) or run["name"] or run_id)

    def transform_of(self, run_id: str) -> Row | None:
        run = self.runs.get(run_id) or self.parents[run_id]
        return self.transforms.get((run["transform_id"], run["transform_version"]))

    # --- indexes ----------------------------------------------------------------------------------

    @cached_property
    def _producers(self) -> dict[str, list[str]]:
        return {
            file_id: sorted(
                writers,
                key=lambda run_id: (run_id != self.files[file_id]["run_id"], *self._by(run_id)),
            )
            for file_id, writers in self._linked("output", "file_id", "run_id").items()
        }

    @cached_property
    def _readers(self) -> dict[str, list[str]]:
        found = self._linked("input", "file_id", "run_id")
        return {file_id: sorted(runs, key=self._by) for file_id, runs in found.items()}

    @cached_property
    def _inputs(self) -> dict[str, list[str]]:
        return self._files_of("input")

    @cached_property
    def _outputs(self) -> dict[str, list[str]]:
        return self._files_of("output")

    @cached_property
    def _sources(self) -> dict[str, list[RunLink]]:
        found = defaultdict(list)
        for link in self.run_links:
            if link.other_id in self.runs:
                found[link.run_id].append(link)
        return {
            name: sorted(links, key=lambda link: self._by(link.other_id))
            for name, links in found.items()
        }

    @cached_property
    def _followers(self) -> dict[str, list[RunLink]]:
        found = defaultdict(list)
        for link in self.run_links:
            if link.run_id in self.runs:
                found[link.other_id].append(link)
        return {
            name: sorted(links, key=lambda link: self._by(link.run_id))
            for name, links in found.items()
        }

    def _files_of(self, role: str) -> dict[str, list[str]]:
        return {
            run_id: sorted(files, key=lambda file_id: (label(self.files[file_id]), file_id))
            for run_id, files in self._linked(role, "run_id", "file_id").items()
        }

    def _by(self, run_id: str) -> tuple[bool, dt.datetime, str]:
        started = self.runs[run_id]["started_at"]  # None while only the end is known
        return started is None, started or _EARLIEST, run_id

    def _linked(self, role: str, one: str, other: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for link in self.links:
            if link.role == role:
                found[getattr(link, one)].add(getattr(link, other))
        return found


def label(file: Row) -> str:
    """What a person calls a file: its key, else its name."""
    return str(file["key"] or file["name"])
