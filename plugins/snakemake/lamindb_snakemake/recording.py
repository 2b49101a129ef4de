"""One execution of a workflow, from its first job to its end.

The methods of :class:`Recording` are called by Snakemake's threads and only look at files; the
rest is done by threads of ours.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lamindb import config, processes
from lamindb.errors import LaminError
from lamindb.hooks import (
    FileRead,
    FileStat,
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
from lamindb_snakemake.code import Namer
from lamindb_snakemake.contents import Content, Held, Holder, read_unchanged
from lamindb_snakemake.flags import Wish, wish_of
from lamindb_snakemake.options import Options
from lamindb_snakemake.writer import Writer

logger = logging.getLogger("lamindb")

ENGINE = "snakemake"
# so much is read at once, by the thread that writes; the rest by others, in their own time
SMALL_BYTES = 1 << 20
_DRAIN_S = 10.0
_HASHING_S = 300.0


@dataclass
class JobState:
    """A job that has begun.

    Attributes: error: what Snakemake said of its failure; held: path → its output, held open
        because it will be gone when the job has ended.
    """

    run: str
    job: Any
    jobid: int
    attempt: int
    start: RunStarted | None = None
    is_open: bool = True
    error: str | None = None
    held: dict[str, Held | Content] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """A file at one moment: stat None where it cannot be seen, and note says why."""

    uri: str
    stat: FileStat | None
    held: Held | Content | None = None
    note: str | None = None
    wish: Wish | None = None


class Recording:
    """What is told of one workflow."""

    def __init__(self, workflow: Any, started: Mapping[str, Any], options: Options) -> None:
        self.workflow = workflow
        self.id = str(started["workflow_id"])
        self.run = run_id(ENGINE, self.id)
        self.options = options
        self.base = os.getcwd()  # noqa: PTH109 - paths are joined a thousand times
        self._started = started
        self._writer = Writer("lamindb-snakemake")
        self._hasher = Writer("lamindb-snakemake-hashes")
        self._holder = Holder()
        self._jobs: dict[int, JobState] = {}
        self._by_job: dict[Any, JobState] = {}
        self._namer: Namer | None = None
        self._has_begun = self._is_cancelled = self._is_over = False
        self._failed: dict[int, JobState] = {}
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
        self._jobs[jobid] = self._by_job[job] = state
        self._failed.pop(jobid, None)
        self.last_error = None
        inputs = list(self._inputs(job))
        self._writer.put(partial(self._write_start, state, at, dict(said), inputs))

    def job_completed(self, job: Any) -> None:
        """Called once a job's outputs are final, and before temporary ones are removed."""
        for member in _members(job):
            state = self._by_job.get(member)
            if state is not None and state.is_open:
                at = utc_now()
                outputs = list(self._outputs(state))
                state.is_open = False
                self._writer.put(partial(self._write_end, state, at, "completed", None, outputs))

    def job_failed(self, job: Any) -> None:
        """Called once an attempt has failed."""
        at = utc_now()
        for member in _members(job):
            state = self._by_job.get(member)
            if state is not None and state.is_open:
                self._end_job(state, "cancelled" if self._is_cancelled else "failed", at)
                self._failed[state.jobid] = state

    def job_erred(self, job: Any, text: str) -> None:
        """Keep what was said of a failure, which :meth:`job_failed` follows."""
        for member in _members(job):
            state = self._by_job.get(member)
            if state is not None and state.is_open:
                state.error = text

    def output_goes(self, job: Any) -> None:
        """Hold the outputs of a job that are about to be moved elsewhere."""
        for member in _members(job):
            state = self._by_job.get(member)
            if state is None or not state.is_open:
                continue
            for file in member.output:
                path = self._path(file)
                if mapping.storage_query(file) is not None and path not in state.held:
                    held = self._hold(path)
                    if held is not None:
                        state.held[path] = held

    def cancelled(self) -> None:
        self._is_cancelled = True

    def finish(self) -> None:
        """Close what is open; waits until all is told, for a bounded time."""
        if self._is_over:
            return
        self._is_over = True
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
        if not self._hasher.end(_DRAIN_S if self._is_cancelled else _HASHING_S):
            logger.warning("some temporary files of the workflow could not be read in time")

    def run_of(self, jobid: Any) -> str | None:
        state = self._jobs.get(jobid)
        return state.run if state is not None else None

    # --- looking, by Snakemake's threads ----------------------------------------------------------

    def _begin(self, at: dt.datetime) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        parent = _parent()
        self._writer.put(partial(self._write_workflow_start, at, parent, list(sys.argv)))

    def _path(self, file: Any) -> str:
        return os.path.normpath(os.path.join(self.base, str(file)))  # noqa: PTH118

    def _inputs(self, job: Any) -> Iterator[_Seen]:
        for file in job.input:
            if _is_stream(file) or job.is_pipe_or_service_input(file):
                continue
            path = self._path(file)
            query = mapping.storage_query(file)
            found = _status(path)
            if query is None:
                if found is not None and self.options.wants(path):
                    yield _Seen(path, found)
            elif found is None:
                yield _Seen(query, None, note="its local copy was not where the workflow runs")
            else:
                yield _Seen(self._query(query), None, self._hold(path))

    def _outputs(self, state: JobState) -> Iterator[_Seen]:
        for file in state.job.output:
            if _is_stream(file):
                continue
            path = self._path(file)
            query = mapping.storage_query(file)
            wish = wish_of(file, state.job.wildcards_dict)
            uri = path if query is None else self._query(query)
            if not self.options.wants(uri):
                continue
            held = state.held.pop(path, None)
            found = _status(path) if held is None else None
            if held is None and (mapping.is_flagged(file, "temp") or query is not None):
                held = self._hold(path) if found is not None else None
            if held is None and found is None:
                yield _Seen(uri, None, None, self._why_missing(file, query), wish)
            else:
                yield _Seen(uri, found, held, None, wish)

    def _hold(self, path: str) -> Held | Content | None:
        try:
            return self._holder.hold(path)
        except (OSError, LaminError) as error:
            return Content(None, note=f"it could not be read: {error}"[:500])

    def _query(self, query: str) -> str:
        """A storage's own address: of a file system, a path."""
        return query if config.is_remote(query) else os.path.join(self.base, query)  # noqa: PTH118

    def _why_missing(self, file: Any, query: str | None) -> str:
        if query is not None:
            return "its local copy was gone before it could be read"
        if mapping.is_flagged(file, "nodelocal"):
            return "it was on the node that ran the job only"
        if mapping.is_flagged(file, "temp"):
            return "it was removed where the job ran, before the workflow's process saw it"
        return "it was not there when the job had ended"

    def _end_job(self, state: JobState, status: RunStatus, at: dt.datetime) -> None:
        if state.is_open:
            state.is_open = False
            for held in state.held.values():
                if isinstance(held, Held):
                    held.close()
            self._writer.put(partial(self._write_end, state, at, status, state.error, []))

    def _outcome(self) -> tuple[RunStatus, str | None]:
        scheduler = getattr(self.workflow, "scheduler", None)
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
        included = [source.get_path_or_uri(secret_free=True) for source in workflow.included]
        self._namer = Namer(str(included[0]))
        me = processes.this_process()
        details = {
            "workflow_id": self.id,
            "snakefile": str(included[0]),
            "included": [str(path) for path in included[1:]] or None,
            "workdir": self.base,
            "command": mask_arguments(argv),
            "snakemake": _version(),
            "executor": _executor_of(workflow),
            "cores": getattr(workflow, "_cores", None),
            "configfiles": [str(path) for path in said.get("configfiles") or ()] or None,
            "targets": _targets_of(workflow),
        }
        emit(
            RunStarted(
                run=self.run,
                engine=ENGINE,
                at=at,
                transform=self._namer.workflow([str(path) for path in included]),
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

    def _write_start(
        self, state: JobState, at: dt.datetime, said: Mapping[str, Any], inputs: list[_Seen]
    ) -> None:
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
        for seen in inputs:
            self._tell_file(partial(FileRead, run=state.run, at=at, how="declared"), seen)

    def _write_end(
        self,
        state: JobState,
        at: dt.datetime,
        status: RunStatus,
        error: str | None,
        outputs: list[_Seen],
    ) -> None:
        self._complete_params(state)
        for seen in outputs:
            wish = seen.wish
            is_kept = seen.stat is not None and seen.held is None
            event = partial(
                FileWritten,
                run=state.run,
                at=at,
                how="declared",
                copy=is_kept and self.options.copy,
                key=wish.key if wish is not None and is_kept else None,
                description=wish.description if wish is not None else None,
            )
            self._tell_file(event, seen)
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

    def _tell_file(self, event: Callable[..., FileRead | FileWritten], seen: _Seen) -> None:
        """Tell of a file with its hash, where that is known or quickly read."""
        if seen.held is not None:
            self._hasher.put(partial(_tell_held, event, seen.uri, seen.held))
            return
        content = None
        if seen.stat is not None and seen.stat.size <= SMALL_BYTES:
            content = read_unchanged(seen.uri, seen.stat)
        if content is None:
            emit(event(uri=seen.uri, stat=seen.stat, hash_note=seen.note))
        else:
            emit(
                event(uri=seen.uri, stat=seen.stat, hash=content.hash, hash_type=content.hash_type)
            )


_UNSAID = {
    "failed": "Snakemake gave no reason: see its output, or the job's log",
    "cancelled": "the workflow was stopped before the job's end",
}


def _tell_held(
    event: Callable[..., FileRead | FileWritten], uri: str, held: Held | Content
) -> None:
    content = held.read() if isinstance(held, Held) else held
    emit(
        event(
            uri=uri,
            size=content.size,
            hash=content.hash,
            hash_type=content.hash_type,
            hash_note=content.note,
        )
    )


def _status(path: str) -> FileStat | None:
    """Look at a regular file or a folder; None for anything else."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    return FileStat.from_result(found)


def _is_stream(file: Any) -> bool:
    return mapping.is_flagged(file, "pipe") or mapping.is_flagged(file, "service")


def _is_target(job: Any) -> bool:
    """Whether a job only stands for its inputs, as that of a rule ``all`` does."""
    return bool(job.rule.norun) and not job.output


def _members(job: Any) -> Any:
    return list(job) if job.is_group() else [job]


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
