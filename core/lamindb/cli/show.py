"""``lamin show``: one record, and for a file the way back to the raw data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy import Table, desc, or_, select

from lamindb import instance, lineage
from lamindb.cli import output
from lamindb.db.schema import file, run, run_file, transform
from lamindb.errors import RecordError

if TYPE_CHECKING:
    from rich.tree import Tree


@click.command()
@click.argument("reference")
@output.json_option
def show(reference: str, as_json: bool) -> None:
    """Show a file, run or transform, and where it comes from.

    REFERENCE is an id, a file's key, name or path, or a transform's name.
    """
    table, row = _find(reference)
    if table is file:
        _show_file(row, as_json)
    elif table is run:
        _show_run(row, as_json)
    else:
        _show_transform(row, as_json)


def _find(reference: str) -> tuple[Table, dict[str, Any]]:
    path = str(Path(reference).absolute())
    candidates = (
        (file, file.c.id == reference),
        (run, run.c.id == reference),
        (transform, transform.c.id == reference),
        (file, file.c.key == reference),
        (file, file.c.source_uri == path),
        (file, file.c.key == _key_in_storage(path)),
        (file, file.c.name == reference),
        (transform, or_(transform.c.name == reference, transform.c.key == reference)),
    )
    with instance.current().database.read() as connection:
        for table, condition in candidates:
            order = [desc(table.c.created_at)]
            if table is file:
                order.insert(0, desc(file.c.is_latest))
            row = connection.execute(select(table).where(condition).order_by(*order).limit(1))
            if (found := row.mappings().one_or_none()) is not None:
                return table, dict(found)
    raise RecordError(
        f"nothing is recorded as {reference!r}, by id, key, name or path: see 'lamin files "
        f"{Path(reference).name}' and 'lamin runs'"
    )


def _key_in_storage(path: str) -> str | None:
    return instance.current().default_location.store.key_of(path)


def _show_file(row: dict[str, Any], as_json: bool) -> None:
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
    _print_fields("file", row)
    click.echo("\ncomes from")
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(output.printable(lineage.label(row)), style="bold"))
    _grow(tree, graph, row["id"], set())
    output.console().print(tree)


def _grow(tree: Tree, graph: lineage.Graph, file_id: str, seen: set[str]) -> None:
    """Add the runs that wrote a file, and what they read; each run's past only once."""
    from rich.text import Text

    producers = graph.producers(file_id)
    if not producers:
        tree.add(Text("no recorded run", style="dim"))
    for number, run_id in enumerate(producers):
        branch = tree.add(_describe_run(graph, run_id, again=number > 0))
        if run_id in seen:
            if graph.inputs(run_id):
                branch.add(Text("… as above", style="dim"))
            continue
        seen.add(run_id)
        for input_id in graph.inputs(run_id):
            read = graph.files[input_id]
            leaf = Text(output.printable(lineage.label(read)))
            leaf.append(f"  {output.size(read['size'])}", style="dim")
            if not read["is_latest"]:
                leaf.append("  an older version", style="yellow")
            _grow(branch.add(leaf), graph, input_id, seen)


def _describe_run(graph: lineage.Graph, run_id: str, *, again: bool) -> Any:
    from rich.text import Text

    row, made = graph.runs[run_id], graph.transform_of(run_id)
    text = Text("also by " if again else "by ", style="dim")
    text.append(output.printable(made["name"] if made else row["name"] or run_id), style="cyan")
    if made and made["version"] != "0":
        text.append(f" v{output.printable(made['version'])}", style="cyan")
    if row["params"]:
        shown = ", ".join(f"{name}={value}" for name, value in row["params"].items())
        text.append(f"  {output.printable(shown)}")
    text.append(f"  {output.printable(row['started_at'])}  run {run_id}", style="dim")
    if row["status"] != "completed":
        text.append(f"  {row['status']}", style=output.STATUS_STYLES.get(row["status"], ""))
    return text


def _show_run(row: dict[str, Any], as_json: bool) -> None:
    link = run_file
    with instance.current().database.read() as connection:
        linked = [
            dict(each)
            for each in connection.execute(
                select(link.c.role, link.c.how, file)
                .join(file, file.c.id == link.c.file_id)
                .where(link.c.run_id == row["id"])
                .order_by(link.c.role, file.c.name)
            ).mappings()
        ]
        made = connection.execute(
            select(transform).where(
                transform.c.id == row["transform_id"],
                transform.c.version == row["transform_version"],
            )
        ).mappings()
        found = made.one_or_none()
    if as_json:
        output.print_json(
            {"run": row, "transform": dict(found) if found else None, "files": linked}
        )
        return
    _print_fields("run", row)
    if found:
        click.echo(f"{'transform':<20} {output.printable(found['name'])} ({found['type']})")
    for role, title in (("input", "read"), ("output", "wrote")):
        of_role = [each for each in linked if each["role"] == role]
        if of_role:
            click.echo(f"\n{title}")
        for each in of_role:
            click.echo(
                f"  {each['id']}  {output.printable(lineage.label(each))}  "
                f"{output.size(each['size'])}  {each['how']}"
            )


def _show_transform(row: dict[str, Any], as_json: bool) -> None:
    same = (run.c.transform_id == row["id"], run.c.transform_version == row["version"])
    with instance.current().database.read() as connection:
        found = [
            dict(each)
            for each in connection.execute(
                select(run).where(*same).order_by(desc(run.c.started_at)).limit(20)
            ).mappings()
        ]
    if as_json:
        output.print_json({"transform": row, "runs": found})
        return
    _print_fields("transform", row)
    if found:
        click.echo("\nlatest runs")
    for each in found:
        click.echo(
            f"  {each['id']}  {output.show_value(each['started_at'])}  {each['status']}  "
            f"{output.duration(each['started_at'], each['finished_at'])}"
        )


def _print_fields(kind: str, row: dict[str, Any]) -> None:
    click.echo(f"{kind} {row['id']}")
    for name, value in row.items():
        if name == "id" or value is None or value == "":
            continue
        shown = f"{value:,} bytes" if name == "size" else output.printable(value)
        click.echo(f"{name:<20} {shown}")
