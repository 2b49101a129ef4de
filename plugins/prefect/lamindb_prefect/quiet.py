"""Keeps Prefect from logging each call of our hooks: two lines a run, shipped to its API."""

from __future__ import annotations

import logging

_LOGGERS = (
    "prefect.engine",
    "prefect.flow_runs",
    "prefect.flow_runs.runner",
    "prefect.flow_runs.worker",
    "prefect.runner",
    "prefect.task_runs",
)
_OF_HOOKS = ("Running hook ", "Hook ")
_OF_OURS = ("Running hook 'lamindb_", "Hook 'lamindb_")


def is_users(record: logging.LogRecord) -> bool:
    """Whether a line is of anything else than our hooks."""
    message = record.msg
    if not isinstance(message, str) or not message.startswith(_OF_HOOKS):
        return True
    return not record.getMessage().startswith(_OF_OURS)


def hide_hooks() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if is_users not in logger.filters:
            logger.addFilter(is_users)
