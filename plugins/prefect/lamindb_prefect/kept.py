"""What the tasks of a flow have returned, to tell whose value an argument is.

Prefect tells it by ``id()`` of the value, its items and the keys of a dict. So it is wrong of an
object that is gone: without weak references, its id is the next one's, as of every other fresh
dict in a flow that makes no use of results. What is small is therefore kept, and cannot be
mistaken. And it is wrong of what many results share, as the keys of dicts and words like "ok" are.
"""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from prefect.client.schemas.objects import TaskRun

from lamindb_prefect.paths import items_of

_TEXTS = {str, bytes}
_ATOMS = {type(None), bool, int, float, complex, dt.date, dt.datetime, dt.timedelta, *_TEXTS}
_CONTAINERS = {list, tuple, set, frozenset, dict}
_MOST_ITEMS = 100
_LONGEST_TEXT = 1000
# of workers that live for long, and are not told the end of a flow
_MOST_FLOWS = 16
_MOST_RESULTS = 10_000

_lock = threading.Lock()


@dataclass
class Results:
    """Those of the tasks of a flow run.

    Attributes:
        kept: values, by their id; runs: those of which all values are known; runs_by_id: which of
        them returned a value, or had it in what they returned.
    """

    kept: dict[int, Any] = field(default_factory=dict)
    runs: set[object] = field(default_factory=set)
    runs_by_id: dict[int, set[object]] = field(default_factory=dict)


_by_flow: dict[object, Results] = {}


def keep(task_run: TaskRun, result: Any, *, is_whole: bool = True) -> None:
    """Keep a task's result, or those of its items that are small.

    Args: is_whole: whether it is all that the run returns, and handed on as the object it is.
    """
    if task_run.flow_run_id is None or result is None or isinstance(result, bool):
        return  # Prefect does not know them again
    is_container = type(result) in _CONTAINERS and len(result) <= _MOST_ITEMS
    items = _items(result) if is_container else []
    small = {id(each): each for each in (result, *items) if _is_small(each)}
    with _lock:
        found = _by_flow.setdefault(task_run.flow_run_id, Results())
        if len(_by_flow) > _MOST_FLOWS:
            del _by_flow[next(iter(_by_flow))]
        if len(found.kept) > _MOST_RESULTS:
            return
        found.kept |= small
        if is_container and is_whole:
            found.runs.add(task_run.id)
            # a large container may be gone at any time: it is known by its items
            for each in small.keys() | {id(item) for item in items}:
                found.runs_by_id.setdefault(each, set()).add(task_run.id)


def are_of(flow_run: object, value: Any, runs: set[object]) -> set[object]:
    """Return which of some task runs, whose value an argument is to Prefect, it really is of."""
    results = _by_flow.get(flow_run)
    if results is None or runs.isdisjoint(results.runs):
        return runs
    found: set[object] = set()
    left = [value]
    for _ in range(_MOST_ITEMS * _MOST_ITEMS):
        if not left:
            return {each for each in runs if each in found or each not in results.runs}
        each = left.pop()
        holders = results.runs_by_id.get(id(each), set())
        # a word that several hold says nothing, save as the very argument
        if len(holders) == 1 or each is value or type(each) not in _ATOMS:
            found |= holders
        left.extend(items_of(each))
    return runs


def forget(flow_run: object) -> None:
    """Let go of the results of a flow run that has ended."""
    with _lock:
        _by_flow.pop(flow_run, None)


def _items(container: Any) -> list[Any]:
    return list(container.values() if type(container) is dict else container)


def _is_small(value: Any) -> bool:
    left = [value]
    for _ in range(_MOST_ITEMS):
        if not left:
            return True
        each = left.pop()
        if type(each) in _CONTAINERS:
            if len(each) > _MOST_ITEMS:
                return False
            left.extend(_items(each))
        elif type(each) in _TEXTS:
            if len(each) > _LONGEST_TEXT:
                return False
        elif type(each) not in _ATOMS and not isinstance(each, PurePath):
            return False
    return not left
