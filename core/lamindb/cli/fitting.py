"""Trees that fit a terminal, however narrow it is and however deep they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

# a run's id needs 24 cells with the word before it
_LEAST_ROOM = 28
_MOST_LINES = 3
_GAP = "  "
# of a child, of the last one, and below each of them
_GUIDES = (("├── ", "│   "), ("└── ", "    "))
_ASCII_GUIDES = (("+-- ", "|   "), ("`-- ", "    "))
_NARROW = 2


def tree_lines(tree: Tree, screen: Console) -> Iterator[Text]:
    """Yield the lines of a tree whose labels are texts, none wider than a terminal.

    What does not fit into one line goes on in the next, if it can be between what two spaces part,
    else between words; what is too long even so is shortened in its middle. Where the tree is too
    deep, its guides are narrower, and if that is not enough only the nearest are left.
    """
    from rich.text import Text

    guides: Sequence[tuple[str, str]] = _ASCII_GUIDES if screen.options.ascii_only else _GUIDES
    deepest = max(screen.width - _LEAST_ROOM, 0)
    step = len(guides[0][0])
    if step * _depth(tree) > deepest:
        guides = [(first[0] + " ", rest[:_NARROW]) for first, rest in guides]
        step = _NARROW
    left: list[tuple[Tree, str, str]] = [(tree, "", "")]
    while left:
        node, first, below = left.pop()
        assert isinstance(node.label, Text)
        last = len(node.children) - 1
        left += [
            (child, below + guides[number == last][0], below + guides[number == last][1])
            for number, child in reversed(list(enumerate(node.children)))
        ]
        rest = below + guides[0][1] if node.children else below
        shown, rest = (_nearest(each, deepest, step) for each in (first, rest))
        for line in _folded(node.label, screen, screen.width - max(len(shown), len(rest))):
            yield Text(shown).append_text(line)
            shown = rest


def _depth(tree: Tree) -> int:
    found, level = -1, [tree]
    while level:
        found, level = found + 1, [child for node in level for child in node.children]
    return found


def _nearest(guide: str, most: int, step: int) -> str:
    if len(guide) <= most:
        return guide
    kept = max(most - 1, 0) // step * step
    return "…" + guide[len(guide) - kept :]


def _folded(label: Text, screen: Console, room: int) -> list[Text]:
    """Return a label as lines of at most so many cells."""
    from rich.text import Text

    if label.cell_len <= room:
        return [label]
    lines: list[Text] = []
    for part in label.split(_GAP):
        first, *others = _wrapped(part, screen, room)
        if lines and lines[-1].cell_len + len(_GAP) + first.cell_len <= room:
            lines[-1] = Text.assemble(lines[-1], _GAP, first)
        else:
            lines.append(first)
        lines += others
    return lines


def _wrapped(part: Text, screen: Console, room: int) -> list[Text]:
    """Return a part as a few lines between words, or as one without its middle."""
    from rich.cells import cell_len
    from rich.text import Text

    if part.cell_len <= room:
        return [part]
    longest = max(map(cell_len, part.plain.split()), default=part.cell_len)
    if longest <= room and part.cell_len <= _MOST_LINES * room:
        return list(part.wrap(screen, room, overflow="fold", no_wrap=False))
    start = part.copy()
    start.truncate((room - 1) * 2 // 5, overflow="crop")
    place, taken = len(part), start.cell_len + 1
    while place and taken + cell_len(part.plain[place - 1]) <= room:
        place -= 1
        taken += cell_len(part.plain[place])
    return [Text.assemble(start, "…", part[place:])]
