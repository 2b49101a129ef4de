"""The plugin that lamindb loads by entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamindb.config import settings
from lamindb.hooks import Caller, InferredTransform, RunFinished, Tracking, hookimpl
from lamindb.mainflow import is_main_flow
from lamindb_plain import current, notebooks, scripts

if TYPE_CHECKING:
    import click

    from lamindb.instance import Instance


@hookimpl(trylast=True)
def ln_transform(caller: Caller) -> InferredTransform | None:
    """Say which notebook, else which script, called ``ln.track()``."""
    return notebooks.infer(caller) or scripts.infer(caller)


@hookimpl
def ln_cli(group: click.Group) -> None:
    """Add ``lamin run``."""
    from lamindb_plain.cli import run

    group.add_command(run)


@hookimpl
def ln_run_details(run: str) -> dict[str, Any] | None:
    """Say by which command, where and at which commit a run begins."""
    from lamindb_plain import details

    return details.of_process()


# --- files, which are looked at only when somebody tracks -----------------------------------------

_watched: dict[str, Any] = {}
_entered: dict[str, current.Inside] = {}


@hookimpl
def ln_current_run() -> str | None:
    """The run of the decorated function inside which this code is."""
    return current.innermost_function()


@hookimpl
def ln_tracking_started(tracking: Tracking) -> None:
    """Observe a run of this process."""
    from lamindb_plain import telling

    _entered[tracking.run] = inside = current.Inside(tracking.run, is_function=False)
    current.enter(inside, is_main=is_main_flow())
    observe = settings.observe if tracking.observe is None else tracking.observe
    if not observe and not tracking.outputs and not tracking.inputs:
        return
    _watched[tracking.run] = telling.begin(
        tracking.run,
        telling.rules_for(tracking.root, tracking.include, tracking.exclude),
        tracking.root,
        outputs=tracking.outputs,
        inputs=tracking.inputs,
        is_main=is_main_flow(),
        observe=observe,
        # while a notebook is open, people work on the files around it
        looks=not notebooks.is_notebook(),
    )


@hookimpl
def ln_tracking_finished(run: str) -> None:
    """Tell what a run of this process read and wrote."""
    inside = _entered.pop(run, None)
    if inside is not None:
        current.leave(inside)
    watch = _watched.pop(run, None)
    if watch is not None:
        from lamindb_plain import telling

        telling.finish(watch)


@hookimpl
def ln_instance_opened(instance: Instance) -> None:
    """Record the files of runs that died."""
    from lamindb_plain import claims

    if any(claims.folder().glob("*.run.*")):
        from lamindb_plain.recovering import recover

        recover(instance)


@hookimpl(tryfirst=True)
def ln_run_finished(event: RunFinished) -> None:
    """The same of an engine's run that code inside it has tracked."""
    ln_tracking_finished(event.run)
