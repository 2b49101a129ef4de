"""``lamin export``: records in the formats of others."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lamindb.cli import output

if TYPE_CHECKING:
    from lamindb.export.ro_crate import Data


@click.group()
def export() -> None:
    """Write records in the formats of others."""


@export.command("ro-crate")
@click.argument("reference")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--title", help="Of the crate; default: REFERENCE.")
@click.option(
    "--data",
    type=click.Choice(["asked", "all", "none"]),
    default="asked",
    show_default=True,
    help="Bytes to pack: of the files asked for, of all that they come from too, or none.",
)
@click.option(
    "--license",
    help="URL or name of the licence of what is in it; validators refuse a crate without one.",
)
@output.json_option
def ro_crate(
    reference: str, target: Path, title: str | None, data: Data, license: str | None, as_json: bool
) -> None:
    """Pack files with what they come from, to archive or hand over.

    REFERENCE is a folder, or an id, key, path or name of a file or run. TARGET is a new folder, or
    a new file that ends in .zip. The result is a Workflow Run RO-Crate.
    """
    from lamindb.export.ro_crate import write
    from lamindb.export.selection import select_upstream

    found = select_upstream(reference)
    left_out = write(found, target, title=title or reference, data=data, license=license)
    counts = {"files": len(found.files), "runs": len(found.runs)}
    if not license:
        click.echo(
            "the crate names no licence, and validators refuse one without: give it as in "
            "--license https://spdx.org/licenses/CC-BY-4.0",
            err=True,
        )
    if as_json:
        output.print_json({"target": str(target), **counts, "left_out": left_out})
        return
    click.echo(
        f"{target}: {output.counted(counts['files'], 'file')} and "
        f"{output.counted(counts['runs'], 'run')}"
    )
    for name in left_out[: output.ROWS]:
        click.echo(
            f"not packed, only named: {output.printable(name)}: its bytes are gone, elsewhere, or "
            "not those that were recorded",
            err=True,
        )
    if len(left_out) > output.ROWS:
        click.echo(
            f"… and {output.counted(len(left_out) - output.ROWS, 'file')} more: --json names all",
            err=True,
        )


@export.command()
@click.option(
    "--since",
    help="Only runs that began or ended since: a date or time such as 2026-11-01T12:00, UTC if it "
    "names no zone.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append to this file; default: print.",
)
def openlineage(since: str | None, target: Path | None) -> None:
    """Print runs as OpenLineage events, one JSON a line."""
    from lamindb.export.openlineage import events_since

    events = events_since(_time(since))
    if target is None:
        for event in events:
            click.echo(json.dumps(event))
        return
    count = 0
    with target.open("a", encoding="utf-8") as stream:
        for event in events:
            stream.write(json.dumps(event) + "\n")
            count += 1
    click.echo(f"{target}: {output.counted(count, 'event')}")


def _time(text: str | None) -> Any:
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no date or time: give one such as 2026-11-01 or 2026-11-01T12:00+01:00",
            param_hint="--since",
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
