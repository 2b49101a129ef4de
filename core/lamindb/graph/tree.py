"""The way back from a file or run, or the way on, as a tree for terminals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from lamindb import display
from lamindb.graph.folding import Group, fold
from lamindb.graph.model import Direction, Graph, Node, Row, label
from lamindb.graph.objects import Objects

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

# a terminal too narrow shows the start of each line
_ONE_LINE: Any = {"no_wrap": True, "overflow": "ellipsis"}
# one node, or several of a kind
Item = Node | Group
_LINK_WORDS = {
    ("cached_from", False): "result of ",
    ("cached_from", True): "reused by ",
    ("informed_by", False): "value of ",
    ("informed_by", True): "value for ",
}


def tree(
    graph: Graph, depth: int, direction: Direction = "upstream", *, every: bool = False
) -> Tree:
    """Return the runs that wrote a file, what they read, and so on; each run's past only once.

    Downstream: the runs that read it, and what they wrote.

    Args: depth: runs to walk; every: name each file and run, rather than those of a kind as one.
    """
    return _Walk(graph, depth, direction == "downstream", every).draw()


class _Walk:
    # without recursion, for a file that is made from yesterday's has a long past

    def __init__(self, graph: Graph, depth: int, forth: bool, every: bool) -> None:
        self._graph, self._depth, self._forth = graph, depth, forth
        self._step = Graph.after if forth else Graph.before
        self._groups: dict[Node, Group] = {} if every else fold(graph)
        self._objects = Objects()
        self._seen: set[str] = set()
        # tree, item, level, words before a run; the top one is next
        self._left: list[tuple[Tree, Item, int, str]] = []

    def draw(self) -> Tree:
        from rich.text import Text
        from rich.tree import Tree

        subject = self._graph.subject.node
        if subject[0] == "file":
            row = self._graph.files[subject[1]]
            text = Text(display.printable(label(row)), style="bold")
            text.append(self._lost([row]), style="not bold red")
            root = Tree(text)
            self._expand_files(root, subject, 0)
        else:
            root = Tree(self._describe_runs(subject, "run "))
            self._expand_runs(root, subject, 0)
            self._left += [
                (root, child, 0, "started ") for child in reversed(self._children_of(subject[1]))
            ]
        while self._left:
            node, item, level, words = self._left.pop()
            if _is_file(item):
                self._expand_files(node, item, level)
            else:
                self._add_runs(node, item, level, words)
        return root

    # --- steps ------------------------------------------------------------------------------------

    def _expand_files(self, node: Tree, item: Item, level: int) -> None:
        from rich.text import Text

        runs = self._nexts(item, "run")
        if not runs:
            if not self._forth:
                node.add(Text("no recorded run", style="dim"))
            elif level == 0:
                node.add(Text("no recorded run has read it", style="dim"))
        elif level == self._depth:
            beyond = {
                run
                for file_id in _members(item)
                for run in self._graph.runs_beyond(file_id, self._step)
            }
            node.add(Text(_rest(len(beyond - self._seen), self._forth), style="dim"))
        else:
            first = "read by " if self._forth else "by "
            others = "read by " if self._forth else "also by "
            self._left += [
                (node, run, level + 1, first if run == runs[0] else others)
                for run in reversed(runs)
            ]

    def _add_runs(self, node: Tree, item: Item, level: int, words: str) -> None:
        from rich.text import Text

        branch = node.add(self._describe_runs(item, words))
        if _name(item) in self._seen:
            if self._nexts(item, "file") or self._nexts(item, "run"):
                branch.add(Text("… as above", style="dim"))
            return
        self._expand_runs(branch, item, level)

    def _expand_runs(self, branch: Tree, item: Item, level: int) -> None:
        self._seen.add(_name(item))
        nexts: list[tuple[Tree, Item, int, str]] = [
            (branch.add(self._describe_files(files)), files, level, "")
            for files in self._nexts(item, "file")
        ]
        for run in self._nexts(item, "run"):
            nexts.append((branch, run, level, self._link_words(item, run)))
        self._left += reversed(nexts)

    def _nexts(self, item: Item, kind: str) -> list[Item]:
        """Return what is one edge on from any member, of one kind, each once."""
        nodes = (
            node
            for name in _members(item)
            for node in self._step(self._graph, (_kind(item), name))
            if node[0] == kind
        )
        return self._folded(nodes)

    def _folded(self, nodes: Iterable[Node]) -> list[Item]:
        items: dict[str, Item] = {}
        for node in nodes:
            found = self._groups.get(node, node)
            items.setdefault(_name(found), found)
        return list(items.values())

    def _children_of(self, run_id: str) -> list[Item]:
        """The runs that a run started: what they read and wrote is its own."""
        by_start = self._graph.by_start(self._graph.starts - {run_id})
        return self._folded(("run", each) for each in by_start)

    def _link_words(self, item: Item, other: Item) -> str:
        ours, theirs = set(_members(item)), set(_members(other))
        for link in self._graph.run_links:
            one, two = (link.other_id, link.run_id) if self._forth else (link.run_id, link.other_id)
            if one in ours and two in theirs:
                return _LINK_WORDS[link.role, self._forth]
        return ""

    # --- words ------------------------------------------------------------------------------------

    def _describe_files(self, item: Item) -> Text:
        from rich.text import Text

        files = [self._graph.files[each] for each in _members(item)]
        if isinstance(item, Group):
            text = Text(display.printable(item.label), **_ONE_LINE)
            text.append(f"  × {len(files):,}", style="bold")
        else:
            text = Text(display.printable(label(files[0])), **_ONE_LINE)
        text.append(f"  {display.size(sum(row['size'] or 0 for row in files))}", style="dim")
        older = sum(not row["is_latest"] for row in files)
        if older:
            words = f"{older:,} older versions" if isinstance(item, Group) else "an older version"
            text.append(f"  {words}", style="yellow")
        text.append(self._lost(files), style="red")
        return text

    def _lost(self, files: list[Row]) -> str:
        """Say of how many files the object is gone, or is not what was recorded."""
        counts = Counter(self._objects.of(row).state for row in files)
        words = [
            state if len(files) == 1 else f"{counts[state]:,} {state}"
            for state in ("gone", "changed since")
            if counts[state]
        ]
        return "".join(f"  {each}" for each in words)

    def _describe_runs(self, item: Item, before: str) -> Text:
        from rich.text import Text

        graph, members = self._graph, _members(item)
        first = graph.by_start(members)[0]
        row, made = graph.runs[first], graph.transform_of(first)
        text = Text(**_ONE_LINE)
        text.append(before, style="dim")
        text.append(display.printable(graph.name_of(members[0])), style="cyan")
        if made and made["version"] != "0":
            text.append(f" v{display.printable(made['version'])}", style="cyan")
        if isinstance(item, Group):
            text.append(f"  × {len(members):,}", style="bold")
        params = self._params_of(members)
        if params:
            shown = ", ".join(f"{name}={value}" for name, value in params.items())
            text.append(f"  {display.printable(shown)}")
        text.append(f"  {display.printable(row['started_at'])}", style="dim")
        if not isinstance(item, Group):
            text.append(f"  run {members[0]}", style="dim")
        statuses = Counter(graph.runs[each]["status"] for each in members)
        for status, count in statuses.items():
            if status != "completed":
                number = f"{count:,} " if isinstance(item, Group) else ""
                style = display.STATUS_STYLES.get(status, "")
                text.append(f"  {number}{status}", style=style)
        return text

    def _params_of(self, members: list[str]) -> dict[str, object]:
        """Return the parameters that all have in common."""
        each = [self._graph.runs[run_id]["params"] or {} for run_id in members]
        return {
            name: value
            for name, value in each[0].items()
            if all(name in params and params[name] == value for params in each[1:])
        }


def _is_file(item: Item) -> bool:
    return _kind(item) == "file"


def _kind(item: Item) -> Literal["file", "run"]:
    return item.kind if isinstance(item, Group) else item[0]


def _name(item: Item) -> str:
    return item.id if isinstance(item, Group) else item[1]


def _members(item: Item) -> list[str]:
    return item.members if isinstance(item, Group) else [item[1]]


def _rest(count: int, forth: bool) -> str:
    if count == 0:
        return "… as above"
    way = "downstream" if forth else "upstream"
    return f"… {display.counted(count, 'more run')} {way}; --depth shows more"
