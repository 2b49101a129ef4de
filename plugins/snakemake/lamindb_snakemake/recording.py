"""One execution of a workflow, from its first job to its end.

The methods of :class:`Recording` are called by Snakemake's threads and only look at files; the
rest is done by threads of ours.
"""

from __future__ import annotations

import atexit
import datetime as dt
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lamindb import config, processes
from lamindb.hooks import (
    FileRead,
    FileWritten,
    RunFinished,
    RunStarted,
    describe_params,
    emit,
    environment,
    mask_arguments,
    run_id,
)
from lamindb.hooks.events import RunStatus, utc_now
from lamindb_snakemake import mapping
from lamindb_snakemake.code import Namer, location_of
from lamindb_snakemake.contents import Content, Held
from lamindb_snakemake.files import Files, Seen
from lamindb_snakemake.options import Options
from lamindb_snakemake.said import MISSING, SaidWorkflow
from lamindb_snakemake.writer import Writer

logger = logging.getLogger("lamindb")

ENGINE = "snakemake"
_DRAIN_S = 10.0
# what was told before may be many files to read
_TOLD_S = 2.0
_HASHING_S = 300.0


@dataclass
class JobState:
    """A job that has begun.

    Attributes: error: what Snakemake said of its failure; held: path → its output, held open
        because it will be gone when the job has ended; late: inputs that were not there when it
        was submitted, since others of its group made them; told: set once its start is on disk,
        and forgotten then.
    """

    run: str
    job: Any
    jobid: int
    attempt: int
    start: RunStarted | None = None
    is_open: bool = True
    is_cached: bool = False
    error: str | None = None
    held: dict[str, Held | Content] = field(default_factory=dict)
    late: list[Seen] = field(default_factory=list)
    told: threading.Event | None = field(default_factory=threading.Event)


class Recording:
    """What is told of one workflow."""

    def __init__(self, workflow: Any, started: Mapping[str, Any], options: Options) -> None:
        self.workflow = workflow
        self.id = str(started["workflow_id"])
        self.run = run_id(ENGINE, self.id)
        self.options = options
        self.base = os.getcwd()  # noqa: PTH109 - paths are joined a thousand times
        self._pid = os.getpid()
        self._started = started
        self._writer = Writer("lamindb-snakemake")
        self._files = Files(self.base, options)
        self._jobs: dict[int, JobState] = {}
        self._namer: Namer | None = None
        self._has_begun = self._is_cancelled = self._is_over = False
        self._is_interrupted = False
        self._failed: dict[int, JobState] = {}
        self._behind: JobState | None = None
        self._broken_by: str | None = None
        self.last_error: str | None = None

    # --- what Snakemake tells ---------------------------------------------------------------------

    def job_began(self, job: Any, said: Mapping[str, Any]) -> None:
        jobid = int(said["jobid"])
        if self._is_over or _is_target(job):
            return
        at = utc_now()
        self._begin(at)
        former = self._jobs.get(jobid)
        if former is not None:
            self._end_job(former, "failed", at)
        run = run_id(ENGINE, f"{self.id}/{jobid}")
        state = JobState(run, job, jobid, int(getattr(job, "attempt", 1)))
        self._jobs[jobid] = state
        self._failed.pop(jobid, None)
        self.last_error = None
        inputs = _gathered(self._files.inputs(job))
        state.late = [seen for seen in inputs if seen.is_missing]
        inputs = [seen for seen in inputs if not seen.is_missing]
        self._writer.put(partial(self._write_start, state, at, dict(said)))
        if inputs:
            self._writer.put(partial(self._write_inputs, state, at, inputs))

    def job_completed(self, job: Any) -> None:
        """Called once a job's outputs are final, and before temporary ones are removed."""
        ended = list(self._open_jobs(job))
        for state in ended:
            at = utc_now()
            state.is_open = False
            outputs = _gathered(self._files.outputs(state.job, state.held))
            status: RunStatus = "cached" if state.is_cached else "completed"
            self._writer.put(partial(self._write_end, state, at, status, None, outputs))
        for state in ended:
            if state.late:
                self._writer.put(partial(self._write_inputs, state, utc_now(), state.late))

    def job_failed(self, job: Any) -> None:
        """Called once an attempt has failed."""
        at = utc_now()
        for state in self._open_jobs(job):
            self._end_job(state, "cancelled" if self._is_cancelled else "failed", at)
            self._failed[state.jobid] = state

    def job_erred(self, job: Any, text: str) -> None:
        """Keep what was said of a failure, which :meth:`job_failed` follows."""
        for state in self._open_jobs(job):
            state.error = text

    def job_cached(self, job: Any) -> None:
        """Called when a job's outputs came from a cache, which :meth:`job_completed` follows."""
        for state in self._open_jobs(job):
            state.is_cached = True

    def output_goes(self, job: Any) -> None:
        """Hold the outputs of a job that are about to be moved elsewhere."""
        for state in self._open_jobs(job):
            state.held |= self._files.held_in_storage(state.job)

    def cancelled(self, reason: BaseException | None) -> None:
        """Called when running jobs are stopped.

        Args: reason: what Snakemake is handling: an interrupt, or an error of the workflow's own.
        """
        self._is_cancelled = True
        self._is_interrupted |= isinstance(reason, KeyboardInterrupt)
        if isinstance(reason, Exception):
            self._broken_by = f"{type(reason).__name__}: {reason}"

    def finish(self) -> None:
        """Close what is open; waits until all is told, for a bounded time."""
        if self._is_over:
            return
        self._is_over = True
        atexit.unregister(self.finish)
        if self._has_begun:
            at = utc_now()
            for state in self._jobs.values():
                if state.is_open:
                    status: RunStatus = "failed" if state.error else "cancelled"
                    self._end_job(state, "cancelled" if self._is_cancelled else status, at)
                    if state.error:
                        self._failed[state.jobid] = state
            self._writer.put(partial(self._write_workflow_end, at, *self._outcome()))
        self._writer.end(_DRAIN_S)
        if not self._files.end(_DRAIN_S if self._is_cancelled else _HASHING_S):
            logger.warning("some temporary files of the workflow could not be read in time")

    def run_of(self, jobid: Any) -> str | None:
        state = self._jobs.get(jobid)
        return state.run if state is not None else None

    def wait_until_told(self, jobid: Any) -> bool:
        """Wait until the start of a job, and all that was before, is on disk.

        Called by the job's own thread before its process starts, which may be the end of this one.
        Where writing takes too long the job goes on, and none waits until that is written.

        Returns: False where the workflow was interrupted meanwhile, as its jobs were.
        """
        state = self._jobs.get(jobid)
        told = state.told if state is not None else None
        # nobody writes in a child that the code of a job has forked
        if told is None or self._pid != os.getpid():
            return True
        if self._behind is not None and self._behind.told is not None:
            return True
        self._writer.hurry()
        self._behind = None if told.wait(_TOLD_S) else state
        return not self._is_interrupted

    # --- by Snakemake's threads -------------------------------------------------------------------

    def _open_jobs(self, job: Any) -> Iterator[JobState]:
        """Yield the jobs of a group, or the one, that have begun and not ended."""
        for member in list(job) if job.is_group() else [job]:
            state = self._jobs.get(member.jobid)
            if state is not None and state.is_open:
                yield state

    def _begin(self, at: dt.datetime) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        parent = _parent()
        self._writer.put(partial(self._write_workflow_start, at, parent, list(sys.argv)))

    def _end_job(self, state: JobState, status: RunStatus, at: dt.datetime) -> None:
        if state.is_open:
            state.is_open = False
            for held in state.held.values():
                if isinstance(held, Held):
                    held.close()
            self._writer.put(partial(self._write_end, state, at, status, state.error, []))

    def _outcome(self) -> tuple[RunStatus, str | None]:
        scheduler = getattr(self.workflow, "scheduler", None)
        if self._broken_by is not None:
            # what Snakemake says of it says also where
            return "failed", mapping.error_text(self.last_error or self._broken_by)
        if self._is_cancelled or getattr(scheduler, "_user_kill", None):
            return "cancelled", "the workflow was stopped before its end"
        if self._failed:
            first = next(iter(self._failed.values()))
            more = f", and {len(self._failed) - 1} more" if len(self._failed) > 1 else ""
            return "failed", f"{mapping.job_title(first.job)} failed{more}"
        if self.last_error:
            return "failed", mapping.error_text(self.last_error)
        left = _count_left(self.workflow)
        if left:
            return "failed", f"it ended before {left} of its jobs began"
        return "completed", None

    # --- telling, by our threads ------------------------------------------------------------------

    def _write_workflow_start(self, at: dt.datetime, parent: str | None, argv: list[str]) -> None:
        workflow, said = self.workflow, self._started
        included = [location_of(source) for source in workflow.included]
        self._namer = Namer(included[0])
        me = processes.this_process()
        details = {
            "workflow_id": self.id,
            "snakefile": included[0],
            "included": included[1:] or None,
            "workdir": self.base,
            "command": mask_arguments(argv),
            "snakemake": _version(),
            "executor": _executor_of(workflow),
            "cores": getattr(workflow, "_cores", None),
            "configfiles": [str(path) for path in said.get("configfiles") or ()] or None,
            "targets": _targets_of(workflow),
            "unknown": MISSING if isinstance(workflow, SaidWorkflow) else None,
        }
        emit(
            RunStarted(
                run=self.run,
                engine=ENGINE,
                at=at,
                transform=self._namer.workflow(included),
                parent=parent if parent != self.run else None,
                params=describe_params(dict(workflow.config or {})),
                host=me.host,
                pid=me.pid,
                process_started_at=processes.start_time(me),
                reference=self.id,
                reference_type="id",
                environment=environment(),
                details={name: value for name, value in details.items() if value is not None},
            )
        )
        # older versions close no handlers; registered now, it is called before the recorder ends
        atexit.register(self.finish)

    def _write_start(self, state: JobState, at: dt.datetime, said: Mapping[str, Any]) -> None:
        try:
            self._tell_start(state, at, said)
        finally:
            told, state.told = state.told, None
            if told is not None:
                told.set()

    def _tell_start(self, state: JobState, at: dt.datetime, said: Mapping[str, Any]) -> None:
        job = state.job
        assert self._namer is not None
        script = mapping.script_of(job)
        me = processes.this_process()
        params = getattr(job, "_params", None)
        state.start = RunStarted(
            run=state.run,
            engine=ENGINE,
            at=at,
            attempt=state.attempt,
            transform=self._namer.rule(job.rule, script),
            parent=self.run,
            name=mapping.job_title(job),
            params=None if params is None else mapping.params_of(params),
            host=me.host,
            pid=me.pid,
            process_started_at=processes.start_time(me),
            reference=f"{self.id}/{state.jobid}",
            reference_type="id",
            environment=environment(),
            details=mapping.job_details(job, script, said),
        )
        emit(state.start)

    def _write_inputs(self, state: JobState, at: dt.datetime, inputs: list[Seen]) -> None:
        for seen in inputs:
            self._files.tell(partial(FileRead, run=state.run, at=at, how="declared"), seen)

    def _write_end(
        self,
        state: JobState,
        at: dt.datetime,
        status: RunStatus,
        error: str | None,
        outputs: list[Seen],
    ) -> None:
        self._complete_params(state)
        for seen in outputs:
            wish = seen.wish
            event = partial(
                FileWritten,
                run=state.run,
                at=at,
                how="declared",
                copy=seen.stays and self.options.copy,
                key=wish.key if wish is not None and seen.stays else None,
                description=wish.description if wish is not None else None,
            )
            self._files.tell(event, seen)
            if state.is_cached:
                self._files.tell_maker(state.run, seen)
        details = mapping.exit_details(error)
        emit(
            RunFinished(
                run=state.run,
                at=at,
                status=status,
                attempt=state.attempt,
                error=mapping.error_text(error) if error else _UNSAID.get(status),
                details={ENGINE: details} if details else None,
            )
        )

    def _complete_params(self, state: JobState) -> None:
        """Params of a script are evaluated after its job has begun."""
        params = getattr(state.job, "_params", None)
        start = state.start
        if start is not None and start.params is None and params is not None:
            emit(
                RunStarted(
                    run=state.run,
                    engine=ENGINE,
                    at=start.at,
                    attempt=state.attempt,
                    params=mapping.params_of(params),
                )
            )

    def _write_workflow_end(self, at: dt.datetime, status: RunStatus, error: str | None) -> None:
        emit(RunFinished(run=self.run, at=at, status=status, error=error))


_UNSAID = {
    "failed": "Snakemake gave no reason: see its output, or the job's log",
    "cancelled": "the workflow was stopped before the job's end",
}


def _is_target(job: Any) -> bool:
    """Whether a job only stands for its inputs, as that of a rule ``all`` does."""
    return bool(job.rule.norun) and not job.output


def _gathered(files: Iterator[Seen]) -> list[Seen]:
    """Return what could be looked at: of a job, its end counts more than its files."""
    found: list[Seen] = []
    try:
        found.extend(files)
    except Exception as error:  # whatever is wrong with one of them
        logger.warning(
            "a file of the workflow is not recorded: %s: %s", type(error).__name__, error
        )
    return found


def _parent() -> str | None:
    """The run inside which the workflow was started."""
    from lamindb.hooks import manager

    found: str | None = manager.first("ln_current_run")
    return found or config.parent_run_id()


def _count_left(workflow: Any) -> int:
    try:
        return sum(1 for _ in workflow.dag.needrun_jobs())
    except Exception:  # no such question in that version
        return 0


def _version() -> str | None:
    from importlib.metadata import version

    return version("snakemake")


def _executor_of(workflow: Any) -> str | None:
    return getattr(getattr(workflow, "_executor_plugin", None), "_name", None) or getattr(
        getattr(workflow, "executor_plugin", None), "name", None
    )


def _targets_of(workflow: Any) -> list[str] | None:
    settings = getattr(workflow, "dag_settings", None)
    return sorted(str(target) for target in getattr(settings, "targets", None) or ()) or None
