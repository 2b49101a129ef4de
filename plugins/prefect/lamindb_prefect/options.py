"""What the decorators take, for type checkers: Prefect's own options and a few of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, TypedDict

from prefect.flows import FlowStateHook
from prefect.futures import PrefectFuture
from prefect.results import ResultSerializer, ResultStorage
from prefect.task_runners import TaskRunner
from prefect.tasks import TaskOptions as PrefectTaskOptions

Patterns = str | PurePath | Iterable[str | PurePath]


class OwnOptions(TypedDict, total=False):
    """See :class:`lamindb_prefect.definitions.Options`."""

    outputs: Patterns
    include: Patterns
    exclude: Patterns


class TaskOptions(PrefectTaskOptions, OwnOptions, total=False):
    """Options of ``task`` and ``materialize``."""


class FlowOptions(OwnOptions, total=False):
    """Options of ``flow``; Prefect has no name for its own."""

    name: str | None
    version: str | None
    flow_run_name: Callable[[], str] | str | None
    retries: int | None
    retry_delay_seconds: int | float | None
    task_runner: TaskRunner[PrefectFuture[Any]] | type[TaskRunner[PrefectFuture[Any]]] | None
    description: str | None
    timeout_seconds: int | float | None
    validate_parameters: bool
    persist_result: bool | None
    result_storage: ResultStorage | None
    result_serializer: ResultSerializer | None
    cache_result_in_memory: bool
    log_prints: bool | None
    on_completion: list[FlowStateHook[..., Any]] | None
    on_failure: list[FlowStateHook[..., Any]] | None
    on_cancellation: list[FlowStateHook[..., Any]] | None
    on_crashed: list[FlowStateHook[..., Any]] | None
    on_running: list[FlowStateHook[..., Any]] | None
