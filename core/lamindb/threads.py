"""lamindb's own threads, of which nobody who forks is warned.

From Python 3.12 on, whoever forks a process that has other threads is warned that the child may
wait for a lock that one of them held. Those of lamindb are renewed in the child.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from contextlib import suppress
from typing import cast

# what the names of its threads begin with
OURS = "lamindb-"


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
