"""The plugin that lamindb loads by entry point."""

from __future__ import annotations

from lamindb.hooks import hookimpl
from lamindb_snakemake import channel


@hookimpl
def ln_current_run() -> str | None:
    """Return the run of the job whose ``script:``, ``run:`` or notebook asks."""
    return channel.current_run()
