"""Prefect's decorators, whose flows and tasks record themselves."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, ParamSpec, TypeVar

from prefect.assets import Asset
from prefect.flows import Flow
from prefect.tasks import MaterializingTask, Task

from lamindb_prefect.definitions import Kind, Options
from lamindb_prefect.functions import original
from lamindb_prefect.instruments import instrument

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


def task(fn: Any = None, /, **options: Any) -> Any:
    if fn is None:
        return partial(task, **options)
    return TrackedTask(fn, **options)


def materialize(*assets: str | Asset, by: str | None = None, **options: Any) -> Any:
    if not assets:
        raise TypeError(
            "materialize requires at least one asset argument, e.g. `@materialize(asset)`"
        )
    return partial(TrackedMaterializingTask, assets=assets, materialized_by=by, **options)


class _FlowDecorator:
    from_source = staticmethod(Flow.from_source)

    def __call__(self, fn: Any = None, /, **options: Any) -> Any:
        if fn is None:
            return partial(self, **options)
        return TrackedFlow(fn, **options)


flow = _FlowDecorator()
