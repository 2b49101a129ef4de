"""Keeps small results of tasks alive while their flow runs.

Prefect knows by ``id()`` which task has made a value. An object without weak references that is
gone gives its id to the next one, which Prefect then takes for the result of that task: every other
fresh dict, in a flow that makes no use of results. What is kept cannot be mistaken.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from pathlib import PurePath
from typing import Any

_ATOMS = {type(None), bool, int, float, complex, dt.date, dt.datetime, dt.timedelta}
_CONTAINERS = {list, tuple, set, frozenset, dict}
_MOST_ITEMS = 100
_LONGEST_TEXT = 1000
# of workers that live for long, and are not told the end of a flow
_MOST_FLOWS = 16
_MOST_RESULTS = 10_000

_lock = threading.Lock()
_by_flow: dict[object, deque[Any]] = {}


def keep(flow_run: object, result: Any) -> None:
    """Keep a task's result, or those of its items that are small."""
    if flow_run is None or result is None or isinstance(result, bool):
        return  # Prefect does not know them again
    if _is_small(result):
        small = [result]
    elif type(result) in _CONTAINERS and len(result) <= _MOST_ITEMS:
        # Prefect knows these as well, and those inside of them no longer
        items = result.values() if type(result) is dict else result
        small = [each for each in items if _is_small(each)]
    else:
        return
    with _lock:
        _by_flow.setdefault(flow_run, deque(maxlen=_MOST_RESULTS)).extend(small)
        if len(_by_flow) > _MOST_FLOWS:
            del _by_flow[next(iter(_by_flow))]


def forget(flow_run: object) -> None:
    """Let go of the results of a flow run that has ended."""
    with _lock:
        _by_flow.pop(flow_run, None)


def _is_small(value: Any) -> bool:
    left = [value]
    for _ in range(_MOST_ITEMS):
        if not left:
            return True
        each = left.pop()
        if type(each) in _CONTAINERS:
            if len(each) > _MOST_ITEMS:
                return False
            left.extend(each.values() if type(each) is dict else each)
        elif type(each) in (str, bytes):
            if len(each) > _LONGEST_TEXT:
                return False
        elif type(each) not in _ATOMS and not isinstance(each, PurePath):
            return False
    return not left
