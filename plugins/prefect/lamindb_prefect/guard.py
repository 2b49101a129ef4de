"""Nothing of ours may fail in the user's pipeline: what goes wrong is logged, once a kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from lamindb.config import settings

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("lamindb.prefect")
_told: set[tuple[str, type[Exception]]] = set()


def guarded(function: Callable[P, R]) -> Callable[P, R | None]:
    """Have a function return None instead of raising, save in strict mode."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # the user's task or flow goes on whatever is wrong with us
            if settings.strict:
                raise
            _tell_once(function.__qualname__, error)
            return None

    return call


def _tell_once(name: str, error: Exception) -> None:
    if (name, type(error)) not in _told:
        _told.add((name, type(error)))
        logger.warning(
            "part of a run is not recorded: %s failed: %s: %s", name, type(error).__name__, error
        )
        logger.debug("where it failed", exc_info=error)
