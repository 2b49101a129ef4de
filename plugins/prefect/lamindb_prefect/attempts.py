"""One attempt of a flow run or task run, from before the user's code to after it."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import Abort, Pause
from prefect.transactions import get_transaction

from lamindb.hooks import RunFinished, RunLinked, describe_error, describe_params, emit
from lamindb_prefect import contexts, kept
from lamindb_prefect.files import Files
from lamindb_prefect.functions import TrackedFunction
from lamindb_prefect.guard import guarded
from lamindb_prefect.runs import Status, of_user, run_started, status_of, upstream_of

# attempts that are not over, or whose end Prefect has yet to tell, by our id of the run
_known: dict[str, Attempt] = {}
TRANSACTION = "lamindb"


def own_context(tracked: TrackedFunction) -> Any:
    """Return Prefect's context of the run that calls this very function; None for other calls."""
    if tracked.definition.kind == "task":
        task = TaskRunContext.get()
        return task if task is not None and task.task.fn is tracked else None
    flow = FlowRunContext.get()
    is_own = flow is not None and flow.flow is not None and flow.flow.fn is tracked
    return flow if is_own else None


@guarded
def begin(tracked: TrackedFunction, context: Any) -> Attempt | None:
    """Tell that an attempt begins; None if the call is one from inside it."""
    run = context.task_run if isinstance(context, TaskRunContext) else context.flow_run
    former = _known.get(contexts.id_of(run.id))
    if former is not None:
        if not former.is_over:
            return None
        former.give_way()
    attempt = Attempt(tracked, context)
    attempt.start()
    _known[attempt.run] = attempt
    return attempt


async def begin_async(tracked: TrackedFunction, context: Any) -> Attempt | None:
    """As :func:`begin`, with what takes its time beside the event loop."""
    if not tracked.definition.is_resolved:
        await asyncio.to_thread(guarded(tracked.definition.transform))
    return begin(tracked, context)


def taken(run: str) -> Attempt | None:
    """Return and forget the attempt of a run that has come to its end."""
    contexts.suspended.discard(run)
    return _known.pop(run, None)


class Attempt:
    """What is known of an attempt while it lasts."""

    def __init__(self, tracked: TrackedFunction, context: Any) -> None:
        self.definition = tracked.definition
        self.prefect_run = (
            context.task_run if isinstance(context, TaskRunContext) else context.flow_run
        )
        self.run = contexts.id_of(self.prefect_run.id)
        self.number = max(self.prefect_run.run_count, 1)
        self.at = dt.datetime.now(dt.UTC)
        self.is_over = False
        self._context = context
        self.was_told = False
        self._has_yielded = False
        self._files = Files(
            self.run,
            self.definition.options,
            self.at,
            watches_folders=self.definition.kind == "task",  # a flow's are its tasks'
        )
        self._parameters = of_user(tracked, context.parameters or {})

    def start(self) -> None:
        emit(
            run_started(
                self.definition,
                self.prefect_run,
                at=self.at,
                attempt=self.number,
                parent=contexts.parent_of(self.prefect_run.id),
                params=describe_params(self._parameters),
                is_here=True,
            )
        )
        upstream = upstream_of(self.prefect_run, self._parameters)
        self._files.begin(self._parameters, frozenset(upstream))
        for other in {each for found in upstream.values() for each in found}:
            emit(RunLinked(run=self.run, other=contexts.id_of(other), role="informed_by"))

    # --- while it lasts ---------------------------------------------------------------------------

    @guarded
    def yielded(self, value: Any) -> None:
        """A generator hands out a value, and waits."""
        self._has_yielded = True
        self._keep(value, is_whole=False)
        self._files.named_by(value)
        contexts.suspended.add(self.run)

    @guarded
    def resumed(self) -> None:
        contexts.suspended.discard(self.run)

    # --- the end ----------------------------------------------------------------------------------

    @guarded
    def returned(self, result: Any) -> None:
        """The user's code has come to its end; what that means is for Prefect to say."""
        self._end()
        if isinstance(result, State):
            if not result.is_completed():
                self._tell(status_of(result), result.message)
                return
            result = result.data  # Completed(data=...) is a way to return it
        self._keep(result, is_whole=not self._has_yielded)
        self._files.named_by(result)
        self._files.changed_arguments()
        self._files.declared(self.definition.options.outputs, self._parameters)
        for asset in getattr(getattr(self._context, "task", None), "assets", ()):
            self._files.asset(asset.key)
        if self._files.written and isinstance(self._context, TaskRunContext):
            transaction = get_transaction()
            if transaction is not None:
                transaction.set(TRANSACTION, self._files)

    @guarded
    def raised(self, error: BaseException) -> None:
        self._end()
        if isinstance(error, GeneratorExit):
            return  # closed early: it keeps its files, and Prefect calls it completed
        self._tell(*_meaning(error))

    def _keep(self, result: Any, *, is_whole: bool) -> None:
        if isinstance(self._context, TaskRunContext):
            # else what is handed on is read back from storage
            is_whole = is_whole and self._context.task.cache_result_in_memory
            kept.keep(self._context.task_run, result, is_whole=is_whole)

    def _end(self) -> None:
        self.is_over = True
        contexts.suspended.discard(self.run)
        self._files.end()
        self._files.read()

    def _tell(self, status: Status, error: str | None) -> None:
        self.was_told = True
        emit(RunFinished(run=self.run, status=status, attempt=self.number, error=error))

    def give_way(self) -> None:
        """The next attempt begins: whatever this one was taken for, it was not the last."""
        if not self.was_told:
            self._tell("failed", "it is tried again")


def _meaning(error: BaseException) -> tuple[Status, str]:
    text = describe_error(error)
    if isinstance(error, Pause):
        return "cancelled", f"suspended, to be resumed: {text}"
    # what ends a run from outside; Prefect's own CancelledError of a timeout is told again, as such
    is_from_outside = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | Abort) or type(
        error
    ).__name__ in ("CancelledError", "TerminationSignal")
    return ("cancelled" if is_from_outside else "failed"), text
