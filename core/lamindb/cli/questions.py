"""``lamin why stale diff``."""

from __future__ import annotations

from collections.abc import Iterable

import click

from lamindb import instance
from lamindb.cli import output


@click.command()
@click.argument("file")
@click.option("--than", help="Compare with this version or file, not with the previous version.")
@output.json_option
def why(file: str, than: str | None, as_json: bool) -> None:
    """Say why a file differs from its previous version.

    FILE is an id, key, name or path.
    """
    from lamindb.graph.causes import why as why_of

    found = why_of(file, than)
    if as_json:
        output.print_json(
            {
                "file": found.file,
                "previous": found.previous,
                "answer": found.answer,
                "changes": [vars(each) for each in found.changes],
                "differences": found.df().to_dict("records"),
            }
        )
    else:
        click.echo(str(found))


@click.command()
@click.option("--code/--no-code", default=True, help="Whether newer code counts.  [default: yes]")
@click.option(
    "--disk/--no-disk",
    default=True,
    help="Whether to look at the files on this machine.  [default: yes]",
)
@output.limit_option
@output.json_option
def stale(code: bool, disk: bool, limit: int | None, as_json: bool) -> None:
    """List what is out of date, in the order in which to make it anew."""
    from lamindb.graph.staleness import stale_rows

    found = stale_rows(code=code, disk=disk)
    rows = found[: limit or (len(found) if as_json else output.ROWS)]
    if as_json:
        output.print_json(rows)
        return
    if not rows:
        click.echo("Nothing is out of date, as far as it is recorded.")
        return
    states = _states(row["id"] for row in rows) if disk else {}
    output.print_table(
        ("key or name", "because", "made by", "engine", "changed"),
        (
            (
                _titled(row["file"], states.get(row["id"])),
                row["because"],
                row["transform"],
                row["engine"],
                output.minute(row["changed_at"]),
            )
            for row in rows
        ),
        long=("key or name", "because", "made by"),
        spare=("changed", "engine"),
    )
    if len(found) > len(rows):
        click.echo(f"{len(rows)} of {len(found)} files; --limit shows more.")


def _states(ids: Iterable[str]) -> dict[str, str]:
    """Return what has become of the objects of files, by id."""
    from lamindb.db.schema import file
    from lamindb.graph.objects import Objects
    from lamindb.graph.walking import by_id

    objects = Objects()
    with instance.reading().database.read() as connection:
        found = by_id(connection, file, ids)
    return {name: objects.of(row).state for name, row in found.items()}


def _titled(title: str, state: str | None) -> str:
    return f"{title}, {state}" if state else title


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@output.json_option
def diff(run_a: str, run_b: str, as_json: bool) -> None:
    """Show what differs between two runs.

    RUN_A and RUN_B are ids of runs; a file or transform stands for its latest run.
    """
    from lamindb.graph.compare import diff as diff_of

    found = diff_of(run_a, run_b)
    if as_json:
        output.print_json(
            {
                "before": found.before,
                "after": found.after,
                "changes": [vars(each) for each in found.changes],
                "unknown": found.unknown,
            }
        )
    else:
        click.echo(str(found))
