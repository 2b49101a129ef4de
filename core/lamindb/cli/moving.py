"""``lamin migrate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lamindb import config
from lamindb.cli import output

if TYPE_CHECKING:
    from lamindb.moving import Moved
    from lamindb.moving.instances import Tell, What

_SHOWN = 10


@click.command()
@click.option("--to", "db", required=True, help="SQLAlchemy URL of a new or empty database.")
@click.option(
    "--storage",
    help="New or empty folder or URL for the objects: s3://b/p. Default: they stay where they are.",
)
@click.option("--name", help="Of the new instance. Default: the last part of its storage.")
@output.json_option
def migrate(db: str, storage: str | None, name: str | None, as_json: bool) -> None:
    """Copy the instance to another database and storage.

    All records with their ids, so that lineage stays; and the objects, each read back and compared.
    The old instance stays as it is. Interrupted, it goes on when it is run again.

    Exit code 1 when the old storage does not hold all objects as they were recorded.
    """
    from lamindb.moving import move

    with _progress() as tell:
        moved = move(db, storage, name, tell)
    if as_json:
        output.print_json({**asdict(moved), "config": _where(moved)})
    else:
        _print(moved)
    if moved.left:
        raise click.exceptions.Exit(1)


@contextmanager
def _progress() -> Iterator[Tell | None]:
    """Show how far it is, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(file=sys.stderr)
    if not screen.is_terminal:
        yield None
        return
    with Progress(console=screen, transient=True) as bars:
        tasks = {what: bars.add_task(what, total=None) for what in ("records", "objects")}

        def tell(what: What, done: int, total: int) -> None:
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _where(moved: Moved) -> dict[str, str]:
    made = moved.config
    return {"name": made.name, "storage": made.storage, "db": made.db}


def _print(moved: Moved) -> None:
    made = moved.config
    click.echo(
        f"instance {made.name}{', which had been migrated already' if moved.was_there else ''}"
    )
    click.echo(f"  storage   {made.storage}")
    click.echo(f"  database  {made.database}")
    click.echo()
    output.print_table(
        ("what", "old", "new", "compared"), list(_lines(moved)), right=("old", "new")
    )
    click.echo()
    for root, files in moved.elsewhere.items():
        click.echo(f"{output.counted(files, 'file')} in {output.printable(root)}: left in place.")
    if moved.elsewhere and moved.is_new_storage:
        click.echo(
            "Both instances know what was left in place, and either may delete or replace what "
            "lies in a managed storage: keep those places, and work with the new one only."
        )
    if not all(map(config.is_remote, moved.elsewhere)) and not made.db.startswith("sqlite"):
        click.echo(
            "Of what was left in folders, other hosts see the records alone, unless they mount it "
            "and call themselves the same (LAMINDB_HOST)."
        )
    _print_left(moved)
    if moved.running:
        click.echo(
            f"{output.counted(moved.running, 'run')} of the old instance still going on: what "
            "becomes of them is told to the old one."
        )
    _print_next(moved)


def _lines(moved: Moved) -> Iterator[tuple[str, str, str, str]]:
    for name, rows in moved.rows.items():
        yield name, f"{rows:,}", f"{rows:,}", "row by row"
    if moved.is_new_storage and not moved.was_there:
        there = moved.objects + len(moved.left)
        size = f"by hash, {output.size(moved.size_bytes)}"
        yield "objects", f"{there:,}", f"{moved.objects:,}", size


def _print_left(moved: Moved) -> None:
    for left in moved.left[:_SHOWN]:
        click.echo(f"not copied: {left.id} {output.printable(left.name)}: {left.problem}")
    if len(moved.left) > _SHOWN:
        click.echo(f"and {len(moved.left) - _SHOWN} more: --json lists them")


def _print_next(moved: Moved) -> None:
    made = moved.config
    click.echo("The old instance is as it was. Next:")
    click.echo(f"  lamin load {made.name}")
    init = f"lamin init --storage {made.storage} --db {made.db}"
    if moved.is_new_storage:
        click.echo("and in folders that lead to the old one, and for everybody else:")
        click.echo(f"  {init}")
    elif config.is_remote(made.storage):
        click.echo("Both now know the same objects: work with the new one only. For others:")
        click.echo(f"  {init}")
    else:
        click.echo(
            "Both now know the same objects: work with the new one only. So that everybody does, "
            f'set in {made.storage}/{config.FOLDER}/{config.FILE}\n  db = "{made.db}"'
        )
