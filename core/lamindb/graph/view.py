"""``ln.lineage``: one file or run, and all that it comes from and that came of it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from lamindb.display import in_notebook
from lamindb.errors import RecordError
from lamindb.graph.model import Direction, Graph, Subject, label
from lamindb.graph.references import subject_of
from lamindb.graph.walking import load

if TYPE_CHECKING:
    import networkx
    import pandas as pd
    from rich.tree import Tree

_DEPTH = 10


def lineage(record: Any) -> Lineage:
    """Return the lineage of a file or run.

    Args: record: a File, Run or Transform (its latest run), or the id, key, path or name of one.
    Raises: RecordError: nothing of that name is recorded.
    """
    return Lineage(subject_of(record))


class Lineage:
    """What one file or run comes from (upstream), and what came of it (downstream).

    In a notebook it shows itself as a picture. ``depth`` counts runs: 1 is the run that wrote the
    file, and None is all. Of a run that started others, such as a workflow, theirs is its own.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def upstream(self, depth: int | None = None) -> pd.DataFrame:
        """Return every run upstream, nearest first, with the files that it read.

        Args: depth: runs to walk back; None is all.
        Returns: one row for each (run, file that it read), and one without a file for a run that
            read none: distance int64 (1 wrote the file; of a run, 0 is itself), run_id, transform,
            transform_version, engine, status, started_at datetime64[us, UTC], duration_s float64
            (NaN while it runs), file_id, file (key or name), size Int64, hash, is_latest boolean
            (False: there is a newer version), how (declared or observed).
            No rows: the same columns and dtypes.
        Source: W3C PROV-DM 2013, ``used`` and ``wasGeneratedBy`` walked backwards.
        """
        from lamindb.graph.frames import frame

        return frame(self.subject, "upstream", _checked(depth))

    def downstream(self, depth: int | None = None) -> pd.DataFrame:
        """Return every run downstream, nearest first, with the files that it wrote.

        Returns: as :meth:`upstream`, but the files are those that the runs wrote.
        """
        from lamindb.graph.frames import frame

        return frame(self.subject, "downstream", _checked(depth))

    def rows(self, direction: Direction = "both", depth: int | None = None) -> Graph:
        """Return the rows and links themselves, as plain dicts."""
        return load(self.subject, direction, _checked(depth))

    def graph(
        self, direction: Direction = "both", depth: int | None = None
    ) -> networkx.DiGraph[str]:
        """Return a ``networkx.DiGraph``, whose edges go the way that data went.

        Nodes are the ids of files and runs, with the columns of their rows as attributes and
        ``kind`` (``file`` or ``run``), ``label`` and, of runs, ``transform``. Edges have ``role``
        and ``how``.

        Raises: PackageMissingError: networkx is not installed.
        """
        from lamindb.graph.formats import to_networkx

        return to_networkx(self.rows(direction, depth))

    def mermaid(self, direction: Direction = "both", depth: int | None = 5) -> str:
        """Return a Mermaid flowchart, as GitHub, GitLab and JupyterLab draw it.

        Runs and files of a kind are drawn as one, with their number.
        """
        from lamindb.graph.formats import to_mermaid

        return to_mermaid(self.rows(direction, depth))

    def dot(self, direction: Direction = "both", depth: int | None = 5) -> str:
        """Return a graph for Graphviz, with what is of a kind drawn as one, as in Mermaid."""
        from lamindb.graph.formats import to_dot

        return to_dot(self.rows(direction, depth))

    def tree(self, direction: Direction = "upstream", depth: int = _DEPTH) -> Tree:
        """Return a ``rich.tree.Tree`` of the way back, or, downstream, of the way on."""
        from lamindb.graph.tree import tree

        if direction == "both":
            direction = "upstream"
        # all of it, to say how much is not shown
        return tree(self.rows(direction), depth, direction)

    def html(self, depth: int | None = None) -> str:
        """Return one self-contained page with an interactive picture: it opens offline.

        Args: depth: runs to walk in each direction; None is as many as there is room for.
        """
        from lamindb.graph.page import page

        return page(self.picture(depth))

    def show(self, depth: int | None = None) -> None:
        """Show the picture in a notebook, and the tree elsewhere."""
        if in_notebook():
            from IPython.display import HTML, display

            from lamindb.graph.page import frame

            display(HTML(frame(self.picture(depth))))  # type: ignore[no-untyped-call]
        else:
            from rich.console import Console

            Console(highlight=False).print(self.tree(depth=depth or _DEPTH))

    def _repr_html_(self) -> str:
        from lamindb.graph.page import frame

        return frame(self.picture())

    def picture(self, depth: int | None = None) -> dict[str, Any]:
        from lamindb.graph.picture import picture

        return picture(self.subject, _checked(depth))

    @cached_property
    def label(self) -> str:
        row = self.subject.row
        return label(row) if self.subject.kind == "file" else str(row["name"] or row["id"])

    def __repr__(self) -> str:
        return f"<Lineage of the {self.subject.kind} {self.label!r}, {self.subject.id}>"

    def __rich__(self) -> Tree:
        return self.tree()


def _checked(depth: int | None) -> int | None:
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
        raise RecordError(f"depth={depth!r}: give a number of runs from 1 on, or None for all")
    return depth
