"""What Prefect tells at the end of a run: hooks that it calls beside the user's own."""

from __future__ import annotations

import datetime as dt
from typing import Any

from prefect.client.schemas.objects import State

from lamindb.hooks import RunFinished, describe_error, describe_params, emit, mask_text
from lamindb_prefect import attempts, quiet
from lamindb_prefect.contexts import id_of
from lamindb_prefect.definitions import Kind
from lamindb_prefect.files import Files
from lamindb_prefect.functions import TrackedFunction
from lamindb_prefect.guard import guarded
from lamindb_prefect.runs import run_started, status_of

# also in the processes of workers, which import this with the tasks they are sent
quiet.hide_hooks()


def lamindb_ended(task_or_flow: Any, prefect_run: Any, state: State[Any]) -> None:
    """Record the end of a run; Prefect shows the name of its hooks."""
    _record_end(task_or_flow, prefect_run, state)


def lamindb_rolled_back(transaction: Any) -> None:
    """Record that a transaction has undone what a task did."""
    _record_rollback(transaction)


lamindb_rolled_back.log_on_run = False  # type: ignore[attr-defined]

HOOKS: dict[Kind, dict[str, Any]] = {
    "task": {
        "on_completion_hooks": lamindb_ended,
        "on_failure_hooks": lamindb_ended,
        "on_rollback_hooks": lamindb_rolled_back,
    },
    "flow": {
        "on_completion_hooks": lamindb_ended,
        "on_failure_hooks": lamindb_ended,
        "on_crashed_hooks": lamindb_ended,
        "on_cancellation_hooks": lamindb_ended,
    },
}


@guarded
def _record_end(task_or_flow: Any, prefect_run: Any, state: State[Any]) -> None:
    tracked = task_or_flow.fn
    if not isinstance(tracked, TrackedFunction):
        return
    run = id_of(prefect_run.id)
    attempt = attempts.taken(run)
    number = attempt.number if attempt is not None else max(prefect_run.run_count, 1)
    status = status_of(state)
    if attempt is None:
        emit(
            run_started(
                tracked.definition,
                prefect_run,
                at=prefect_run.start_time or dt.datetime.now(dt.UTC),
                attempt=number,
                params=describe_params(getattr(prefect_run, "parameters", {})),
                is_here=False,
            )
        )
    emit(
        RunFinished(
            run=run,
            status=status,
            attempt=number,
            error=None if state.is_completed() else _error_of(state),
        )
    )


def _error_of(state: State[Any]) -> str | None:
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
