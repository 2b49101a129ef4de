"""lamindb's own threads: where there can be some, and no warning of them to whoever forks.

From Python 3.12 on, whoever forks a process that has other threads is warned that the child may
wait for a lock that one of them held. Those of lamindb are renewed in the child.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

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
    if not each or not threading.main_thread().is_alive():
        return [act(one) for one in each]
    # the interpreter that ends refuses to load it
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(at_most, len(each)), initializer=initializer) as pool:
        return list(pool.map(act, each))


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
