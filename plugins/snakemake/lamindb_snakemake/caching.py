"""Jobs whose outputs come from Snakemake's cache between workflows: nothing was executed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from lamindb.hooks import RunLinked, emit

logger = logging.getLogger("lamindb")


def watch(workflow: Any, found: Callable[[Any], None]) -> None:
    """Call ``found(job)``, in the job's thread, when a job's outputs were taken from the cache.

    It is the cache that is followed, and not what carries a job out, whose tracebacks users see.
    """
    cache = getattr(workflow, "output_file_cache", None)
    if cache is None:
        return
    former = cache.fetch

    async def fetch(job: Any, *arguments: Any) -> Any:
        result = await former(job, *arguments)
        found(job)
        return result

    cache.fetch = fetch


def link_to_maker(run: str, uri: str, content_hash: str | None) -> None:
    """Tell which earlier run made what was taken, if that is recorded; asks the database."""
    if content_hash is None:
        return
    import lamindb as ln

    files = ln.select(ln.File, hash=content_hash, source_uri=uri, all_versions=True).all()
    makers = {file.run.id for file in files if file.run is not None} - {run}
    for maker in sorted(makers)[:1]:
        emit(RunLinked(run=run, other=maker, role="cached_from"))
