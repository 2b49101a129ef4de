"""Sees what Snakemake says, and finds the objects that it speaks of.

Snakemake has no hooks. It says everything to its logger, though, in the thread in which it happens;
and from there its workflow can be found, which knows more than it says.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from logging.handlers import QueueHandler
from typing import Any

from lamindb import config
from lamindb_snakemake import caching, channel
from lamindb_snakemake.frames import LOGGER, local_of, workflow_here
from lamindb_snakemake.options import Options
from lamindb_snakemake.recording import Recording
from lamindb_snakemake.said import MISSING, SaidJob, SaidWorkflow

logger = logging.getLogger("lamindb")


class Tap(logging.Handler):
    """A handler of Snakemake's log records that is called by the thread that logs."""

    def __init__(self, options: Options, *, is_dryrun: bool) -> None:
        super().__init__()
        self._options = options
        self._is_dryrun = is_dryrun
        self._recording: Recording | None = None
        self._started: dict[str, Any] | None = None
        # the jobs by number, where nothing is known but what is said of them
        self._said: dict[int, SaidJob] | None = None
        self._undo: list[Callable[[], None]] = []
        self._has_failed = False
        self._on: dict[str, Callable[[logging.LogRecord], None]] = {
            "workflow_started": self._on_workflow_started,
            "run_info": self._on_run_info,
            "job_info": self._on_job_info,
            "job_finished": self._on_job_finished,
            "job_error": self._on_job_error,
            "error": self._on_error,
        }

    def emit(self, record: logging.LogRecord) -> None:
        act = self._on.get(getattr(record, "event", None) or "")
        if act is None:
            return
        try:
            act(record)
        except Exception as error:  # Snakemake is in the middle of its work
            self._tell(error)

    def close(self) -> None:
        """Called when Snakemake takes its handlers off, at the end of each use of it."""
        try:
            self._finish()
        except Exception as error:  # as above
            self._tell(error)
        super().close()

    def _tell(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            logger.warning(
                "the workflow is not recorded completely: %s: %s", type(error).__name__, error
            )

    # --- records ----------------------------------------------------------------------------------

    def _on_workflow_started(self, record: logging.LogRecord) -> None:
        self._finish()
        self._started = vars(record)

    def _on_run_info(self, record: logging.LogRecord) -> None:
        """The jobs are known, and so is what carries them out."""
        if self._recording is not None or self._started is None:
            return
        workflow = workflow_here()
        if self._is_dryrun or (workflow is not None and (workflow.dryrun or workflow.touch)):
            return
        remote = getattr(workflow, "remote_execution_settings", None)
        if getattr(remote, "immediate_submit", False):
            logger.warning("with --immediate-submit no end is seen: the workflow is not recorded")
            return
        if self._options.instance:
            config.choose(config.config_named(self._options.instance))
        if workflow is None:
            self._record_what_is_said(self._started)
            return
        self._recording = Recording(workflow, self._started, self._options)
        _spare_queue(workflow)
        self._follow(workflow, self._recording)

    def _on_job_info(self, record: logging.LogRecord) -> None:
        if self._recording is None:
            return
        said = vars(record)
        job = local_of("log_info", "self") if self._said is None else self._said_job(said)
        if job is not None:
            self._recording.job_began(job, vars(record))

    def _on_error(self, record: logging.LogRecord) -> None:
        if self._recording is None:
            return
        text = record.getMessage()
        submitted = local_of("_callback", "job_info")
        job = submitted.job if submitted is not None else local_of("postprocess", "job")
        if job is not None:
            self._recording.job_erred(job, text)
        else:
            self._recording.last_error = text

    # --- where the workflow is hidden  ------------------------------------------------------------

    def _record_what_is_said(self, started: dict[str, Any]) -> None:
        """Fall back on the records alone."""
        logger.warning("this Snakemake hides its workflow, so that these are unknown: %s", MISSING)
        place = started.get("snakefile_main") or started.get("snakefile") or "Snakefile"
        self._recording = Recording(SaidWorkflow(str(place)), started, self._options)
        self._said = {}

    def _said_job(self, said: dict[str, Any]) -> SaidJob:
        assert self._said is not None
        jobid = int(said["jobid"])
        former = self._said.get(jobid)
        self._said[jobid] = SaidJob.of(said, former.attempt + 1 if former is not None else 1)
        return self._said[jobid]

    def _on_job_finished(self, record: logging.LogRecord) -> None:
        if self._recording is not None and self._said is not None:
            job = self._said.get(int(vars(record)["job_id"]))
            if job is not None:
                self._recording.job_completed(job)

    def _on_job_error(self, record: logging.LogRecord) -> None:
        if self._recording is not None and self._said is not None:
            job = self._said.get(int(vars(record)["jobid"]))
            if job is not None:
                self._recording.job_failed(job)

    # --- what carries the jobs out ----------------------------------------------------------------

    def _follow(self, workflow: Any, recording: Recording) -> None:
        """Be told of ends, which are not always logged, and of files before they go."""
        _before(workflow.dag, "finish", recording.job_completed)
        _before(workflow.dag, "handle_storage", recording.output_goes)
        scheduler = workflow.scheduler
        _before(scheduler, "_handle_error", recording.job_failed)

        def environment_of(jobid: Any) -> dict[str, str] | None:
            run = recording.run_of(jobid)
            return channel.variables(run, {}, self._options.instance) if run else None

        def environment_of_started(jobid: Any) -> dict[str, str] | None:
            if not recording.wait_until_told(jobid):
                raise channel.NotStartedError
            return environment_of(jobid)

        def environment_of_submitted(job: Any) -> dict[str, str] | None:
            if not job.is_group():
                return environment_of(job.jobid)
            members = {
                channel.job_name(member.rule.name, member.wildcards_dict or {}): run
                for member in job
                if (run := recording.run_of(member.jobid)) is not None
            }
            return channel.variables(recording.run, members, self._options.instance)

        for executor in {scheduler._executor, scheduler._local_executor} - {None}:
            _before(executor, "cancel", lambda *_: recording.cancelled(sys.exc_info()[1]))
            self._undo.append(
                channel.give_to_spawned(executor, environment_of_started, environment_of_submitted)
            )
        caching.watch(workflow, recording.job_cached)
        self._undo.append(channel.give_to_shells(environment_of_started))
        channel.run_of_job = recording.run_of

    def _finish(self) -> None:
        while self._undo:
            self._undo.pop()()
        recording, self._recording, self._started = self._recording, None, None
        self._said = None
        if recording is not None:
            channel.run_of_job = None
            recording.finish()


def _spare_queue(workflow: Any) -> None:
    """Keep Snakemake from queueing each record for a plugin's thread where nobody listens there."""
    plugins = getattr(getattr(workflow, "logger_manager", None), "plugin_handlers", None)
    if plugins and all(handler.level > logging.CRITICAL for handler in plugins):
        for handler in logging.getLogger(LOGGER).handlers:
            if isinstance(handler, QueueHandler):
                handler.setLevel(logging.CRITICAL + 1)


def _before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Have ``act`` called, with the first argument, before each call of an object's method."""
    former = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        try:
            act(*arguments[:1])
        except Exception as error:  # the engine goes on as without us
            logger.debug("%s was not recorded: %s", name, error)
        return former(*arguments, **named)

    setattr(owner, name, call)
