"""What Prefect tells at the end of a run: hooks that it calls beside the user's own."""

from __future__ import annotations

import datetime as dt
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.utilities.collections import visit_collection
from prefect.utilities.engine import resolve_to_final_result

from lamindb.hooks import RunFinished, RunLinked, describe_error, describe_params, emit, mask_text
from lamindb_prefect import attempts, contexts, kept, quiet
from lamindb_prefect.contexts import id_of
from lamindb_prefect.definitions import Kind
from lamindb_prefect.files import Files
from lamindb_prefect.functions import TrackedFunction
from lamindb_prefect.guard import guarded
from lamindb_prefect.runs import of_user, run_started, status_of, upstream_of

# also in the processes of workers, which import this with the tasks they are sent
quiet.hide_hooks()


def lamindb_task_ended(task: Any, task_run: Any, state: State[Any]) -> None:
    """Record the end of a task run; Prefect logs its hooks by name."""
    _record_end(task, task_run, state)


def lamindb_flow_ended(flow: Any, flow_run: Any, state: State[Any]) -> None:
    """Record the end of a flow run, also from the runner that has killed it."""
    _record_end(flow, flow_run, state)
    kept.forget(flow_run.id)


def lamindb_rolled_back(transaction: Any) -> None:
    """Record that a transaction has undone what a task did."""
    _record_rollback(transaction)


lamindb_rolled_back.log_on_run = False  # type: ignore[attr-defined]

HOOKS: dict[Kind, dict[str, Any]] = {
    "task": {
        "on_completion_hooks": lamindb_task_ended,
        "on_failure_hooks": lamindb_task_ended,
        "on_rollback_hooks": lamindb_rolled_back,
    },
    "flow": {
        "on_completion_hooks": lamindb_flow_ended,
        "on_failure_hooks": lamindb_flow_ended,
        "on_crashed_hooks": lamindb_flow_ended,
        "on_cancellation_hooks": lamindb_flow_ended,
    },
}


@guarded
def _record_end(task_or_flow: Any, prefect_run: Any, state: State[Any]) -> None:
    tracked = task_or_flow.fn
    if not isinstance(tracked, TrackedFunction):
        return
    attempt = attempts.taken(id_of(prefect_run.id))
    if attempt is not None:
        if state.is_crashed() and attempt.was_told:
            return  # Prefect has no word for why
        number, error = attempt.number, _error_of(state)
    else:
        number = max(prefect_run.run_count, 1)
        error = _record_without_call(tracked, prefect_run, state, number)
    emit(
        RunFinished(
            run=id_of(prefect_run.id),
            status=status_of(state),
            attempt=number,
            error=error,
            result=_kept_at(state) if _is_kept(state) else None,
        )
    )


def _record_without_call(
    tracked: TrackedFunction, prefect_run: Any, state: State[Any], number: int
) -> str | None:
    """Record the start of a run whose function was not called, or not in this process.

    Returns: what is wrong with it.
    """
    at = dt.datetime.now(dt.UTC)
    run = id_of(prefect_run.id)
    # a runner speaks of its child that was killed, or that it has stopped
    is_here = state.is_completed() or state.is_failed()
    context = TaskRunContext.get() if tracked.definition.kind == "task" else None
    parameters = of_user(tracked, _parameters_of(context, prefect_run))
    emit(
        run_started(
            tracked.definition,
            prefect_run,
            at=at if is_here else prefect_run.start_time or at,
            attempt=number,
            parent=contexts.parent_of(prefect_run.id),
            params=describe_params(parameters),
            is_here=is_here,
        )
    )
    if status_of(state) != "cached":
        return _error_of(state)
    upstream = upstream_of(prefect_run, parameters)
    for other in {each for found in upstream.values() for each in found}:
        emit(RunLinked(run=run, other=id_of(other), role="informed_by"))
    files = Files(run, tracked.definition.options, at)
    files.begin(parameters, frozenset(upstream))
    result = getattr(state.data, "result", None)
    kept.keep(prefect_run, result, is_whole=False)
    missing = files.reused(result)
    if (kept_at := _kept_at(state)) is not None:
        emit(RunLinked(run=run, role="cached_from", result=kept_at))
    return f"its result was reused, but is gone: {', '.join(missing)}" if missing else None


def _parameters_of(context: Any, prefect_run: Any) -> dict[str, Any]:
    if context is None:
        return dict(getattr(prefect_run, "parameters", None) or {})
    resolved: dict[str, Any] = visit_collection(
        dict(context.parameters or {}),
        visit_fn=resolve_to_final_result,
        return_data=True,
        remove_annotations=True,
        context={},
    )
    return resolved


def _kept_at(state: State[Any]) -> str | None:
    metadata = getattr(state.data, "metadata", None)
    return getattr(metadata, "storage_key", None)


def _is_kept(state: State[Any]) -> bool:
    context = TaskRunContext.get()
    is_new = state.is_completed() and state.name != "Cached"
    return is_new and context is not None and bool(context.persist_result)


def _error_of(state: State[Any]) -> str | None:
    if state.is_completed():
        return None
    data = getattr(state.data, "result", state.data)
    if isinstance(data, BaseException):
        text = describe_error(data)
        return f"{state.name}: {text}" if state.name == "TimedOut" else text
    return mask_text(state.message) if state.message else state.name


@guarded
def _record_rollback(transaction: Any) -> None:
    files = transaction.get(attempts.TRANSACTION, None)
    if isinstance(files, Files):
        files.retract("its transaction was rolled back")
