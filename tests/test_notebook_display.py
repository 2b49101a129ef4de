"""What notebooks show of records, queries and lineage; nothing of it is needed elsewhere."""

from __future__ import annotations

import html
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import lamindb as ln
from lineage_study import tell_study

CELLS = [
    "import lamindb as ln\nln.select(ln.File, key='best.json').one()",
    "ln.select(ln.Run)",
    "ln.lineage('best.json')",
    "ln.select(ln.File, key='best.json').one().view_lineage()",
    "ln.why('best.json')",
    "ln.diff('merge', 'load')",
]


@pytest.fixture
def project() -> Path:
    ln.setup.init("./mydata")
    return Path.cwd()


def test_a_notebook_shows_records_queries_and_pictures(project: Path) -> None:
    tell_study(project)
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=50, resources={"metadata": {"path": str(project)}}).execute()
    shown = []
    for cell in notebook.cells:
        assert cell.outputs[-1].output_type in ("execute_result", "display_data"), cell.outputs
        shown.append(cell.outputs[-1].data["text/html"])
    record, query, lineage, viewed, why, diff = shown
    assert "<caption>File</caption>" in record
    assert "best.json" in record
    assert "25 in all" in query
    for picture in (lineage, viewed):
        assert picture.startswith("<iframe srcdoc=")
        assert "lineage-data" in html.unescape(picture)
    assert "best.json has one version only" in why
    assert "<table" in diff
    # plain text beside it, as terminals and exports to text show
    assert notebook.cells[2].outputs[-1].data["text/plain"].startswith("<Lineage of the file")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "two\nlines", "\u202egnp", "🧪"])
def test_names_are_escaped_in_a_notebook(project: Path, name: str) -> None:
    run = ln.track(ln.Transform(name), params={name: name})
    Path("x").write_text("x")
    file = ln.add(ln.File("x", name=name, description=name))
    ln.finish()
    for shown in (file, run, run.transform, ln.select(ln.File), ln.lineage(file)):
        assert "<script>alert" not in shown._repr_html_()
    for shown in (file, run, run.transform, ln.lineage(file)):
        assert "\u202e" not in shown._repr_html_()


def test_showing_a_file_reads_none_of_its_bytes(project: Path) -> None:
    Path("x").write_text("x")
    file = ln.File("x")
    Path("x").write_text("changed since")
    assert "hash</th>" not in file._repr_html_()


def test_an_empty_query_and_one_of_columns_break_nothing(project: Path) -> None:
    assert "0 in all" in (ln.select(ln.File)._repr_html_() or "")
    assert ln.select(ln.File.key)._repr_html_() is None
    assert "1 in all" in (ln.select(ln.User).limit(1)._repr_html_() or "")
