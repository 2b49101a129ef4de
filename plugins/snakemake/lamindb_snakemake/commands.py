"""``lamin snakemake``."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def snakemake() -> None:
    """Record Snakemake workflows that have run already."""


@snakemake.command("import")
@click.argument(
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
)
@click.option(
    "--snakefile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Where it is not Snakefile or workflow/Snakefile.",
)
def import_(folder: Path, snakefile: Path | None) -> None:
    """Record the jobs that ran in FOLDER, from what Snakemake left there.

    Less is known of them than of what is recorded while it runs (snakemake --logger lamindb):
    each run says what is unknown. Importing again adds nothing.
    """
    from lamindb import instance, recorder
    from lamindb_snakemake.importing import import_folder

    instance.current()  # without one, this is an error
    summary = import_folder(folder, snakefile)
    if not recorder.flush():
        raise click.ClickException("the database is busy: what is left is recorded later")
    click.echo(f"{summary.imported} jobs imported, {summary.known} were recorded already.")
    if summary.unsure:
        click.echo(f"{summary.unsure} left out: their outputs are gone, or they did not end.")
