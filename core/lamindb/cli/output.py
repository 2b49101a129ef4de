"""How commands print: tables that fit the terminal, or JSON for programs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])

STATUS_STYLES = {
    "completed": "green",
    "failed": "red",
    "aborted": "red",
    "cancelled": "yellow",
    "started": "cyan",
}
_WIDE = 140


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def limit_option(function: F) -> F:
    return click.option(
        "--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="Rows at most."
    )(function)


def console() -> Console:
    """Return a console that keeps lines whole when they do not go to a terminal."""
    from rich.console import Console

    plain = Console(highlight=False, soft_wrap=False)
    if plain.is_terminal:
        return plain
    return Console(highlight=False, width=max(plain.width, _WIDE))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=_as_json, indent=2, ensure_ascii=False))


def _as_json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings, without columns that are empty; the first is never cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    filled = [n for n in range(len(columns)) if n == 0 or any(row[n] for row in cells)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in ((n, columns[n]) for n in filled):
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=number == 0 or name in right,
            overflow="fold",
        )
    for row in cells:
        # Text, not str: names may hold what looks like rich's markup
        table.add_row(*(Text(row[n], style=_style(row[n])) for n in filled))
    console().print(table)


def printable(value: Any) -> str:
    """Return a value on one line, its control characters escaped."""
    text = "" if value is None else value if isinstance(value, str) else show_value(value)
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def show_value(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def size(size_bytes: int | None) -> str:
    """Return a size as people read it: ``29.4 kB``, in powers of 1,000."""
    if size_bytes is None:
        return ""
    from rich.filesize import decimal

    return decimal(size_bytes).replace(" bytes", " B").replace(" byte", " B")


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


def _style(cell: str) -> str:
    return STATUS_STYLES.get(cell, "")
