"""``lamin runs --tree``: runs below those that started them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, select

from lamindb import instance
from lamindb.cli import output
from lamindb.db.database import chunked
from lamindb.db.schema import run, run_file, transform

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree


def below(roots: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the runs that each run has started, by its id, oldest first, however deep."""
    children: dict[str, list[dict[str, Any]]] = defaultdict(list)
    level = [row["id"] for row in roots]
    seen = set(level)
    with instance.current().database.read() as connection:
        while level:
            found = []
            for chunk in chunked(level):
                query = _runs().where(run.c.parent_id.in_(chunk))
                found += [dict(row) for row in connection.execute(query).mappings()]
            found = [row for row in found if row["id"] not in seen]
            for row in sorted(found, key=lambda row: (str(row["started_at"]), row["id"])):
                children[row["parent_id"]].append(row)
            level = [row["id"] for row in found]
            seen.update(level)
    return children


def _runs() -> Select[Any]:
    joined = (transform.c.id == run.c.transform_id) & (
        transform.c.version == run.c.transform_version
    )
    return select(run, transform.c.name.label("made_by")).outerjoin(transform, joined)


def nested(
    rows: list[dict[str, Any]], children: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return rows as JSON has them: each with the list of its ``children``."""
    made = {row["id"]: {n: v for n, v in row.items() if n != "made_by"} for row in rows}
    for each in children.values():
        made |= {row["id"]: {n: v for n, v in row.items() if n != "made_by"} for row in each}
    for run_id, row in made.items():
        row["children"] = [made[child["id"]] for child in children.get(run_id, [])]
    return [made[row["id"]] for row in rows]


def show(rows: list[dict[str, Any]], children: dict[str, list[dict[str, Any]]]) -> None:
    """Print each run with all that it has started."""
    from rich.tree import Tree

    counts = _counts([*rows, *(row for each in children.values() for row in each)])
    for row in rows:
        tree = Tree(_line(row, counts))
        left: list[tuple[Tree, dict[str, Any]]] = [(tree, row)]
        while left:
            node, parent = left.pop()
            for child in children.get(parent["id"], []):
                left.append((node.add(_line(child, counts)), child))
        output.print_tree(tree)


def _counts(rows: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Return how many files runs read and wrote, by (run, role)."""
    ids = [row["id"] for row in rows]
    found: dict[tuple[str, str], int] = {}
    with instance.current().database.read() as connection:
        for chunk in chunked(ids):
            query = (
                select(run_file.c.run_id, run_file.c.role, func.count())
                .where(run_file.c.run_id.in_(chunk))
                .group_by(run_file.c.run_id, run_file.c.role)
            )
            found |= {(row[0], row[1]): row[2] for row in connection.execute(query)}
    return found


def _line(row: dict[str, Any], counts: dict[tuple[str, str], int]) -> Text:
    from rich.text import Text

    text = Text(output.printable(_name(row)), style="bold")
    text.append(f"  {row['status']}", style=output.STATUS_STYLES.get(row["status"], ""))
    if took := output.duration(row["started_at"], row["finished_at"]):
        text.append(f"  {took}", style="not bold")
    if row["params"]:
        shown = ", ".join(f"{name}={value}" for name, value in row["params"].items())
        text.append(f"  {output.shortened(output.printable(shown), 80)}", style="not bold")
    read, wrote = (counts.get((row["id"], role), 0) for role in ("input", "output"))
    if read or wrote:
        text.append(f"  {read} in, {wrote} out", style="not bold dim")
    text.append(f"  {output.minute(row['started_at'])}  {row['id']}", style="not bold dim")
    if row["error"]:
        text.append(
            f"  {output.shortened(output.printable(row['error']), 120)}", style="not bold red"
        )
    return text


def _name(row: dict[str, Any]) -> str:
    """Return what is run, and the name of this run of it where that does not say it."""
    name, made_by, run_id = row["name"] or "", row["made_by"] or "", row["id"]
    if name and made_by not in name:
        return f"{made_by} {name}"
    return str(name or made_by or run_id)
