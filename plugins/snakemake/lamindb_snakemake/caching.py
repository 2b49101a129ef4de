"""Jobs whose outputs come from Snakemake's cache between workflows: nothing was executed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from lamindb.hooks import RunLinked, emit

logger = logging.getLogger("lamindb")


def watch(executor: Any, found: Callable[[Any], None]) -> None:
    """Call ``found(job)``, in the job's thread, when a job's outputs were taken from the cache."""
    former = getattr(executor, "cached_or_run", None)
    if former is None:
        return

    def cached_or_run(job: Any, run: Callable[..., Any], *arguments: Any) -> Any:
        has_run = False

        def noted(*given: Any) -> Any:
            nonlocal has_run
            has_run = True
            return run(*given)

        result = former(job, noted, *arguments)
        if not has_run:
            found(job)
        return result

    executor.cached_or_run = cached_or_run


def link_to_maker(run: str, uri: str, content_hash: str | None) -> None:
    """Tell which earlier run made what was taken, if that is recorded; asks the database."""
    if content_hash is None:
        return
    import lamindb as ln

    files = ln.select(ln.File, hash=content_hash, source_uri=uri, all_versions=True).all()
    makers = {file.run.id for file in files if file.run is not None} - {run}
    for maker in sorted(makers)[:1]:
        emit(RunLinked(run=run, other=maker, role="cached_from"))
