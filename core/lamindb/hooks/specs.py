"""Every hook, by noun.

``ln_<noun>`` asks a question: the first plugin that answers wins, or all answers are collected.
``ln_<noun>_<past participle>`` is a moment: every plugin is told of it, none can change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pluggy

from lamindb.hooks.events import (
    EnvironmentSeen,
    Event,
    FileRead,
    FileRetracted,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
)

if TYPE_CHECKING:
    import click

    from lamindb.instance import Instance

PROJECT = "lamindb"
hookspec = pluggy.HookspecMarker(PROJECT)

Loader = Callable[[Path], Any]
Serializer = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Caller:
    """Who called ``ln.track()``.

    Attributes:
        frame: the frame of the call.
        storage_root: the instance's local storage root, None when it is remote.
        storage_id: of that storage, to tell apart the projects that share one database; None where
            neither the storage nor the database can be reached.
    """

    frame: FrameType
    storage_root: Path | None
    storage_id: str | None


@dataclass(frozen=True)
class Tracking:
    """What ``ln.track()`` was told beside the transform.

    Attributes:
        run: id of the run that began; root: the folder that relative patterns start from.
        outputs, inputs: patterns of files, declared; include, exclude: of what is observed.
        observe: whether to look at what the process reads and writes; None: as the settings say.
    """

    run: str
    root: str = ""
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    observe: bool | None = None


# --- questions ------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def ln_transform(caller: Caller) -> InferredTransform | None:
    """Say which script, notebook, flow or rule called ``track()`` without a transform."""


@hookspec(firstresult=True)
def ln_current_run() -> str | None:
    """Return the id of the engine's run inside which this code executes."""


@hookspec
def ln_run_details(run: str) -> dict[str, Any] | None:
    """Return JSON-able facts about a run that begins in this process: git commit, engine's URL, …

    They are kept in ``run.details`` under the plugin's name.
    """


@hookspec
def ln_command_environment() -> dict[str, str] | None:
    """Return variables by which a command of ``lamin run`` lets this plugin record what it does."""


@hookspec(firstresult=True)
def ln_loader(suffix: str) -> Loader | None:
    """Return a function that reads a local path with this suffix (``.tar.gz``: all of it)."""


@hookspec(firstresult=True)
def ln_serializer(data: Any, suffix: str) -> Serializer | None:
    """Return a function that writes ``data`` to a local path with this suffix."""


@hookspec
def ln_cli(group: click.Group) -> None:
    """Add commands to ``lamin``."""


# --- moments --------------------------------------------------------------------------------------


@hookspec
def ln_tracking_started(tracking: Tracking) -> None:
    """``ln.track()`` began a run in this process: observe it."""


@hookspec
def ln_tracking_finished(run: str) -> None:
    """The run is about to end: tell what it read and wrote."""


@hookspec
def ln_instance_opened(instance: Instance) -> None:
    """This process has opened an instance, and may mend what others have left."""


@hookspec
def ln_instance_closing() -> None:
    """This process is about to forget its instance, or to load another one."""


@hookspec
def ln_records_read() -> None:
    """Somebody is about to read records: what is known must be among them."""


@hookspec
def ln_environment_seen(event: EnvironmentSeen) -> None:
    """An interpreter with its packages runs something.

    ``ln.track()`` tells only of one that is not recorded yet.
    """


@hookspec
def ln_run_started(event: RunStarted) -> None:
    """An attempt of a run began."""


@hookspec
def ln_run_finished(event: RunFinished) -> None:
    """An attempt of a run ended, whatever the end."""


@hookspec
def ln_run_linked(event: RunLinked) -> None:
    """A run used the result or a value of another."""


@hookspec
def ln_file_read(event: FileRead) -> None:
    """An input was declared or seen."""


@hookspec
def ln_file_written(event: FileWritten) -> None:
    """An output is final."""


@hookspec
def ln_file_retracted(event: FileRetracted) -> None:
    """An output was taken back."""


@hookspec
def ln_event_recorded(event: Event, record_id: str) -> None:
    """An event is in the database, as the run or file with this id; called in the recorder."""
