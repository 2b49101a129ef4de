"""``lamin lineage``: the way back or on, in the terminal, as a page, or for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lamindb.cli import output

if TYPE_CHECKING:
    from lamindb.graph import Lineage
    from lamindb.graph.model import Direction

_DEPTH = 10


@click.command()
@click.argument("reference")
@click.option("--downstream", is_flag=True, help="What came of it, not what it comes from.")
@click.option(
    "--depth",
    type=click.IntRange(1),
    help=f"Runs to walk; default: {_DEPTH} in the tree, as many as there is room for on the page, "
    "all as JSON.",
)
@click.option("--all", "every", is_flag=True, help="Name each file and run of a kind.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one self-contained page, of both directions, to this file.",
)
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart, of both directions.")
@click.option("--dot", is_flag=True, help="Print a graph for Graphviz, of both directions.")
@output.json_option
def lineage(reference: str, **options: Any) -> None:
    """Show where a file or run comes from, or what came of it.

    REFERENCE is an id, a file's key, name or path, or a transform's name, for its latest run.
    """
    from lamindb.graph import lineage as lineage_of
    from lamindb.graph.references import namesakes

    chosen = [name for name in ("page", "mermaid", "dot", "as_json") if options[name]]
    if len(chosen) > 1:
        raise click.UsageError("take one of --html, --mermaid, --dot and --json")
    found = lineage_of(reference)
    others = namesakes(reference, found.subject.row) if found.subject.kind == "file" else 0
    if others:
        shown = output.printable(found.subject.row["key"] or found.subject.id)
        click.echo(
            f"{output.counted(others + 1, 'file')} are called {output.printable(reference)}: "
            f"this is the newest, {shown}",
            err=True,
        )
    depth: int | None = options["depth"]
    if options["page"]:
        options["page"].write_text(found.html(depth=depth), encoding="utf-8")
        click.echo(f"{options['page']}: open it in a browser")
    elif options["mermaid"]:
        click.echo(found.mermaid(depth=depth), nl=False)
    elif options["dot"]:
        click.echo(found.dot(depth=depth), nl=False)
    elif options["as_json"]:
        output.print_json(_as_json(found, _way(options), depth))
    else:
        _print_tree(found, _way(options), depth or _DEPTH, every=options["every"])


def _way(options: dict[str, Any]) -> Direction:
    return "downstream" if options["downstream"] else "upstream"


def _as_json(found: Lineage, direction: Direction, depth: int | None) -> dict[str, Any]:
    graph = found.rows(direction, depth)
    return {
        "direction": direction,
        "subject": {"kind": graph.subject.kind, "id": graph.subject.id},
        "files": list(graph.files.values()),
        "runs": list(graph.runs.values()),
        "transforms": list(graph.transforms.values()),
        "links": [vars(link) for link in graph.links],
        "run_links": [vars(link) for link in graph.run_links],
    }


def _print_tree(found: Lineage, direction: Direction, depth: int, *, every: bool) -> None:
    from lamindb.graph.tree import tree

    output.print_tree(tree(found.rows(direction), depth, direction, every=every))
