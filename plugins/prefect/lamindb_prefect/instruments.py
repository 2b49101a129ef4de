"""Makes Prefect's tasks and flows record themselves, by their public attributes alone."""

from __future__ import annotations

from typing import Any

from lamindb_prefect import states
from lamindb_prefect.definitions import Definition, Kind, Options
from lamindb_prefect.functions import TrackedFunction, original
from lamindb_prefect.guard import guarded


@guarded
def instrument(
    task_or_flow: Any, kind: Kind, *, options: Options | None = None, former: Any = None
) -> None:
    """Have a task or flow call a tracked function, and tell us how its runs end.

    Only when it is made, for Prefect derives task key, version and parameters from the user's
    function. Doing it again changes nothing, save new options.

    Args: former: the function of the one that it is a variant of, by ``with_options``.
    """
    if not isinstance(former, TrackedFunction):
        former = task_or_flow.fn
    if options is None:
        options = former.definition.options if isinstance(former, TrackedFunction) else Options()
    function = original(task_or_flow.fn)
    definition = Definition(
        kind,
        function,
        name=task_or_flow.name,
        source=getattr(task_or_flow, "source_code", None),
        options=options,
    )
    tracked = TrackedFunction(function, definition)
    for name in ("__prefect_self__", "__prefect_cls__"):  # of a bound method
        if hasattr(former, name):
            setattr(tracked, name, getattr(former, name))
    task_or_flow.fn = tracked
    for name, hook in states.HOOKS[kind].items():
        # with_options has copied the list, or put the user's own in its place
        others = [each for each in getattr(task_or_flow, name, ()) if each is not hook]
        setattr(task_or_flow, name, [hook, *others])
