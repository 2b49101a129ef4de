"""What Prefect knows of its runs, in the words of events."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from prefect.utilities.urls import url_for

from lamindb.hooks import RunStarted, environment, mask_text
from lamindb.processes import start_time, this_process
from lamindb_prefect import kept
from lamindb_prefect.contexts import id_of
from lamindb_prefect.definitions import Definition, Kind
from lamindb_prefect.functions import TrackedFunction

Status = Literal["completed", "failed", "cancelled", "aborted", "cached"]


def run_started(
    definition: Definition,
    prefect_run: Any,
    *,
    at: dt.datetime,
    attempt: int,
    parent: str | None = None,
    params: dict[str, Any] | None = None,
    is_here: bool,
) -> RunStarted:
    """Describe the start of an attempt.

    Args: is_here: whether it runs in this process, rather than being spoken of from another.
    """
    owner = this_process() if is_here else None
    return RunStarted(
        run=id_of(prefect_run.id),
        engine="prefect",
        attempt=attempt,
        at=at,
        transform=definition.transform(),
        parent=parent,
        name=prefect_run.name,
        params=params,
        host=owner.host if owner else None,
        pid=os.getpid() if owner else None,
        process_started_at=start_time(owner) if owner else None,
        reference=str(prefect_run.id),
        reference_type=f"prefect {definition.kind} run",
        environment=environment() if owner else None,
        details=_details(prefect_run, definition.kind),
    )


def _details(run: FlowRun | TaskRun, kind: Kind) -> dict[str, Any]:
    details: dict[str, Any] = {}
    url = _url_pattern(kind, PREFECT_UI_URL.value() or PREFECT_API_URL.value())
    if url is not None:
        details["url"] = url.replace(_ANY, str(run.id))
    if run.tags:
        details["tags"] = sorted(mask_text(tag) for tag in run.tags)
    if isinstance(run, TaskRun):
        if run.flow_run_id is not None:
            details["flow_run"] = str(run.flow_run_id)
        return details
    for name in ("deployment_id", "work_pool_name", "work_queue_name"):
        if (value := getattr(run, name, None)) is not None:
            details[name.rpartition("_")[0]] = str(value)
    return details


_ANY = "00000000-0000-0000-0000-000000000000"


@cache
def _url_pattern(kind: Kind, server: str | None) -> str | None:
    """Return the address of any such run in the UI of a server; None without a UI.

    Asked once: Prefect takes longer to answer than all the rest of a start.
    """
    url = url_for(f"{kind}-run", obj_id=_ANY) if server else None
    return None if url is None else mask_text(url)


def status_of(state: State[Any]) -> Status:
    if state.is_completed():
        return "cached" if state.name == "Cached" else "completed"
    if state.is_cancelled() or state.is_cancelling():
        return "cancelled"
    return "aborted" if state.is_crashed() else "failed"


def of_user(tracked: TrackedFunction, parameters: Mapping[str, Any]) -> dict[str, Any]:
    bound = [getattr(tracked, name, None) for name in ("__prefect_self__", "__prefect_cls__")]
    return {
        name: value
        for name, value in parameters.items()
        if not any(value is each for each in bound if each is not None)
    }


def upstream_of(prefect_run: Any, parameters: Mapping[str, Any]) -> dict[str, set[object]]:
    """Return the ids of the task runs whose results became parameters, by parameter."""
    inputs: Mapping[str, Any] = getattr(prefect_run, "task_inputs", None) or {}
    found: dict[str, set[object]] = {}
    for name, sources in inputs.items():
        if name in ("__parents__", "wait_for"):
            continue
        ids: set[object] = {each.id for each in sources if each.input_type == "task_run"}
        if ids - {prefect_run.id} and name in parameters:
            ids = kept.are_of(prefect_run.flow_run_id, parameters[name], ids)
        if ids - {prefect_run.id}:
            found[name] = ids
    return found
