"""How values are written for people: on one line, with control characters escaped."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from lamindb.modules import loaded

STATUS_STYLES = {
    "started": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "aborted": "red",
    "cached": "green",
    "skipped": "dim",
}
# of emoji and of scripts such as Persian: they only say how their neighbours are drawn
_JOINERS = "\u200c\u200d"
_UNITS = ("kB", "MB", "GB", "TB", "PB")


def printable(value: Any) -> str:
    """Return a value on one line, its control characters escaped."""
    text = "" if value is None else value if isinstance(value, str) else show_value(value)
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in _JOINERS
        else character.encode("unicode_escape").decode()
        for character in text
    )


def show_value(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def minute(value: dt.datetime | None) -> str:
    """Return a time as tables show it: local, to the minute."""
    return "" if value is None else show_value(value)[:-3]


def size(size_bytes: int | None) -> str:
    """Return a size as people read it: ``29.4 kB``, in powers of 1,000."""
    if size_bytes is None:
        return ""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, power = float(size_bytes), -1
    while value >= 1000 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:,.1f} {_UNITS[power]}"


def duration(started: dt.datetime | None, finished: dt.datetime | None) -> str:
    """Return how long a run took: ``0.4 s``, ``3 min 20 s``."""
    if started is None or finished is None:
        return ""
    seconds = (finished - started).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counted(number: int, what: str) -> str:
    """Return ``1 file``, ``1,200 files``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def in_notebook() -> bool:
    """Whether what is displayed here is rendered: in a notebook's kernel."""
    get_ipython = loaded("IPython", "get_ipython")  # who is in a notebook has imported it
    shell = get_ipython() if get_ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
