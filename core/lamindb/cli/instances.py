"""``lamin init load info close delete``."""

from __future__ import annotations

from dataclasses import asdict

import click

from lamindb import setup
from lamindb.cli import output


@click.command()
@click.option("--storage", required=True, help="Folder or URL for the objects: ./mydata, s3://b/p.")
@click.option("--name", help="Default: the last part of the storage.")
@click.option("--db", help="SQLAlchemy URL. Default: a SQLite file inside the storage.")
def init(storage: str, name: str | None, db: str | None) -> None:
    """Make an instance, or load the one that is there."""
    made = setup.init(storage, name=name, db=db)
    click.echo(f"instance {made.name}")
    click.echo(f"  storage   {made.storage}")
    click.echo(f"  database  {made.db}")
    click.echo("Used in this folder and below it, and by you wherever no other instance is.")


@click.command()
@click.argument("instance")
def load(instance: str) -> None:
    """Use an instance from now on: its name, storage or project folder."""
    found = setup.load(instance)
    click.echo(f"instance {found.name} with storage {found.storage}")


@click.command()
@output.json_option
def info(as_json: bool) -> None:
    """Show the instance in use."""
    found = setup.info()
    if as_json:
        output.print_json(asdict(found))
        return
    rows = {
        "instance": found.instance,
        "storage": found.storage,
        "database": found.database,
        "user": found.user,
        "configured in": found.configured_in or "the environment",
        "records": ", ".join(f"{count} {name}" for name, count in found.counts.items()),
        "database size": output.size(found.database_bytes),
        "version": found.version,
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name:<14} {value}")


@click.command()
def close() -> None:
    """Use no instance from now on, but those of folders."""
    setup.close()
    click.echo("No current instance. Folders with an instance of their own still use it.")


@click.command()
@click.argument("instance", required=False)
@click.option("--force", is_flag=True, help="Do not ask.")
def delete(instance: str | None, force: bool) -> None:
    """Delete an instance's records, never its data."""
    setup.delete(instance, force=force)
    click.echo("The records are deleted; the data in the storage is untouched.")
