"""In the processes that a cluster runs: outputs that the workflow's own process never sees.

Only a Snakefile that imports us gets us there, since Snakemake gives such processes no logger
plugin.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Any

from lamindb.errors import LaminError
from lamindb.hooks import FileWritten, emit
from lamindb_snakemake import channel, mapping
from lamindb_snakemake.contents import Content, Held, Holder
from lamindb_snakemake.frames import LOGGER

logger = logging.getLogger("lamindb")


class _Child(logging.Handler):
    """Waits for the jobs of this process to be known, and is told of their ends from then on."""

    def __init__(self, workflow: Any) -> None:
        super().__init__()
        self._workflow = workflow
        self._holder = Holder()

    def emit(self, record: logging.LogRecord) -> None:
        dag = getattr(self._workflow, "_dag", None)
        if dag is None:
            return
        logging.getLogger(LOGGER).removeHandler(self)
        try:
            former = dag.finish
        except AttributeError:
            return
        dag.finish = partial(self._finish, former)

    async def _finish(self, former: Any, job: Any, *arguments: Any, **named: Any) -> Any:
        try:
            for member in list(job) if job.is_group() else [job]:
                self._tell_outputs(member)
        except Exception as error:  # the job has done its work
            logger.warning("the outputs of %s are not recorded: %s", job, error)
        return await former(job, *arguments, **named)

    def _tell_outputs(self, job: Any) -> None:
        run = channel.given_run(job.rule.name, job.wildcards_dict or {})
        if run is None:
            return
        for file in job.output:
            query = mapping.storage_query(file)
            if query is None and not mapping.is_flagged(file, "temp"):
                continue  # the workflow's own process sees it
            path = os.path.abspath(file)  # noqa: PTH100 - no Path is made of it
            try:
                held = self._holder.hold(path)
            except (OSError, LaminError):
                continue
            content: Content = held.read() if isinstance(held, Held) else held
            emit(
                FileWritten(
                    run=run,
                    uri=query or path,
                    how="declared",
                    size=content.size,
                    hash=content.hash,
                    hash_type=content.hash_type,
                    hash_note=content.note,
                )
            )


def attach_to_child(workflow: Any) -> None:
    """Tell of outputs, where this process runs a job of a workflow that is recorded elsewhere."""
    if channel.VARIABLE not in os.environ or not getattr(workflow, "remote_exec", False):
        return
    snakemake = logging.getLogger(LOGGER)
    if not any(isinstance(handler, _Child) for handler in snakemake.handlers):
        snakemake.addHandler(_Child(workflow))
