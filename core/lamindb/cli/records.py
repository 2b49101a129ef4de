"""``lamin files runs transforms``."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import Select, Table, desc, func, or_, select

from lamindb import instance
from lamindb.cli import output
from lamindb.db.schema import file, run, transform


@click.command()
@click.argument("pattern", required=False)
@click.option("--run", "run_id", help="Only those that this run wrote.")
@click.option("--all-versions", is_flag=True, help="Older versions too.")
@output.limit_option
@output.json_option
def files(
    pattern: str | None, run_id: str | None, all_versions: bool, limit: int, as_json: bool
) -> None:
    """List files, the newest first.

    PATTERN is part of a key or name; * stands for anything.
    """
    query = select(file)
    if pattern:
        query = query.where(or_(_like(file.c.key, pattern), _like(file.c.name, pattern)))
    if run_id:
        query = query.where(file.c.run_id == run_id)
    if not all_versions:
        query = query.where(file.c.is_latest)
    rows, total = _newest(query, file, limit)
    if as_json:
        output.print_json(rows)
        return
    makers = _transform_names({row["run_id"] for row in rows if row["run_id"]})
    output.print_table(
        ("id", "key or name", "size", "hash", "made by", "created"),
        (
            (
                row["id"],
                _titled(row, all_versions),
                output.size(row["size"]),
                row["hash"] or row["hash_note"],
                makers.get(row["run_id"]),
                row["created_at"],
            )
            for row in rows
        ),
        right=("size",),
    )
    _say_rest("files", len(rows), total)


@click.command()
@click.option("--status", help="Only those with this status, such as failed.")
@click.option("--transform", "name", help="Only those of the transform with this name or id.")
@output.limit_option
@output.json_option
def runs(status: str | None, name: str | None, limit: int, as_json: bool) -> None:
    """List runs, the newest first."""
    query = select(run)
    if status:
        query = query.where(run.c.status == status)
    if name:
        named = or_(transform.c.name == name, transform.c.id == name)
        matching = select(transform.c.id).where(named)
        query = query.where(run.c.transform_id.in_(matching))
    rows, total = _newest(query, run, limit)
    if as_json:
        output.print_json(rows)
        return
    names = _transform_names({row["id"] for row in rows})
    output.print_table(
        ("id", "transform", "status", "started", "took", "params", "error"),
        (
            (
                row["id"],
                names.get(row["id"], row["name"]),
                row["status"],
                row["started_at"],
                output.duration(row["started_at"], row["finished_at"]),
                row["params"] or None,
                row["error"],
            )
            for row in rows
        ),
        right=("took",),
    )
    _say_rest("runs", len(rows), total)


@click.command()
@output.limit_option
@output.json_option
def transforms(limit: int, as_json: bool) -> None:
    """List what has been run."""
    rows, total = _newest(select(transform), transform, limit)
    if as_json:
        output.print_json(rows)
        return
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
                row["created_at"],
            )
            for row in rows
        ),
        right=("runs",),
    )
    _say_rest("transforms", len(rows), total)


def _newest(query: Select[Any], table: Table, limit: int) -> tuple[list[dict[str, Any]], int]:
    with instance.current().database.read() as connection:
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        rows = connection.execute(
            query.order_by(desc(table.c.created_at), desc(table.c.id)).limit(limit)
        )
        return [dict(row) for row in rows.mappings()], total


def _like(column: Any, pattern: str) -> Any:
    escaped = pattern.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return column.like(f"%{escaped.replace('*', '%')}%", escape="\\")


def _titled(row: dict[str, Any], all_versions: bool) -> str:
    title = str(row["key"] or row["name"])
    return title if row["is_latest"] or not all_versions else f"{title} (older)"


def _transform_names(run_ids: set[str]) -> dict[str, str]:
    same = (run.c.transform_id == transform.c.id) & (run.c.transform_version == transform.c.version)
    query = select(run.c.id, transform.c.name).join(transform, same).where(run.c.id.in_(run_ids))
    with instance.current().database.read() as connection:
        return {row.id: row.name for row in connection.execute(query)}


def _run_counts() -> dict[tuple[str, str], int]:
    query = select(run.c.transform_id, run.c.transform_version, func.count()).group_by(
        run.c.transform_id, run.c.transform_version
    )
    with instance.current().database.read() as connection:
        return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def _say_rest(what: str, shown: int, total: int) -> None:
    if total == 0:
        click.echo(f"No {what} yet." if what != "files" else "No files.")
    elif total > shown:
        click.echo(f"{shown} of {total} {what}; --limit shows more.")
