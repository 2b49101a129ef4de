"""In which tracked run code executes, as Prefect's own contexts say.

They reach every thread, process and machine that Prefect runs tasks in, so there is no context
variable of our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Token
from functools import lru_cache
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext

from lamindb import config
from lamindb.hooks import run_id
from lamindb.modules import loaded
from lamindb_prefect.functions import TrackedFunction

# runs whose generator waits at a yield: their context stays visible to the code that consumes it
suspended: set[str] = set()


@lru_cache(maxsize=4096)
def id_of(prefect_id: object) -> str:
    """Return the id of our Run of a flow run or task run."""
    return run_id("prefect", str(prefect_id))


def current_run() -> str | None:
    """Return the id of the innermost tracked run around this code."""
    return _innermost(TaskRunContext.get(), FlowRunContext.get())


def parent_of(prefect_id: object) -> str | None:
    """Return the run inside which a run of Prefect's began, seen from inside or at its end."""
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    return _innermost(task, flow, without=prefect_id) or started_by()


def _innermost(
    task_context: TaskRunContext | None, flow_context: FlowRunContext | None, without: object = None
) -> str | None:
    tasks = [each for each in _chain(task_context) if _counts(each, without)]
    for flow in _chain(flow_context):
        flow_run = flow.flow_run
        if flow_run is None or flow_run.id == without:
            continue
        # a task around a subflow is of another flow run than the subflow
        inner = next((each for each in tasks if each.task_run.flow_run_id == flow_run.id), None)
        if inner is not None:
            return id_of(inner.task_run.id)
        if is_tracked(flow.flow):
            return id_of(flow_run.id)
    return id_of(tasks[0].task_run.id) if tasks else None


def _counts(context: TaskRunContext, without: object) -> bool:
    run = context.task_run.id
    return run != without and is_tracked(context.task) and id_of(run) not in suspended


def is_tracked(task_or_flow: Any) -> bool:
    return isinstance(getattr(task_or_flow, "fn", None), TrackedFunction)


def _chain(context: Any) -> Iterator[Any]:
    """Yield a context and those in which it was entered, the innermost first."""
    while context is not None:
        yield context
        token = getattr(context, "_token", None)
        outer = token.old_value if token is not None else None
        context = None if outer is Token.MISSING else outer


def started_by() -> str | None:
    """Return the run, of another engine or of ``ln.track()``, inside which a flow was started."""
    tracked_outside = loaded("lamindb.records.active", "tracked_outside")
    tracked = tracked_outside() if tracked_outside is not None else None
    return tracked.id if tracked is not None else config.parent_run_id()
