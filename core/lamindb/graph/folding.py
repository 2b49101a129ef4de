"""What is of a kind as one: mapped tasks, jobs of a rule, the files that they read and wrote."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from lamindb.graph.model import Graph, Kind, Node, label

LEAST = 4
_LONGEST_AFFIX = 60


@dataclass(frozen=True)
class Group:
    """Nodes that are drawn as one.

    Attributes: id: unique in its graph; label: what its members are called, with ``*`` where they
        differ.
    """

    id: str
    kind: Kind
    label: str
    members: list[str] = field(default_factory=list)


def levels(graph: Graph) -> dict[Node, int]:
    """Return how many runs lie between the subject and each node; negative is upstream."""
    back, forth = graph.distances("upstream"), graph.distances("downstream")
    found = {node: -distance for node, distance in back.items()}
    for node, distance in forth.items():
        if node not in found or distance < -found[node]:
            found[node] = distance
    return found


def fold(graph: Graph, least: int = LEAST) -> dict[Node, Group]:
    """Return the group of each node that has one.

    Runs go together that are as far from the subject, of one transform and of one parent; files,
    that come from and go into the same runs or groups and have the same suffix. So no group is
    on the way from itself to itself, unless its members are.
    """
    level = levels(graph)
    groups: dict[Node, Group] = {}
    by_kind: dict[Any, list[str]] = defaultdict(list)
    for run_id, row in graph.runs.items():
        if ("run", run_id) != graph.subject.node:
            what = row["transform_id"] or row["name"]
            key = level.get(("run", run_id)), what, row["parent_id"], row["engine"]
            by_kind[key].append(run_id)
    for members in by_kind.values():
        _add(groups, "run", graph.name_of(members[0]), members, least)

    def ends(runs: list[str]) -> frozenset[str]:
        return frozenset(
            group.id if (group := groups.get(("run", run_id))) else run_id for run_id in runs
        )

    by_kind = defaultdict(list)
    for file_id, row in graph.files.items():
        if ("file", file_id) != graph.subject.node:
            key = (
                level.get(("file", file_id)),
                ends(graph.producers(file_id)),
                ends(graph.readers(file_id)),
                row["suffix"],
            )
            by_kind[key].append(file_id)
    for members in by_kind.values():
        names = [label(graph.files[each]) for each in members]
        _add(groups, "file", pattern_of(names), members, least)
    return groups


def _add(groups: dict[Node, Group], kind: Kind, title: str, members: list[str], least: int) -> None:
    if len(members) >= least:
        group = Group(f"{kind}s:{min(members)}", kind, title, members)
        groups.update({(kind, each): group for each in members})


def pattern_of(names: list[str]) -> str:
    """Return what names have in common, with ``*`` for what they have not.

    >>> pattern_of(["raw/a1.csv", "raw/a2.csv"])
    'raw/a*.csv'
    """
    start = _common_start(names)
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
    return f"{start[:_LONGEST_AFFIX]}*{end[-_LONGEST_AFFIX:]}" if len(set(names)) > 1 else start


def _common_start(names: list[str]) -> str:
    one, other = min(names), max(names)
    same = next(
        (n for n, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), None
    )
    return one[:same]


@dataclass(frozen=True)
class Folded:
    """A graph of nodes and groups.

    Attributes:
        names: by name in this graph: the node, or the group; an edge is (from, to, role).
        dropped: how many nodes and groups there is no room for, those farthest away.
    """

    names: dict[str, Node | Group]
    edges: list[tuple[str, str, str]]
    dropped: int


def folded(graph: Graph, most: int) -> Folded:
    """Return a graph with each group as one node, and with no more than so many nodes."""
    groups, level = fold(graph), levels(graph)
    nodes: list[Node] = [("file", each) for each in graph.files]
    nodes += [("run", each) for each in graph.runs]
    nodes.sort(key=lambda node: abs(level.get(node, 0)))
    name_of: dict[Node, str] = {}
    names: dict[str, Node | Group] = {}
    for node in nodes:
        group = groups.get(node)
        name_of[node] = group.id if group else node[1]
        names.setdefault(name_of[node], group or node)
    kept = dict(list(names.items())[:most])
    edges: dict[tuple[str, str, str], None] = {}
    for start, end, role in edges_of(graph):
        one, other = name_of[start], name_of[end]
        if one in kept and other in kept:
            edges[one, other, role] = None
    return Folded(kept, list(edges), len(names) - len(kept))


def edges_of(graph: Graph) -> list[tuple[Node, Node, str]]:
    """Return the edges the way that data went: start, end, role."""
    found: list[tuple[Node, Node, str]] = []
    for link in graph.links:
        run, file = ("run", link.run_id), ("file", link.file_id)
        if link.role == "input":
            found.append((file, run, link.role))  # type: ignore[arg-type]
        else:
            found.append((run, file, link.role))  # type: ignore[arg-type]
    found += [(("run", link.other_id), ("run", link.run_id), link.role) for link in graph.run_links]
    return found
