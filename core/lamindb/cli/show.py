"""``lamin show``: one record, and for a file the way back to the raw data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy import Table, desc, or_, select

from lamindb import instance, lineage
from lamindb.cli import output
from lamindb.config import is_remote
from lamindb.db.schema import file, run, run_file, transform, user
from lamindb.errors import LaminError, RecordError
from lamindb.storage.store import VERSIONS

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_DEPTH = 10


@click.command()
@click.argument("reference")
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=_DEPTH,
    show_default=True,
    help="Runs to walk back; JSON has all.",
)
@output.json_option
def show(reference: str, depth: int, as_json: bool) -> None:
    """Show a file, run or transform, and where it comes from.

    REFERENCE is an id, a file's key, name or path, or a transform's name.
    """
    table, row = _find(reference)
    if table is file:
        _show_file(row, depth, as_json)
    elif table is run:
        _show_run(row, as_json)
    else:
        _show_transform(row, as_json)


def _find(reference: str) -> tuple[Table, dict[str, Any]]:
    path = reference if is_remote(reference) else str(Path(reference).absolute())
    candidates = (
        (file, file.c.id == reference),
        (run, run.c.id == reference),
        (transform, transform.c.id == reference),
        (file, file.c.key == reference),
        (file, file.c.source_uri == path),
        (file, file.c.key == instance.current().default_location.store.key_of(path)),
        (file, file.c.name == reference),
        (transform, or_(transform.c.name == reference, transform.c.key == reference)),
    )
    for table, condition in candidates:
        order = [desc(table.c.created_at)]
        if table is file:
            order.insert(0, desc(file.c.is_latest))
        found = _rows(select(table).where(condition).order_by(*order).limit(1))
        if found:
            return table, found[0]
    raise RecordError(
        f"nothing is recorded as {reference!r}, by id, key, name or path: see 'lamin files "
        f"{Path(reference).name}' and 'lamin runs'"
    )


def _rows(query: Any) -> list[dict[str, Any]]:
    with instance.reading().database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


# --- a file -------------------------------------------------------------------------------------


def _show_file(row: dict[str, Any], depth: int, as_json: bool) -> None:
    graph = lineage.upstream(row["id"])
    if as_json:
        output.print_json(
            {
                "file": row,
                "lineage": {
                    "files": list(graph.files.values()),
                    "runs": list(graph.runs.values()),
                    "transforms": list(graph.transforms.values()),
                    "links": [vars(link) for link in graph.links],
                },
            }
        )
        return
    made_by = graph.name_of(row["run_id"]) if row["run_id"] in graph.runs else None
    output.print_fields(
        (
            ("file", row["id"]),
            ("key", row["key"]),
            ("name", row["name"] if row["name"] != lineage.label(row).rsplit("/")[-1] else None),
            ("description", row["description"]),
            ("version", None if row["is_latest"] else f"an older one{_latest(row)}"),
            ("size", output.size(row["size"])),
            ("hash", f"{row['hash']} ({row['hash_type']})" if row["hash"] else row["hash_note"]),
            ("path", _place(row)),
            ("source", row["source_uri"]),
            ("run", f"{row['run_id']}, {made_by}" if made_by else row["run_id"]),
            ("added", _by(row)),
        )
    )
    click.echo("\ncomes from")
    tree, deepest = _tree(graph, row, depth)
    output.print_tree(tree, deepest)


def _latest(row: dict[str, Any]) -> str:
    same = (file.c.storage_id == row["storage_id"], file.c.key == row["key"], file.c.is_latest)
    found = _rows(select(file.c.id).where(*same))
    return f": the latest is {found[0]['id']}" if found else ""


def _place(row: dict[str, Any]) -> str | None:
    object_name = f"{row['id']}{row['suffix']}"
    key = (row["key"] or object_name) if row["is_latest"] else f"{VERSIONS}/{object_name}"
    try:
        return instance.current().location(row["storage_id"]).store.uri(key)
    except LaminError:
        return None  # a folder of another host


def _by(row: dict[str, Any]) -> str:
    handles = _rows(select(user.c.handle).where(user.c.id == row["created_by_id"]))
    by = f" by {handles[0]['handle']}" if handles else ""
    return output.show_value(row["created_at"]) + by


def _tree(graph: lineage.Graph, row: dict[str, Any], depth: int) -> tuple[Tree, int]:
    """Return the runs that wrote a file, what they read, and so on; each run's past only once.

    Returns: the tree, and how many levels it has. Walked without recursion, for a file that is
    made from yesterday's has a long past.
    """
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(output.printable(lineage.label(row)), style="bold"))
    seen: set[str] = set()
    deepest = 0
    # (node, file, None), or (node, file, one of the runs that wrote it); the top one is next
    left: list[tuple[Tree, str, str | None, int]] = [(tree, row["id"], None, 0)]
    while left:
        node, file_id, run_id, level = left.pop()
        producers = graph.producers(file_id)
        if run_id is None:
            deepest = max(deepest, 2 * level)
            if not producers:
                node.add(Text("no recorded run", style="dim"))
            elif level == depth:
                node.add(Text(_rest(len(graph.runs_upstream(file_id) - seen)), style="dim"))
            else:
                left += [(node, file_id, producer, level) for producer in reversed(producers)]
            continue
        branch = node.add(_describe_run(graph, run_id, again=run_id != producers[0]))
        if run_id in seen:
            if graph.inputs(run_id):
                branch.add(Text("… as above", style="dim"))
            continue
        seen.add(run_id)
        inputs = [(branch.add(_describe_input(graph, each)), each) for each in graph.inputs(run_id)]
        left += [(leaf, each, None, level + 1) for leaf, each in reversed(inputs)]
    return tree, deepest


def _rest(count: int) -> str:
    if count == 0:
        return "… as above"
    return f"… {count} more run{'' if count == 1 else 's'} upstream; --depth shows more"


def _describe_input(graph: lineage.Graph, file_id: str) -> Text:
    from rich.text import Text

    row = graph.files[file_id]
    text = Text(output.printable(lineage.label(row)))
    text.append(f"  {output.size(row['size'])}", style="dim")
    if not row["is_latest"]:
        text.append("  an older version", style="yellow")
    return text


def _describe_run(graph: lineage.Graph, run_id: str, *, again: bool) -> Text:
    from rich.text import Text

    row, made = graph.runs[run_id], graph.transform_of(run_id)
    text = Text()
    text.append("also by " if again else "by ", style="dim")
    text.append(output.printable(graph.name_of(run_id)), style="cyan")
    if made and made["version"] != "0":
        text.append(f" v{output.printable(made['version'])}", style="cyan")
    if row["params"]:
        shown = ", ".join(f"{name}={value}" for name, value in row["params"].items())
        text.append(f"  {output.printable(shown)}")
    text.append(f"  {output.printable(row['started_at'])}  run {run_id}", style="dim")
    if row["status"] != "completed":
        text.append(f"  {row['status']}", style=output.STATUS_STYLES.get(row["status"], ""))
    return text


# --- a run, a transform -------------------------------------------------------------------------


def _show_run(row: dict[str, Any], as_json: bool) -> None:
    linked = _rows(
        select(run_file.c.role, run_file.c.how, file)
        .join(file, file.c.id == run_file.c.file_id)
        .where(run_file.c.run_id == row["id"])
        .order_by(run_file.c.role, file.c.key, file.c.name)
    )
    same = (
        transform.c.id == row["transform_id"],
        transform.c.version == row["transform_version"],
    )
    made = next(iter(_rows(select(transform).where(*same))), None)
    children = _rows(
        select(run).where(run.c.parent_id == row["id"]).order_by(run.c.started_at, run.c.id)
    )
    if as_json:
        output.print_json({"run": row, "transform": made, "files": linked, "children": children})
        return
    parent = _rows(select(run.c.id, run.c.name).where(run.c.id == row["parent_id"]))
    version = f", version {made['version']}" if made and made["version"] != "0" else ""
    output.print_fields(
        (
            ("run", row["id"]),
            ("transform", f"{made['name']} ({made['type']}{version})" if made else row["name"]),
            ("status", row["status"]),
            ("error", row["error"]),
            ("params", row["params"] or None),
            ("started", row["started_at"]),
            ("took", output.duration(row["started_at"], row["finished_at"])),
            ("parent", ", ".join(filter(None, parent[0].values())) if parent else None),
            ("engine", row["engine"]),
            ("reference", row["reference"]),
            ("process", f"{row['pid']} on {row['host']}" if row["pid"] else None),
            ("recorded", _by(row)),
        )
    )
    for role, title in (("input", "read"), ("output", "wrote")):
        _print_list(
            title,
            (
                (each["id"], lineage.label(each), output.size(each["size"]), each["how"])
                for each in linked
                if each["role"] == role
            ),
        )
    _print_list("started", ((each["id"], each["name"], each["status"]) for each in children))


def _show_transform(row: dict[str, Any], as_json: bool) -> None:
    found = _rows(
        select(run)
        .where(run.c.transform_id == row["id"])
        .order_by(desc(run.c.started_at), desc(run.c.id))
        .limit(None if as_json else output.ROWS)
    )
    if as_json:
        output.print_json({"transform": row, "runs": found})
        return
    output.print_fields(
        (
            ("transform", row["id"]),
            ("name", row["name"]),
            ("type", row["type"]),
            ("version", row["version"]),
            ("title", row["title"]),
            ("key", row["key"]),
            ("reference", row["reference"]),
            ("added", _by(row)),
        )
    )
    _print_list(
        "latest runs",
        (
            (
                each["id"],
                f"v{each['transform_version']}",
                output.show_value(each["started_at"]) if each["started_at"] else "",
                each["status"],
                output.duration(each["started_at"], each["finished_at"]),
            )
            for each in found
        ),
    )


def _print_list(title: str, rows: Any) -> None:
    lines = ["  ".join(output.printable(cell) for cell in row if cell) for row in rows]
    if lines:
        click.echo(f"\n{title}")
    for line in lines:
        click.echo(f"  {line}")
