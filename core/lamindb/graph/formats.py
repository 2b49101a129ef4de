"""A graph as networkx, Mermaid or Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamindb.display import printable
from lamindb.errors import PackageMissingError
from lamindb.graph.folding import Folded, Group, folded
from lamindb.graph.model import Graph, Node, label

if TYPE_CHECKING:
    import networkx

# GitHub draws no more than 500 edges, and nobody reads more
_MOST = 200
_LONGEST = 60

# Okabe and Ito's colours, which people with any colour vision tell apart
STATUS_COLOURS = {
    "started": "#56b4e9",
    "completed": "#009e73",
    "failed": "#d55e00",
    "cancelled": "#e69f00",
    "aborted": "#cc79a7",
    "cached": "#0072b2",
    "skipped": "#8a8f98",
}
STATUS_SIGNS = {
    "started": "▶",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "aborted": "☠",
    "cached": "↺",
    "skipped": "–",
}
_MERMAID_SHAPES = {"prefect": ('{{"', '"}}'), "snakemake": ('[["', '"]]'), "plain": ('["', '"]')}
_DOT_SHAPES = {"prefect": "hexagon", "snakemake": "component", "plain": "box"}


def to_networkx(graph: Graph) -> networkx.DiGraph[str]:
    try:
        import networkx
    except ImportError as error:
        raise PackageMissingError(
            "a graph is a networkx.DiGraph, and networkx is not installed: pip install networkx, "
            "or take .upstream() and .downstream(), which are DataFrames"
        ) from error
    drawn: networkx.DiGraph[str] = networkx.DiGraph()
    for file_id, row in graph.files.items():
        drawn.add_node(file_id, kind="file", label=label(row), **_without_id(row))
    for run_id, row in graph.runs.items():
        made = graph.transform_of(run_id)
        drawn.add_node(
            run_id,
            kind="run",
            label=graph.name_of(run_id),
            transform=made["name"] if made else None,
            **_without_id(row),
        )
    for link in graph.links:
        ends = (link.file_id, link.run_id) if link.role == "input" else (link.run_id, link.file_id)
        drawn.add_edge(*ends, role=link.role, how=link.how)
    for each in graph.run_links:
        drawn.add_edge(each.other_id, each.run_id, role=each.role, how="declared")
    return drawn


def _without_id(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "id"}


def to_mermaid(graph: Graph) -> str:
    shown = folded(graph, _MOST)
    names = {name: f"n{number}" for number, name in enumerate(shown.names)}
    lines = ["flowchart LR"]
    for name, what in shown.names.items():
        text = _mermaid_text("\n".join(_title(graph, what)))
        before, after = ('("', '")')
        if _kind(what) == "run":
            before, after = _MERMAID_SHAPES.get(_engine(graph, what), ('(["', '"])'))
        lines.append(f"  {names[name]}{before}{text}{after}{_mermaid_class(graph, what)}")
    for start, end, role in shown.edges:
        arrow = {"input": "-->", "output": "-->"}.get(role, f"-. {role.replace('_', ' ')} .->")
        lines.append(f"  {names[start]} {arrow} {names[end]}")
    if shown.dropped:
        lines.append(f'  more["… {shown.dropped:,} more, farther away"]')
    lines += [
        f"  classDef {status} stroke:{colour},stroke-width:2px"
        for status, colour in STATUS_COLOURS.items()
    ]
    lines.append("  classDef focus stroke-width:4px")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    unsafe = '"#<>&`\\;{}[]()|%'
    return "".join(
        "<br>" if each == "\n" else f"#{ord(each)};" if each in unsafe else each for each in text
    )


def _mermaid_class(graph: Graph, what: Node | Group) -> str:
    if what == graph.subject.node:
        return ":::focus"
    return f":::{_status(graph, what)}" if _kind(what) == "run" else ""


def to_dot(graph: Graph) -> str:
    shown = folded(graph, _MOST)
    lines = [
        "digraph lineage {",
        "  rankdir=LR;",
        '  node [fontname="Helvetica,Arial,sans-serif", fontsize=11, style=filled, '
        'fillcolor=white, color="#5b6472"];',
        '  edge [color="#5b6472"];',
    ]
    for name, what in shown.names.items():
        text = r"\n".join(_dot_text(line) for line in _title(graph, what))
        values = [f'label="{text}"']
        if _kind(what) == "run":
            values.append(f"shape={_DOT_SHAPES.get(_engine(graph, what), 'ellipse')}")
            values.append(f'color="{STATUS_COLOURS.get(_status(graph, what), "#5b6472")}"')
        else:
            values.append("shape=note")
        if what == graph.subject.node or _kind(what) == "run":
            values.append("penwidth=2")
        lines.append(f'  "{name}" [{", ".join(values)}];')
    for start, end, role in shown.edges:
        style = "" if role in ("input", "output") else f' [style=dashed, label="{role}"]'
        lines.append(f'  "{start}" -> "{end}"{style};')
    if shown.dropped:
        lines.append(f'  more [shape=plaintext, label="… {shown.dropped:,} more, farther away"];')
    return "\n".join([*lines, "}", ""])


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


# --- words of a node or group ---------------------------------------------------------------------


def _kind(what: Node | Group) -> str:
    return what.kind if isinstance(what, Group) else what[0]


def _one(what: Node | Group) -> str:
    return what.members[0] if isinstance(what, Group) else what[1]


def _engine(graph: Graph, what: Node | Group) -> str:
    return str(graph.runs[_one(what)]["engine"] or "")


def _status(graph: Graph, what: Node | Group) -> str:
    """The status that all members have; of several, the one to look at first."""
    members = what.members if isinstance(what, Group) else [what[1]]
    return worst({graph.runs[each]["status"] for each in members})


def worst(statuses: set[str]) -> str:
    """Return of several statuses the one that a person should see first."""
    order = ("failed", "aborted", "cancelled", "started", "completed", "cached", "skipped")
    return next((status for status in order if status in statuses), "completed")


def _title(graph: Graph, what: Node | Group) -> list[str]:
    """Return the lines that name a node: without control characters, and not too long."""
    if isinstance(what, Group):
        title, second = what.label, f"× {len(what.members):,}"
    elif what[0] == "file":
        title, second = label(graph.files[what[1]]), ""
    else:
        row = graph.runs[what[1]]
        title, second = graph.name_of(what[1]), " ".join(filter(None, (row["engine"],)))
    if _kind(what) == "run":
        second = f"{STATUS_SIGNS.get(_status(graph, what), '')} {second}".strip()
    return [_shortened(printable(title)), *filter(None, [second])]


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    # of keys the end tells them apart
    return f"{text[: _LONGEST // 3]}…{text[-(2 * _LONGEST // 3) :]}"


__all__ = [
    "STATUS_COLOURS",
    "STATUS_SIGNS",
    "Folded",
    "to_dot",
    "to_mermaid",
    "to_networkx",
    "worst",
]
