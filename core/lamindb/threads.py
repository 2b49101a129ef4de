"""lamindb's own threads: where there can be some, and no warning of them to whoever forks.

From Python 3.12 on, whoever forks a process that has other threads is warned that the child may
wait for a lock that one of them held. Those of lamindb are renewed in the child.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

# The interpreter that ends refuses to load it, and fsspec needs it: a remote file that nobody read
# before a script's end could not be.
with suppress(RuntimeError):
    importlib.import_module("concurrent.futures.thread")

# what the names of its threads begin with
OURS = "lamindb-"

T = TypeVar("T")
R = TypeVar("R")


def mapped(
    act: Callable[[T], R],
    each: Sequence[T],
    at_most: int,
    initializer: Callable[[], None] | None = None,
) -> list[R]:
    """Call a function with each, in threads; in an exit handler, which has none, in turn."""
    if not each or is_ending():
        return [act(one) for one in each]
    # the interpreter that ends refuses to load it
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(at_most, len(each)), initializer=initializer) as pool:
        return list(pool.map(act, each))


def is_ending() -> bool:
    """Whether the exit handlers run: from now on no pool takes work."""
    return not threading.main_thread().is_alive()


def serve_at_exit(loop: AbstractEventLoop) -> None:
    """Have an event loop still find hosts when the interpreter ends: itself, without its pool."""
    from concurrent.futures import Future, ThreadPoolExecutor

    class AtOnce(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
            done: Future[T] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:  # goes to whoever waits for it
                done.set_exception(error)
            return done

    loop.set_default_executor(AtOnce(1))


def _before_fork() -> None:
    message = rf"This process \(pid={os.getpid()}\) is multi-threaded"
    # the filter tells this process alone, and stays: the warning comes after the last hook
    wanted = ("ignore", re.compile(message, re.IGNORECASE), DeprecationWarning, None, 0)
    if _is_alone():
        warnings.filterwarnings("ignore", message, DeprecationWarning)
    else:
        with suppress(ValueError):
            cast(list[object], warnings.filters).remove(wanted)


def _is_alone() -> bool:
    """Whether this process would have a single thread without lamindb."""
    own = [each for each in threading.enumerate() if each.name.startswith(OURS)]
    try:
        count = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - each fork waits for it
    except OSError:  # not on Linux
        count = threading.active_count()
    return count - len(own) == 1


if sys.version_info >= (3, 12) and hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
