"""One call of a decorated function, from its arguments to what it gives back.

Nothing in here may fail the function: whatever goes wrong is logged, once, and the call goes on.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, wraps
from pathlib import Path, PurePath
from typing import Any, ParamSpec

from lamindb import config
from lamindb.config import settings
from lamindb.errors import LaminError
from lamindb.hooks import (
    FileStat,
    InferredTransform,
    RunFinished,
    RunStarted,
    describe_error,
    describe_params,
    emit,
    environment,
    run_id,
    source_hash,
)
from lamindb.hooks.events import RunStatus
from lamindb.mainflow import is_main_flow
from lamindb.modules import loaded
from lamindb.processes import start_time, this_process
from lamindb.rules import Rules
from lamindb_plain import current, observing, telling
from lamindb_plain.code import code_key
from lamindb_plain.current import Inside
from lamindb_plain.looks import look
from lamindb_plain.observing import regular

logger = logging.getLogger("lamindb")

ENGINE = "plain"
MOST_PATHS = 1_000
DEEPEST = 5
_LONGEST_PATH = 4_096

P = ParamSpec("P")
_told: set[str] = set()


def _harmless(act: Callable[P, None]) -> Callable[P, None]:
    @wraps(act)
    def call(*args: P.args, **options: P.kwargs) -> None:
        try:
            act(*args, **options)
        except Exception as error:  # the function's own work comes first
            if act.__name__ not in _told:
                _told.add(act.__name__)
                logger.warning("a call is not recorded as it should be: %r", error)

    return call


class Call:
    """A run that lasts as long as a call."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        is_flow: bool,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        self.run = run_id(ENGINE, uuid.uuid4().hex)
        self._started_ns = time.time_ns()
        self._given: dict[str, None] = {}
        self._arguments: dict[str, FileStat | None] = {}
        self._watch: telling.Watch | None = None
        self._inside: Inside | None = None
        self._exported = False
        self._is_flow = is_flow
        self._start(function, name, args, options)

    @_harmless
    def _start(
        self,
        function: Callable[..., Any],
        name: str | None,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        parent, is_main = current.around(), is_main_flow()
        bound = _bound(function, args, options)
        owner = this_process()
        emit(
            RunStarted(
                run=self.run,
                engine=ENGINE,
                transform=_transform(function, name, self._is_flow),
                name=name,
                parent=parent,
                params=describe_params(bound),
                host=owner.host,
                pid=owner.pid,
                process_started_at=start_time(owner),
                environment=environment(),
            )
        )
        self._inside = Inside(self.run, is_function=True)
        current.enter(self._inside, is_main=is_main)
        if is_main:
            self._exported = True
            self._former = config.parent_run_id()
            config.export_run_id(self.run)
        self._arguments = {path: regular(path) for path in paths_in(bound)}
        if settings.observe:
            folder = os.getcwd()
            self._watch = telling.begin(
                self.run,
                _rules(folder),
                folder,
                is_main=is_main,
                looks=self._is_flow,
                is_call=True,
            )

    # --- a generator stops and goes on ------------------------------------------------------------

    @_harmless
    def pause(self) -> None:
        """Leave the run for now: whoever asks the generator is outside of it."""
        if self._inside is not None:
            current.step_out(self._inside)
        if self._watch is not None:
            observing.step_out(self._watch.observation)

    @contextmanager
    def resumed(self) -> Iterator[None]:
        watched = self._watch.observation if self._watch is not None else None
        with observing.resumed(watched), current.resumed(self._inside):
            yield

    # --- its end ----------------------------------------------------------------------------------

    @_harmless
    def give(self, value: Any) -> None:
        """Take note of what is returned or yielded."""
        for path in paths_in(value):
            if len(self._given) < MOST_PATHS:
                self._given[path] = None

    def end(self) -> None:
        self._finish("completed", None)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self._finish("cancelled", type(error).__name__)
        elif isinstance(error, SystemExit) and not error.code:
            self._finish("completed", None)
        else:
            self._finish("failed", describe_error(error))

    @_harmless
    def _finish(self, status: RunStatus, error: str | None) -> None:
        if self._inside is None:
            return
        try:
            if self._watch is not None:
                # as in every engine, what a call had written when it failed is nobody's output
                is_done = status == "completed"
                telling.finish(self._watch, self._outputs(), self._inputs(), has_outputs=is_done)
        finally:
            current.leave(self._inside)
            if self._exported:
                config.export_run_id(self._former)
            emit(RunFinished(run=self.run, status=status, error=error))
            self._inside = None

    def _outputs(self) -> list[str]:
        """The paths that were given back and that this call has made or changed."""
        files: list[str] = []
        for path in self._given:
            inside = look([path], lambda _: True).files if os.path.isdir(path) else [path]
            files += list(inside)[:MOST_PATHS]
        return [path for path in files if self._is_new(path)]

    def _is_new(self, path: str) -> bool:
        now = regular(path)
        if path in self._arguments:
            return now != self._arguments[path]
        if now is None:
            return False
        return now.ctime_ns >= self._started_ns - telling.TICK_NS

    def _inputs(self) -> list[str]:
        """The paths that were given and are as they were."""
        return [
            path
            for path, then in self._arguments.items()
            if then is not None and regular(path) == then
        ]


def _bound(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> dict[str, Any]:
    """Return arguments by name, defaults among them."""
    try:
        bound = _signature(function).bind(*args, **options)
        bound.apply_defaults()
    except (TypeError, ValueError):  # the function itself will say so
        return {"args": list(args), **options}
    values = dict(bound.arguments)
    first = next(iter(values), None)
    if first in ("self", "cls"):
        del values[first]
    return values


@cache
def _rules(folder: str) -> Rules:
    return telling.rules_for(folder)


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


@cache
def _transform(function: Callable[..., Any], name: str | None, is_flow: bool) -> InferredTransform:
    qualified = function.__qualname__.replace("<locals>.", "")
    source = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    path = Path(source).resolve() if source and Path(source).is_file() else None
    text = None
    with suppress(OSError, TypeError):
        text = textwrap.dedent(inspect.getsource(function))
    place = code_key(path) if path is not None else function.__module__
    return InferredTransform(
        name=name or qualified,
        key=f"{place}:{qualified}",
        type="pipeline" if is_flow else "function",
        source_hash=source_hash(text) if text is not None else None,
        reference=str(path) if path is not None else None,
    )


def paths_in(value: Any) -> list[str]:
    """Return the paths of files in a value: paths, texts that name a file, Files, containers."""
    found: dict[str, None] = {}
    left: list[tuple[Any, int]] = [(value, 0)]
    seen = 0
    while left and seen < 10 * MOST_PATHS and len(found) < MOST_PATHS:
        each, depth = left.pop(0)
        seen += 1
        if isinstance(each, str | PurePath):
            text = str(each)
            if text and len(text) < _LONGEST_PATH and "\0" not in text and "\n" not in text:
                path = os.path.abspath(text)
                if isinstance(each, PurePath) or os.path.isfile(path):
                    found[path] = None
        elif depth < DEEPEST and isinstance(each, Mapping):
            left += [(item, depth + 1) for item in list(each.values())[:MOST_PATHS]]
        elif depth < DEEPEST and isinstance(each, list | tuple | set | frozenset):
            left += [(item, depth + 1) for item in list(each)[:MOST_PATHS]]
        elif _is_file(each):
            with suppress(LaminError, OSError):
                found[str(each.path())] = None
    return list(found)


def _is_file(value: Any) -> bool:
    kind = loaded("lamindb.records.file", "File")
    return kind is not None and isinstance(value, kind)
