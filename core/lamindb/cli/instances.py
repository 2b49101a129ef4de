"""``lamin init load info close delete``."""

from __future__ import annotations

from dataclasses import asdict

import click

from lamindb import config, setup
from lamindb.cli import output
from lamindb.errors import LaminError


@click.command()
@click.option("--storage", required=True, help="Folder or URL for the objects: ./mydata, s3://b/p.")
@click.option("--name", help="Default: the last part of the storage.")
@click.option("--db", help="SQLAlchemy URL. Default: a SQLite file inside the storage.")
def init(storage: str, name: str | None, db: str | None) -> None:
    """Make an instance, or load the one that is there."""
    known = config.config_of_storage(storage)
    database = known.sqlite_path if known is not None else None
    was_gone = database is not None and not database.exists()
    made = setup.init(storage, name=name, db=db)
    if was_gone:
        state = ", whose database was gone: this is a new one, without records"
    else:
        state = ", which was there already" if known is not None else ""
    click.echo(f"instance {made.name}{state}")
    click.echo(f"  storage   {made.storage}")
    click.echo(f"  database  {made.database}")
    click.echo("Used in this folder and below it, and by you wherever no other instance is.")


@click.command()
@click.argument("instance")
def load(instance: str) -> None:
    """Use an instance from now on.

    INSTANCE is its name, storage or project folder.
    """
    found = setup.load(instance)
    click.echo(f"instance {found.name} with storage {found.storage}")
    try:
        first = config.find_config()
    except LaminError:
        return  # the next command says so
    if (first.storage, first.db) != (found.storage, found.db):
        who = first.path if first.folder else "the environment"
        click.echo(f"Not in this folder: {who} names {first.name!r}, which goes first.")


@click.command()
@output.json_option
def info(as_json: bool) -> None:
    """Show the instance in use."""
    found = setup.info()
    if as_json:
        output.print_json(asdict(found))
        return
    output.print_fields(
        (
            ("instance", found.instance),
            ("storage", found.storage),
            ("database", setup.settings.instance.database),
            ("user", found.user),
            ("configured in", found.configured_in or "the environment"),
            ("records", setup.in_words(found.counts)),
            ("database size", output.size(found.database_bytes)),
            ("version", found.version),
        )
    )


@click.command()
def close() -> None:
    """Use no instance from now on."""
    setup.close()
    click.echo("No current instance. Folders with an instance of their own still use it.")


@click.command()
@click.argument("instance", required=False)
@click.option("--force", is_flag=True, help="Do not ask.")
def delete(instance: str | None, force: bool) -> None:
    """Delete an instance's records, never its data."""
    setup.delete(instance, force=force)
    click.echo("The records are deleted; the data in the storage is untouched.")
