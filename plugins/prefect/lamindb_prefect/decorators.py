"""Prefect's decorators, whose flows and tasks record themselves."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from prefect.assets import Asset
from prefect.flows import Flow
from prefect.tasks import MaterializingTask, Task

from lamindb_prefect.definitions import Kind, Options
from lamindb_prefect.functions import original
from lamindb_prefect.instruments import instrument

if TYPE_CHECKING:
    from lamindb_prefect.options import FlowOptions, TaskOptions

P = ParamSpec("P")
R = TypeVar("R")


class TrackedTask(Task[P, R]):
    """A task that records its runs."""

    def __init__(self, fn: Callable[P, R], *args: Any, **options: Any) -> None:
        own = Options.taken_from(options)
        super().__init__(original(fn), *args, **options)
        instrument(self, "task", options=own, former=fn)

    def with_options(self, **options: Any) -> Any:
        return _variant(Task, "task", self, options)


class TrackedMaterializingTask(MaterializingTask[P, R]):
    """A task that materializes assets, and records its runs."""

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        own = Options.taken_from(options)
        super().__init__(original(fn), **options)
        instrument(self, "task", options=own, former=fn)

    def with_options(self, **options: Any) -> Any:  # type: ignore[override]
        return _variant(MaterializingTask, "task", self, options)


class TrackedFlow(Flow[P, R]):
    """A flow that records its runs."""

    def __init__(self, fn: Callable[P, R], *args: Any, **options: Any) -> None:
        own = Options.taken_from(options)
        super().__init__(original(fn), *args, **options)
        instrument(self, "flow", options=own, former=fn)

    def with_options(self, **options: Any) -> Any:
        return _variant(Flow, "flow", self, options)


def _variant(made_by: type[Any], kind: Kind, tracked: Any, options: dict[str, Any]) -> Any:
    """Have Prefect make a variant of the untracked task or flow, and track that."""
    own = Options.taken_from(options)
    untracked = copy(tracked)
    untracked.fn = original(tracked.fn)
    variant = made_by.with_options(untracked, **options)
    variant.__class__ = type(tracked)
    instrument(variant, kind, options=own, former=tracked.fn)
    return variant


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    fn: None = None, /, **options: Unpack[TaskOptions]
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a task, as :func:`prefect.task` does, that records its runs.

    Args: options: Prefect's own, and ``outputs``, ``include`` and ``exclude``.
    """
    return partial(task, **options) if fn is None else TrackedTask(fn, **options)


def materialize(
    *assets: str | Asset, by: str | None = None, **options: Unpack[TaskOptions]
) -> Callable[[Callable[P, R]], MaterializingTask[P, R]]:
    """Make a function a task that materializes assets, as :func:`prefect.assets.materialize` does.

    Args: options: as those of :func:`task`. Assets of local files are keyed ``file:///…``.
    """
    if not assets:
        raise TypeError(
            "materialize requires at least one asset argument, e.g. `@materialize(asset)`"
        )
    return partial(TrackedMaterializingTask, assets=assets, materialized_by=by, **options)


class FlowDecorator:
    """Makes functions flows, as :data:`prefect.flow` does, that record their runs."""

    from_source = staticmethod(Flow.from_source)

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Flow[P, R]: ...

    @overload
    def __call__(
        self, fn: None = None, /, **options: Unpack[FlowOptions]
    ) -> Callable[[Callable[P, R]], Flow[P, R]]: ...

    def __call__(self, fn: Any = None, /, **options: Any) -> Any:
        return partial(self, **options) if fn is None else TrackedFlow(fn, **options)


# Prefect looks for a decorator of this name when it reads a flow's file without importing it
flow = FlowDecorator()
