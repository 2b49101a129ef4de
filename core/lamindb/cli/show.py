"""``lamin show``: one record, and for a file the way back to the raw data."""

from __future__ import annotations

import shlex
from typing import Any

import click
from sqlalchemy import desc, select

from lamindb.cli import output
from lamindb.db.schema import file, run, run_file, transform, user
from lamindb.graph.compare import command_of, directory_of
from lamindb.graph.model import Subject, label
from lamindb.graph.objects import Objects
from lamindb.graph.references import find, rows
from lamindb.graph.tree import tree
from lamindb.graph.walking import load

_DEPTH = 10
_LISTED = 200


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
    table, row = find(reference)
    if table is file:
        _show_file(row, depth, as_json)
    elif table is run:
        _show_run(row, as_json)
    else:
        _show_transform(row, as_json)


# --- a file -------------------------------------------------------------------------------------


def _show_file(row: dict[str, Any], depth: int, as_json: bool) -> None:
    graph = load(Subject("file", row))
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
            ("name", row["name"] if row["name"] != label(row).rsplit("/")[-1] else None),
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
    output.print_tree(tree(graph, depth, every=True))


def _latest(row: dict[str, Any]) -> str:
    same = (file.c.storage_id == row["storage_id"], file.c.key == row["key"], file.c.is_latest)
    found = rows(select(file.c.id).where(*same))
    return f": the latest is {found[0]['id']}" if found else ""


def _place(row: dict[str, Any]) -> str | None:
    found = Objects().of(row)
    return f"{found.path}, {found.state}" if found.state else found.path


def _by(row: dict[str, Any]) -> str:
    handles = rows(select(user.c.handle).where(user.c.id == row["created_by_id"]))
    by = f" by {handles[0]['handle']}" if handles else ""
    return output.show_value(row["created_at"]) + by


# --- a run, a transform -------------------------------------------------------------------------


def _show_run(row: dict[str, Any], as_json: bool) -> None:
    linked = rows(
        select(run_file.c.role, run_file.c.how, file)
        .join(file, file.c.id == run_file.c.file_id)
        .where(run_file.c.run_id == row["id"])
        .order_by(run_file.c.role, file.c.key, file.c.name)
    )
    same = (
        transform.c.id == row["transform_id"],
        transform.c.version == row["transform_version"],
    )
    made = next(iter(rows(select(transform).where(*same))), None)
    children = rows(
        select(run).where(run.c.parent_id == row["id"]).order_by(run.c.started_at, run.c.id)
    )
    if as_json:
        output.print_json({"run": row, "transform": made, "files": linked, "children": children})
        return
    command = command_of(row)
    parent = rows(select(run.c.id, run.c.name).where(run.c.id == row["parent_id"]))
    version = f", version {made['version']}" if made and made["version"] != "0" else ""
    output.print_fields(
        (
            ("run", row["id"]),
            ("transform", f"{made['name']} ({made['type']}{version})" if made else row["name"]),
            ("status", row["status"]),
            ("error", row["error"]),
            ("params", row["params"] or None),
            ("command line", shlex.join(command) if command else None),
            ("directory", directory_of(row)),
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
                (each["id"], label(each), output.size(each["size"]), each["how"])
                for each in linked
                if each["role"] == role
            ),
        )
    _print_list("started", ((each["id"], each["name"], each["status"]) for each in children))


def _show_transform(row: dict[str, Any], as_json: bool) -> None:
    found = rows(
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
    for line in lines[:_LISTED]:
        click.echo(f"  {line}")
    if len(lines) > _LISTED:
        click.echo(f"  … {len(lines) - _LISTED:,} more: --json has all")
