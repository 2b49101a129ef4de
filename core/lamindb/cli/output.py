"""How commands print: tables that fit the terminal, one row a line elsewhere, or JSON."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lamindb.cli.fitting import tree_lines
from lamindb.display import STATUS_STYLES as STATUS_STYLES
from lamindb.display import counted as counted
from lamindb.display import duration as duration
from lamindb.display import minute as minute
from lamindb.display import printable as printable
from lamindb.display import show_value as show_value
from lamindb.display import size as size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

F = TypeVar("F", bound=Callable[..., Any])

ROWS = 20
_GAP = 2
_NARROWEST = 12
_LEAST = 7
_UNLIMITED = 1_000_000


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def limit_option(function: F) -> F:
    return click.option(
        "--limit",
        "-n",
        type=click.IntRange(1, 2**63 - 1),
        help=f"Rows at most; default: {ROWS}, and all of them as JSON.",
    )(function)


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def print_json(value: Any) -> None:
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    in_ascii = not encoding.startswith("utf")
    click.echo(json.dumps(value, default=_as_json, indent=2, ensure_ascii=in_ascii))


def _as_json(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    long: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print rows under headings, without columns that are empty.

    Args:
        right: columns of numbers.
        long: columns that a terminal too narrow shows shortened; elsewhere nothing is. Of keys the
            end stays, which tells them apart.
        spare: columns that it leaves out before that, the first one first, for as long as those
            that are left would be too short to be read.
    """
    from rich.cells import cell_len
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    shown = [n for n in range(len(columns)) if n == 0 or any(row[n] for row in cells)]
    widths = [
        max(cell_len(text) for text in (name, *(row[n] for row in cells)))
        for n, name in enumerate(columns)
    ]
    screen = console()
    if screen.is_terminal:
        flexible = [n for n in shown if columns[n] in long]
        _fit(screen.width, shown, flexible, [columns.index(name) for name in spare], widths)

    def line(row: Sequence[str], style: str) -> Text:
        text = Text(no_wrap=True)
        for n in shown:
            cell = shortened(row[n], widths[n], keep_end=columns[n].startswith("key"))
            padding = " " * (widths[n] - cell_len(cell))
            cell = padding + cell if columns[n] in right else cell + padding
            # Text, not str: names may hold what looks like rich's markup
            text.append(cell, STATUS_STYLES.get(row[n], "") if columns[n] == "status" else style)
            text.append(" " * _GAP)
        text.rstrip()
        return text

    lines = [line(columns, "bold"), *(line(row, "") for row in cells)]
    screen.print(Text("\n").join(lines), soft_wrap=True)


def shortened(text: str, room: int, *, keep_end: bool = False) -> str:
    """Return a text in at most so many cells of the terminal, with … for what is left out."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= room:
        return text
    if not keep_end:
        return f"{set_cell_size(text, room - 1).rstrip()}…"
    return f"…{set_cell_size(text[::-1], room - 1)[::-1].lstrip()}"


def _fit(
    room: int, shown: list[int], flexible: list[int], spare: Sequence[int], widths: list[int]
) -> None:
    """Leave out columns, then narrow the widest, until all fit or no more can be done."""

    def excess(*, narrowed: bool) -> int:
        taken = sum(
            min(widths[n], _NARROWEST) if narrowed and n in flexible else widths[n] for n in shown
        )
        return taken + _GAP * (len(shown) - 1) - room

    for n in spare:
        if n in shown and excess(narrowed=True) > 0:
            shown.remove(n)
    flexible = [n for n in flexible if n in shown]
    for _ in range(excess(narrowed=False)):
        widest = max(flexible, key=lambda n: widths[n], default=None)
        if widest is None or widths[widest] <= _LEAST:
            break
        widths[widest] -= 1


def print_tree(tree: Tree) -> None:
    """Print a tree: on a terminal so that it fits, elsewhere one line for each of its nodes."""
    screen = console()
    if screen.is_terminal:
        for line in tree_lines(tree, screen):
            screen.print(line, soft_wrap=True)
    else:
        screen.width = _UNLIMITED
        screen.print(tree)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, without those that are empty."""
    for name, value in fields:
        if value is not None and value != "":
            click.echo(f"{name:<14} {printable(value)}")
