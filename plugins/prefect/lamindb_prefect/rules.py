"""Which files are recorded: the one place that asks the rules."""

from __future__ import annotations

from fnmatch import fnmatch

from lamindb_prefect.definitions import Options


def is_wanted(uri: str, options: Options) -> bool:
    """Whether a file is recorded, by the decorator's include and exclude patterns."""
    if any(_matches(uri, pattern) for pattern in options.exclude):
        return False
    return not options.include or any(_matches(uri, pattern) for pattern in options.include)


def _matches(uri: str, pattern: str) -> bool:
    return fnmatch(uri, pattern) or fnmatch(uri, f"*/{pattern}")
