"""What ended this process, as far as the interpreter lets exit handlers know.

It says nothing of the code that a ``SystemExit`` carries. What goes through ``sys.exit``, ``exit``
or ``quit`` is noted when it is called; of one that is raised by hand nothing can be known.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from opcode import opname
from types import FrameType, ModuleType
from typing import Any, Literal, NoReturn

from lamindb.hooks import describe_error

# the main thread's first frame, or in a child of multiprocessing the one that catches everything
_outermost: FrameType | None = None
_catching: FrameType | None = None
# what the main thread last gave to sys.exit, and which call that was
_exit_status: object = None
_calls = 0


def watch() -> None:
    """Begin to note what may end this process; once, in the first process of a family."""
    global _outermost
    _outermost = _frames_of_main_thread()[-1]
    _note_exits()


def watch_child() -> None:
    """The same in a child of multiprocessing, where another frame catches what ends it."""
    global _catching
    frames = _frames_of_main_thread()
    _catching = next((each for each in frames if each.f_code.co_name == "_bootstrap"), None)


def status() -> tuple[Literal["completed", "failed", "cancelled"], str | None]:
    """Return how a run ends that ends with this process, and why; called by an exit handler."""
    return _meaning(_caught() if _catching is not None else _uncaught())


def keep_interrupt() -> None:
    """Have the interpreter still die of SIGINT, as the end of a script by KeyboardInterrupt asks.

    It forgets that there was one whenever any code is executed from a string, as for a dataclass
    that is imported by an exit handler.
    """
    if _catching is None and isinstance(_uncaught(), KeyboardInterrupt):
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 - what sets the interpreter's own mark


def _frames_of_main_thread() -> list[FrameType]:
    """Return what the main thread executes, the innermost first."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0, sys._getframe())
    frames = [frame]
    while (outer := frames[-1].f_back) is not None:
        frames.append(outer)
    return frames


def _caught() -> BaseException | None:
    """Return what ended a child of multiprocessing, as far as it is still known.

    Until Python 3.12 this is called while the exception is on its way; later ones leave its code.
    """
    error = sys.exc_info()[1]
    if error is not None or _catching is None:
        return error
    code = _catching.f_locals.get("exitcode")
    return SystemExit(_exit_status if code and isinstance(_exit_status, str) else code)


def _uncaught() -> BaseException | None:
    """Return what ended the main thread; None when it came to its last line.

    The interpreter gives ``atexit`` no hint of it, but its first frame has stopped at a return or
    elsewhere. An exception that was shown, by whichever hook, is in ``sys.last_value``.
    """
    frame = _outermost
    if frame is None or opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN"):
        return None
    shown: BaseException | None = getattr(sys, "last_value", None)
    trace = shown.__traceback__ if shown is not None else None
    # one that a debugger has caught did not get as far as the first frame
    if trace is not None and trace.tb_frame is frame:
        return shown
    return SystemExit(_exit_status)


def _meaning(
    error: BaseException | None,
) -> tuple[Literal["completed", "failed", "cancelled"], str | None]:
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "KeyboardInterrupt"
    if error is not None and not isinstance(error, SystemExit):
        return "failed", describe_error(error)
    code = error.code if error is not None else None
    if code is None or code == 0:
        return "completed", None
    return "failed", f"exit code {int(code)}" if isinstance(code, int) else f"exit code 1: {code}"


# --- what is given to sys.exit ------------------------------------------------------------------


class _Exit:
    """Hangs on a ``SystemExit``, and goes with it: within the script, that means it was caught."""

    def __init__(self, call: int) -> None:
        self._call = call

    def __del__(self) -> None:
        global _exit_status
        if self._call == _calls and _is_script_running():
            _exit_status = None


def _is_script_running() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame is _outermost:
            return True
        frame = frame.f_back
    return False


def _note_exits() -> None:
    """Remember what the main thread gives to ``sys.exit``, or to ``exit`` and ``quit``."""
    sys_exit = sys.exit

    @wraps(sys_exit)
    def exit(status: Any = None, /) -> NoReturn:
        try:
            sys_exit(status)
        except SystemExit as error:
            _note(status, error)
            raise

    sys.exit = exit
    _rebind(sys_exit, exit)
    quitter: Any = type(getattr(builtins, "exit", None))
    if quitter.__module__ == "_sitebuiltins":
        quitter.__call__ = _noting(quitter.__call__)


def _rebind(former: Any, new: Any) -> None:
    """Follow ``from sys import exit`` of modules that were there before."""
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or module is sys:
            continue
        try:
            names = object.__getattribute__(module, "__dict__")  # a lazy module stays unloaded
        except AttributeError:
            continue  # as cffi's libraries, which have none
        wanted = list(names) if name == "__main__" else ["exit"]
        for each in wanted:
            if names.get(each) is former:
                names[each] = new


def _noting(former: Callable[[Any, Any], None]) -> Callable[..., None]:
    @wraps(former)
    def call(self: Any, code: Any = None) -> None:
        try:
            former(self, code)
        except SystemExit as error:
            _note(code, error)
            raise

    return call


def _note(status: object, error: SystemExit) -> None:
    global _exit_status, _calls
    if threading.current_thread() is threading.main_thread():
        _exit_status = status
        _calls += 1
        error.__dict__["_lamindb_exit"] = _Exit(_calls)
