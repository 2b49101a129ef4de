"""Every hook, by noun. ``ln_<noun>`` asks a question; the first plugin that answers wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import pluggy

if TYPE_CHECKING:
    import click

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
        storage_id: of that storage, to tell apart the projects that share one database.
    """

    frame: FrameType
    storage_root: Path | None
    storage_id: str


@dataclass(frozen=True)
class InferredTransform:
    """What a plugin found to be running.

    Attributes:
        name: what people call it, such as ``analysis.py``.
        key: unique within the instance: git remote + path, or storage id + relative path, or an
            absolute path.
        type: the kind of thing that runs.
        source_hash: of its code; another hash is another version of the same transform.
        reference: where its code lies, a path or URL.
        title: a human's heading for it.
        new_run: whether each ``track()`` is a run of its own, or one session is one run.
    """

    name: str
    key: str
    type: Literal["pipeline", "notebook", "script", "app", "function"]
    source_hash: str | None = None
    reference: str | None = None
    title: str | None = None
    new_run: bool = True


@hookspec(firstresult=True)
def ln_transform(caller: Caller) -> InferredTransform | None:
    """Say which script, notebook, flow or rule called ``track()`` without a transform."""


@hookspec(firstresult=True)
def ln_current_run() -> str | None:
    """Return the id of the engine's run inside which this code executes."""


@hookspec(firstresult=True)
def ln_loader(suffix: str) -> Loader | None:
    """Return a function that reads a local path with this suffix (``.tar.gz``: all of it)."""


@hookspec(firstresult=True)
def ln_serializer(data: Any, suffix: str) -> Serializer | None:
    """Return a function that writes ``data`` to a local path with this suffix."""


@hookspec
def ln_cli(group: click.Group) -> None:
    """Add commands to ``lamin``."""
