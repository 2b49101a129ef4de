"""``lamin doctor`` and ``lamin db``."""

from __future__ import annotations

from dataclasses import asdict

import click

from lamindb import config
from lamindb.cli import output


@click.command()
@click.option("--fix", is_flag=True, help="Mend what is safe; never removes records or objects.")
@click.option("--hash", "hashes", is_flag=True, help="Read every object and compare its hash.")
@output.json_option
def doctor(fix: bool, hashes: bool, as_json: bool) -> None:
    """Compare the records with what is there.

    Exit code 1 when something is left to do.
    """
    from lamindb.doctor import examine

    findings = list(examine(fix=fix, hashes=hashes))
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(
                f"{'mended  ' if finding.mended else ''}{finding.problem}  "
                f"{output.printable(finding.subject)}\n    {output.printable(finding.message)}"
            )
        click.echo(_summary(len(findings), sum(finding.mended for finding in findings)))
    if any(not finding.mended for finding in findings):
        raise click.exceptions.Exit(1)


def _summary(count: int, mended: int) -> str:
    if count == 0:
        return "Everything is as recorded."
    found = f"{count} finding{'' if count == 1 else 's'}"
    if mended == 0:
        return f"{found}."
    return f"{found}, mended." if mended == count else f"{found}, {mended} mended."


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
def upgrade() -> None:
    """Bring the database to what this version needs."""
    from lamindb.db import migrate
    from lamindb.db.database import Database

    configuration = config.configuration()
    database = Database(configuration)
    try:
        before = migrate.revision(database)
        backup = migrate.upgrade(database)
    finally:
        database.dispose()
    if before == migrate.HEAD:
        click.echo(f"The database is at revision {before}, as it should be.")
        return
    click.echo(f"upgraded from revision {before} to {migrate.HEAD}")
    if backup:
        click.echo(f"  backup  {backup}")
