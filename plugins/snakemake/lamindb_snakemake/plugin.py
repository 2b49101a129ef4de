"""The plugin that lamindb loads by entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamindb.hooks import hookimpl
from lamindb_snakemake import channel

if TYPE_CHECKING:
    import click


@hookimpl
def ln_current_run() -> str | None:
    """Return the run of the job whose ``script:``, ``run:`` or notebook asks."""
    return channel.current_run()


@hookimpl
def ln_cli(group: click.Group) -> None:
    """Add ``lamin snakemake``."""
    from lamindb_snakemake.commands import snakemake

    group.add_command(snakemake)
