"""``lamin files runs transforms``."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import Select, Table, and_, desc, func, or_, select

from lamindb import instance
from lamindb.cli import output, tree
from lamindb.db.schema import file, run, run_file, transform


@click.command()
@click.argument("pattern", required=False)
@click.option("--run", "run_id", help="Only those that this run wrote.")
@click.option("--all-versions", is_flag=True, help="Older versions too.")
@output.limit_option
@output.json_option
def files(
    pattern: str | None, run_id: str | None, all_versions: bool, limit: int | None, as_json: bool
) -> None:
    """List files, the newest first.

    PATTERN is part of a key or name; * stands for anything.
    """
    query = select(file, transform.c.name.label(_MADE_BY)).outerjoin(transform, _made(file))
    if pattern:
        query = query.where(or_(_like(file.c.key, pattern), _like(file.c.name, pattern)))
    if run_id:
        written = select(run_file.c.file_id).where(
            run_file.c.run_id == run_id, run_file.c.role == "output"
        )
        query = query.where(or_(file.c.run_id == run_id, file.c.id.in_(written)))
    if not all_versions:
        query = query.where(file.c.is_latest)
    rows, total = _newest(query, file, limit, as_json)
    if as_json:
        output.print_json(_columns(rows))
    elif rows:
        output.print_table(
            ("id", "key or name", "size", "hash", "made by", "created"),
            (
                (
                    row["id"],
                    _titled(row, all_versions),
                    output.size(row["size"]),
                    row["hash"] or row["hash_note"],
                    row[_MADE_BY],
                    output.minute(row["created_at"]),
                )
                for row in rows
            ),
            right=("size",),
            long=("key or name", "made by"),
            spare=("hash", "created", "size", "made by"),
        )
    if not as_json:
        _say_rest("files", len(rows), total, filtered=bool(pattern or run_id))


@click.command()
@click.option(
    "--status",
    type=click.Choice(list(output.STATUS_STYLES)),
    help="Only those with this status.",
)
@click.option("--transform", "name", help="Only those of the transform with this name or id.")
@click.option("--tree", "as_tree", is_flag=True, help="Each below the run that started it.")
@output.limit_option
@output.json_option
def runs(
    status: str | None, name: str | None, as_tree: bool, limit: int | None, as_json: bool
) -> None:
    """List runs, the newest first."""
    query = select(run, transform.c.name.label(_MADE_BY)).outerjoin(transform, _made(run))
    if status:
        query = query.where(run.c.status == status)
    if name:
        named = or_(transform.c.name == name, transform.c.id == name)
        query = query.where(run.c.transform_id.in_(select(transform.c.id).where(named)))
    if as_tree and not status and not name:
        query = query.where(run.c.parent_id.is_(None))  # the others stand below
    rows, total = _newest(query, run, limit, as_json)
    if as_tree:
        _show_tree(rows, as_json)
    elif as_json:
        output.print_json(_columns(rows))
    elif rows:
        output.print_table(
            ("id", "transform", "status", "started", "took", "params", "error"),
            (
                (
                    row["id"],
                    row[_MADE_BY] or row["name"],
                    row["status"],
                    output.minute(row["started_at"]),
                    output.duration(row["started_at"], row["finished_at"]),
                    row["params"] or None,
                    row["error"],
                )
                for row in rows
            ),
            right=("took",),
            long=("transform", "params", "error"),
            spare=("params", "took", "started", "error"),
        )
    if not as_json:
        _say_rest("runs", len(rows), total, filtered=bool(status or name))


def _show_tree(rows: list[dict[str, Any]], as_json: bool) -> None:
    children = tree.below(rows)
    below = {row["id"] for each in children.values() for row in each}
    roots = [row for row in rows if row["id"] not in below]
    if as_json:
        output.print_json(tree.nested(roots, children))
    else:
        tree.show(roots, children)


@click.command()
@output.limit_option
@output.json_option
def transforms(limit: int | None, as_json: bool) -> None:
    """List what has been run."""
    rows, total = _newest(select(transform), transform, limit, as_json)
    if as_json:
        output.print_json(rows)
    elif rows:
        counts = _run_counts()
        output.print_table(
            ("id", "version", "name", "type", "runs", "key", "created"),
            (
                (
                    row["id"],
                    row["version"],
                    row["name"],
                    row["type"],
                    counts.get((row["id"], row["version"]), 0),
                    row["key"],
                    output.minute(row["created_at"]),
                )
                for row in rows
            ),
            right=("runs",),
            long=("name", "key"),
            spare=("key", "created", "type", "runs"),
        )
    if not as_json:
        _say_rest("transforms", len(rows), total, filtered=False)


# a column beside a table's own, which JSON does not have
_MADE_BY = "made_by"


def _made(table: Table) -> Any:
    return and_(
        table.c.transform_id == transform.c.id, table.c.transform_version == transform.c.version
    )


def _newest(
    query: Select[Any], table: Table, limit: int | None, as_json: bool
) -> tuple[list[dict[str, Any]], int]:
    """Return the rows to show, and how many there are."""
    shown = limit if limit is not None or as_json else output.ROWS
    with instance.reading().database.read() as connection:
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        rows = connection.execute(
            query.order_by(desc(table.c.created_at), desc(table.c.id)).limit(shown)
        )
        return [dict(row) for row in rows.mappings()], total


def _columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != _MADE_BY} for row in rows]


def _like(column: Any, pattern: str) -> Any:
    escaped = pattern.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return column.like(f"%{escaped.replace('*', '%')}%", escape="\\")


def _titled(row: dict[str, Any], all_versions: bool) -> str:
    title = str(row["key"] or row["name"])
    return title if row["is_latest"] or not all_versions else f"{title} (older)"


def _run_counts() -> dict[tuple[str, str], int]:
    query = select(run.c.transform_id, run.c.transform_version, func.count()).group_by(
        run.c.transform_id, run.c.transform_version
    )
    with instance.reading().database.read() as connection:
        return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def _say_rest(what: str, shown: int, total: int, *, filtered: bool) -> None:
    if total == 0:
        click.echo(f"No {what} match." if filtered else f"No {what} yet.")
    elif total > shown:
        click.echo(f"{shown} of {total} {what}; --limit shows more.")
