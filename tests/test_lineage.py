"""``ln.lineage``: what a file or run comes from and what came of it, across engines."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import networkx
import pandas as pd
import pytest
import rich.console
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select
from sqlalchemy.dialects import postgresql

import lamindb as ln
from lamindb import instance, recorder
from lamindb.cli import main
from lamindb.db import schema
from lamindb.errors import PackageMissingError, RecordError
from lamindb.graph.folding import levels
from lamindb.graph.model import Subject
from lamindb.graph.walking import runs_from
from lamindb.hooks import RunLinked, emit
from lineage_study import Teller, tell_study

pytestmark = pytest.mark.databases("full")

ODD_NAMES = [
    "quote\"d 'name'.csv",
    "<script>alert(1)</script>.csv",
    "two\nlines.csv",
    "🧪 café 数据.csv",
    "\u202egnp.csv",
    "n" * 300 + ".csv",
    "[red]x[/red] `tick` \\n #35; %% ]]>.csv",
]


@pytest.fixture
def project() -> Path:
    ln.setup.init("./mydata")
    return Path.cwd()


@pytest.fixture
def study(project: Path) -> Teller:
    return tell_study(project)


def steps(frame: pd.DataFrame) -> list[tuple[int, str, str | None]]:
    """Return distance, transform and file of each row."""
    return [
        (row.distance, row.transform, None if pd.isna(row.file) else row.file)
        for row in frame.itertuples()
    ]


def drawn(record: Any, **options: Any) -> list[str]:
    """Return a tree as it is shown, without times and ids."""
    console = rich.console.Console(width=500, highlight=False)
    with console.capture() as shown:
        console.print(ln.lineage(record).tree(**options))
    return [
        re.sub(r"  \d{4}-\d\d-.*?:\d\d:\d\d|  run \w{20}", "", line)
        for line in shown.get().splitlines()
    ]


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.databases
def test_upstream_goes_back_across_engines_nearest_first(study: Teller) -> None:
    frame = ln.lineage("results/report.html").upstream()
    assert steps(frame)[:6] == [
        (1, "report.py", "best.json"),
        (1, "report.py", "counts.tsv"),
        (2, "merge", "counts/s0.tsv"),
        (2, "merge", "counts/s1.tsv"),
        (2, "merge", "counts/s2.tsv"),
        (2, "merge", "counts/s3.tsv"),
    ]
    assert steps(frame)[-1] == (5, "acquire.py", None)
    assert set(frame.engine) == {"plain", "snakemake", "prefect"}
    fits = frame[frame["transform"] == "fit"]
    assert list(fits.distance) == [3] * 5
    assert (4, "load", "counts.tsv") in steps(frame)  # by its value alone
    assert "plot" not in set(frame["transform"])
    first = frame.iloc[0]
    file = ln.select(ln.File, key="best.json").one()
    assert (first.file_id, first["size"], first.hash) == (file.id, file.size, file.hash)
    assert (first.how, first.is_latest, first.status) == ("declared", True, "completed")
    assert first.duration_s == pytest.approx(2.8)


def test_downstream_goes_on_to_all_that_came_of_a_file(study: Teller) -> None:
    file = ln.select(ln.File, key="raw/s3.csv").one()
    assert steps(ln.lineage(file).downstream(depth=4)) == [
        (1, "trim", "trimmed/s3.csv"),
        (2, "count", "counts/s3.tsv"),
        (3, "merge", "counts.tsv"),
        (4, "plot", None),
        (4, "load", None),
        (4, "report.py", "results/report.html"),
    ]
    assert ln.lineage(file).downstream().iloc[-1].file == "best.json"


@pytest.mark.databases
def test_depth_counts_runs(study: Teller) -> None:
    view = ln.lineage("results/report.html")
    assert set(view.upstream(depth=1).distance) == {1}
    assert set(view.upstream(depth=3).distance) == {1, 2, 3}
    whole = view.upstream()
    for depth in range(1, 7):
        expected = whole[whole.distance <= depth].reset_index(drop=True)
        pd.testing.assert_frame_equal(view.upstream(depth=depth), expected)
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(RecordError, match="depth="):
            view.upstream(depth=wrong)  # type: ignore[arg-type]


@pytest.mark.databases
def test_a_workflow_has_the_lineage_of_what_it_started(study: Teller) -> None:
    run = ln.select(ln.Run, name="Snakefile").one()
    frame = ln.lineage(run).upstream(depth=1)
    assert set(frame[frame.distance == 0]["transform"]) == {
        "Snakefile", "trim", "count", "merge", "plot",
    }  # fmt: skip
    assert steps(frame[frame.distance == 1]) == [(1, "acquire.py", None)]
    assert (1, "report.py", "results/report.html") in steps(ln.lineage(run).downstream())


def test_a_frame_has_its_columns_and_types_without_rows(project: Path) -> None:
    Path("a.txt").write_text("a")
    file = ln.add(ln.File("a.txt", key="a.txt"))
    empty = ln.lineage(file).upstream()
    tell_study(project)
    full = ln.lineage("results/report.html").upstream()
    assert len(empty) == 0
    assert list(empty.dtypes.items()) == list(full.dtypes.items())
    assert str(full.dtypes["started_at"]) == "datetime64[us, UTC]"
    assert full.dtypes["distance"] == "int64"
    assert full.dtypes["duration_s"] == "float64"


def test_a_file_is_named_by_record_id_key_path_or_transform(study: Teller) -> None:
    file = ln.select(ln.File, key="counts.tsv").one()
    for reference in (file, file.id, "counts.tsv", Path("counts.tsv")):
        assert ln.lineage(reference).subject.id == file.id
    fit = ln.select(ln.Run, name="fit").order_by(ln.Run.started_at.desc()).first()
    assert ln.lineage(fit.transform).subject.id == fit.id
    assert ln.lineage("fit").subject.id == fit.id
    assert repr(ln.lineage(file)) == f"<Lineage of the file 'counts.tsv', {file.id}>"
    with pytest.raises(RecordError, match="nothing is recorded as 'nowhere'"):
        ln.lineage("nowhere")
    with pytest.raises(RecordError, match="has no lineage: give a File"):
        ln.lineage(3)
    Path("new.txt").write_text("new")
    with pytest.raises(RecordError, match="is not recorded: add it"):
        ln.lineage(ln.File("new.txt"))


# --- special cases ------------------------------------------------------------------------------


def test_other_producers_are_upstream_too(project: Path) -> None:
    tell = Teller(project)
    tell.step("plain", "1", "first", [], ["a.txt"])
    again = tell.step("snakemake", "2", "again", [], ["b.txt"])
    tell.read(again, "a.txt")
    (project / "a.txt").write_text("a.txt by first \n")
    tell.write(again, "a.txt", "a.txt by first \n")
    tell.finish(again)
    assert steps(ln.lineage("a.txt").upstream())[0] == (1, "first", None)
    assert {step[1] for step in steps(ln.lineage("a.txt").upstream())} == {"first", "again"}


@pytest.mark.databases
def test_a_cycle_is_walked_once(project: Path) -> None:
    tell = Teller(project)
    tell.step("plain", "1", "make", [], ["a.txt", "b.txt"])
    one, other = (ln.select(ln.File, key=f"{name}.txt").one().id for name in "ab")
    runs = [tell.step("plain", str(n), "turn", [], []) for n in (2, 3)]
    assert recorder.flush()
    rows = zip(runs * 2, (one, other, other, one), ("input",) * 2 + ("output",) * 2, strict=True)
    with instance.current().database.begin() as connection:
        for run, file, role in rows:
            connection.execute(
                insert(schema.run_file).values(run_id=run, file_id=file, role=role, how="declared")
            )
    for depth in (None, 1, 7, 50):
        assert len(ln.lineage("a.txt").upstream(depth=depth)) <= 3
    assert len(ln.lineage("a.txt").upstream()) == 3
    assert len(ln.lineage("a.txt").downstream()) == 2
    assert networkx.is_directed_acyclic_graph(ln.lineage("a.txt").graph()) is False
    assert len(ln.lineage("a.txt").mermaid()) > 0
    assert len(drawn("a.txt")) < 20


def test_a_reused_result_leads_to_the_run_that_made_it(project: Path) -> None:
    tell = Teller(project)
    made = tell.step("prefect", "1", "slow", [], ["a.txt"])
    cached = tell.step("prefect", "2", "slow", status="cached")
    emit(RunLinked(run=cached, other=made, role="cached_from"))
    user = tell.step("prefect", "3", "use", [], ["b.txt"])
    emit(RunLinked(run=user, other=cached, role="informed_by"))
    assert recorder.flush()
    frame = ln.lineage("b.txt").upstream()
    assert list(zip(frame.distance, frame.run_id, strict=True)) == [
        (1, user),
        (2, cached),
        (3, made),
    ]
    assert drawn("b.txt") == [
        "b.txt",
        "└── by use",
        "    └── value of slow  cached",
        "        └── result of slow",
    ]
    assert "result of" not in "".join(drawn("a.txt", direction="downstream"))
    assert steps(ln.lineage(made).downstream())[-1] == (2, "use", "b.txt")


def test_what_was_taken_back_leads_nowhere(project: Path) -> None:
    from lamindb.hooks import FileRetracted

    tell = Teller(project)
    run = tell.step("prefect", "1", "try", [], ["a.txt"])
    emit(
        FileRetracted(
            run=run, uri=str(project / "a.txt"), reason="rolled back", at=tell.clock.tick()
        )
    )
    assert recorder.flush()
    assert len(ln.lineage("a.txt").upstream()) == 0
    assert len(ln.lineage(run).upstream()) == 1
    assert [row["role"] for *_, row in ln.lineage(run).graph().edges(data=True)] == ["retracted"]


def test_a_run_that_runs_and_a_run_of_which_little_is_known(project: Path) -> None:
    tell = Teller(project)
    run = tell.start("prefect", "1", "busy")
    tell.write(run, "a.txt", "a")
    row = ln.lineage("a.txt").upstream().iloc[0]
    assert row.status == "started"
    assert pd.isna(row.duration_s)
    stub = "s" * 20
    tell.write(stub, "b.txt", "b")
    row = ln.lineage("b.txt").upstream().iloc[0]
    assert (row.run_id, row.status) == (stub, "started")
    assert pd.isna(row.started_at)
    assert pd.isna(row["transform"])


# --- the walk against a plain one ----------------------------------------------------------------

edges = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["input", "output"])),
    max_size=30,
)


@given(edges=edges, values=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_walk_finds_what_a_plain_search_finds(
    project: Path, edges: list[tuple[int, int, str]], values: list[tuple[int, int]]
) -> None:
    write_rows(edges, values)
    plain = networkx.DiGraph()
    plain.add_nodes_from(f"{kind}{n:019}" for kind in "rf" for n in range(7))
    for run, file, role in edges:
        ends = f"f{file:019}", f"r{run:019}"
        plain.add_edge(*(ends if role == "input" else ends[::-1]))
    plain.add_edges_from((f"r{one:019}", f"r{other:019}") for other, one in values)
    for direction, reach in (("upstream", plain.reverse()), ("downstream", plain)):
        near = runs_between(reach, f"f{0:019}")
        for depth in (None, 1, 2, 3):
            frame = getattr(ln.lineage(f"f{0:019}"), direction)(depth=depth)
            found = dict(zip(frame.run_id, frame.distance, strict=True))
            assert found == {run: n for run, n in near.items() if depth is None or n <= depth}
        rows = ln.lineage(f"f{0:019}").rows(direction)  # type: ignore[arg-type]
        assert set(rows.runs) == set(near)
        distances = rows.distances(direction)  # type: ignore[arg-type]
        assert {name: n for (kind, name), n in distances.items() if kind == "run"} == near
    levels(ln.lineage(f"f{0:019}").rows())


def write_rows(edges: Iterable[tuple[int, int, str]], values: Iterable[tuple[int, int]]) -> None:
    here, at = instance.current(), dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    common = {"created_by_id": here.user_id, "created_at": at}
    with here.database.begin() as connection:
        for table in (schema.run_file, schema.run_run, schema.file, schema.run):
            connection.execute(delete(table))
        connection.execute(
            insert(schema.run),
            [
                {"id": f"r{n:019}", "status": "completed", "started_at": at, **common}
                for n in range(7)
            ],
        )
        connection.execute(
            insert(schema.file),
            [
                {
                    "id": f"f{n:019}",
                    "name": f"{n}",
                    "key": f"{n}",
                    "suffix": "",
                    "storage_id": here.default_storage_id,
                    "updated_at": at,
                    **common,
                }
                for n in range(7)
            ],
        )
        for run, file, role in set(edges):
            connection.execute(
                insert(schema.run_file).values(
                    run_id=f"r{run:019}", file_id=f"f{file:019}", role=role, how="declared"
                )
            )
        for run, other in set(values):
            connection.execute(
                insert(schema.run_run).values(
                    run_id=f"r{run:019}", other_id=f"r{other:019}", role="informed_by"
                )
            )


def runs_between(graph: networkx.DiGraph, start: str) -> dict[str, int]:
    """Return the runs that can be reached, with the fewest runs on the way, itself counted."""
    weighted = networkx.DiGraph()
    weighted.add_nodes_from(graph)
    weighted.add_weighted_edges_from((a, b, 1 if b[0] == "r" else 0) for a, b in graph.edges)
    lengths = networkx.single_source_dijkstra_path_length(weighted, start)
    return {name: length for name, length in lengths.items() if name[0] == "r"}


def test_postgresql_gets_one_recursive_term_and_sqlite_none_that_is_lateral(project: Path) -> None:
    subject = Subject("file", {"id": "f"})
    for direction, depth in itertools.product(("upstream", "downstream"), (None, 3)):
        cte = runs_from(subject, direction, depth, "postgresql")  # type: ignore[arg-type]
        sql = str(select(cte.c.run_id).compile(dialect=postgresql.dialect()))
        assert sql.count("LATERAL") == 1
        recursive = sql[sql.index("WITH RECURSIVE") :]
        assert recursive.count(f"FROM {direction} ") + recursive.count(f"JOIN {direction} ") <= 2
        cte = runs_from(subject, direction, depth, "sqlite")  # type: ignore[arg-type]
        assert "LATERAL" not in str(select(cte.c.run_id))


# --- graphs and texts ---------------------------------------------------------------------------


def test_the_graph_has_rows_as_attributes_and_goes_as_data_went(study: Teller) -> None:
    graph = ln.lineage("results/report.html").graph()
    assert networkx.is_directed_acyclic_graph(graph)
    file = ln.select(ln.File, key="results/report.html").one()
    [(run, _)] = graph.in_edges(file.id)
    assert graph.nodes[file.id]["label"] == "results/report.html"
    assert graph.nodes[file.id]["hash"] == file.hash
    assert graph.nodes[run]["transform"] == "report.py"
    assert graph.nodes[run]["engine"] == "plain"
    assert graph.edges[run, file.id] == {"role": "output", "how": "declared"}
    raw = [name for name, row in graph.nodes(data=True) if str(row["label"]).startswith("raw/")]
    assert len(raw) == 6
    assert all(networkx.has_path(graph, each, file.id) for each in raw)
    assert ln.lineage(file).graph(depth=1).number_of_nodes() == 4


def test_without_networkx_the_error_says_what_to_do(
    study: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    with pytest.raises(PackageMissingError, match="pip install networkx") as raised:
        ln.lineage("counts.tsv").graph()
    assert isinstance(raised.value, ImportError)


def test_mermaid_and_dot_draw_what_is_of_a_kind_as_one(study: Teller) -> None:
    text = ln.lineage("results/report.html").mermaid()
    assert text.startswith("flowchart LR\n")
    assert '[["count<br>✓ × 6"]]:::completed' in text
    assert '{{"fit<br>✓ × 5"}}:::completed' in text
    assert '("raw/s*.csv<br>× 6")' in text
    assert "-. informed by .->" in text
    assert '("results/report.html"):::focus' in text
    dot = ln.lineage("results/report.html").dot()
    assert dot.count("->") == text.count("-->") + text.count(".->")
    assert '"count\\n✓ × 6"' not in dot.replace('label="', "")
    assert 'label="count\\n✓ × 6", shape=component, color="#009e73"' in dot


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_stay_inside_their_quotes(project: Path, name: str) -> None:
    Path("source").write_text("x")
    run = ln.track(ln.Transform(name), params={name: name})
    ln.add(ln.File("source", name=name))
    ln.finish()
    view = ln.lineage(run)
    mermaid = view.mermaid().splitlines()
    assert (
        len(
            [
                line
                for line in mermaid
                if re.fullmatch(r'  n\d+\S*"[^"<>`]*(<br>[^"<>`]*)?"\S+', line)
            ]
        )
        == 2
    )
    assert "<script" not in "\n".join(mermaid)
    for line in view.dot().splitlines()[1:-1]:
        assert re.fullmatch(r"  .*", line)
        assert len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2 == 0
    [label, *_] = drawn(view.subject.row["id"])
    assert "\n" not in label


# --- trees --------------------------------------------------------------------------------------


def test_the_tree_shows_what_is_of_a_kind_as_one(study: Teller) -> None:
    assert drawn("results/report.html") == [
        "results/report.html",
        "└── by report.py  title=Counts & models",
        "    ├── best.json  19 B",
        "    │   └── by best",
        "    │       └── models/k*.json  × 5  115 B",
        "    │           └── by fit  × 5",
        "    │               └── value of load",
        "    │                   └── counts.tsv  21 B",
        "    │                       └── by merge",
        "    │                           └── counts/s*.tsv  × 6  144 B",
        "    │                               └── by count  × 6",
        "    │                                   └── trimmed/s*.csv  × 6  144 B",
        "    │                                       └── by trim  × 6",
        "    │                                           └── raw/s*.csv  × 6  156 B",
        "    │                                               └── by acquire.py  samples=6",
        "    └── counts.tsv  21 B",
        "        └── by merge",
        "            └── … as above",
    ]


def test_the_tree_of_a_workflow_names_what_it_started(study: Teller) -> None:
    assert drawn("Snakefile", depth=1)[:6] == [
        "run Snakefile  genome=GRCh38",
        "├── started trim  × 6",
        "│   └── raw/s*.csv  × 6  156 B",
        "│       └── by acquire.py  samples=6",
        "├── started count  × 6",
        "│   └── trimmed/s*.csv  × 6  144 B",
    ]
    assert "└── started plot  failed" in drawn("Snakefile", depth=1)
    assert drawn("raw/s0.csv", direction="downstream", depth=2) == [
        "raw/s0.csv",
        "└── read by trim  sample=s0",
        "    └── trimmed/s0.csv  24 B",
        "        └── read by count  sample=s0",
        "            └── counts/s0.tsv  24 B",
        "                └── … 10 more runs downstream; --depth shows more",
    ]


# --- the command line, and the records ------------------------------------------------------------


def lamin(*arguments: str, code: int = 0) -> str:
    """Return what a command prints."""
    instance.reset()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_lamin_lineage_prints_a_tree_json_or_other_programs_formats(study: Teller) -> None:
    tree = lamin("lineage", "results/report.html")
    assert "by fit  × 5" in tree
    assert len(tree.splitlines()) == 18
    whole = lamin("lineage", "results/report.html", "--all")
    assert "by fit  k=3" in whole
    assert "plot" in lamin("lineage", "counts.tsv", "--downstream")
    found = json.loads(lamin("lineage", "counts.tsv", "--json", "--depth", "1"))
    assert [row["name"] for row in found["runs"]] == ["merge"]
    assert len(found["files"]) == 7
    assert {link["role"] for link in found["links"]} == {"input", "output"}
    found = json.loads(lamin("lineage", "counts.tsv", "--json", "--downstream"))
    assert found["direction"] == "downstream"
    assert {link["role"] for link in found["run_links"]} == {"informed_by"}
    assert lamin("lineage", "counts.tsv", "--mermaid").startswith("flowchart LR\n")
    assert lamin("lineage", "counts.tsv", "--dot").startswith("digraph lineage {\n")
    assert "take one of" in lamin("lineage", "counts.tsv", "--dot", "--json", code=2)
    assert "nothing is recorded as 'nowhere'" in lamin("lineage", "nowhere", code=1)
    assert lamin("lineage", "counts.tsv", "--html", "out.html") == (
        "out.html: open it in a browser\n"
    )
    assert "counts.tsv" in Path("out.html").read_text(encoding="utf-8")


def test_view_lineage_prints_the_tree_where_there_is_no_notebook(
    study: Teller, capsys: pytest.CaptureFixture[str]
) -> None:
    ln.select(ln.File, key="best.json").one().view_lineage()
    assert "by fit  × 5" in capsys.readouterr().out
    ln.select(ln.Run, name="merge").one().view_lineage(depth=1)
    assert "counts/s*.tsv  × 6" in capsys.readouterr().out
    assert sorted(path.name for path in Path.cwd().iterdir() if path.suffix == ".html") == []


def test_a_path_outside_of_the_storage_names_no_file_without_a_key(project: Path) -> None:
    Path("a.txt").write_text("a")
    ln.add(ln.File("a.txt"))
    with pytest.raises(RecordError, match=r"nothing is recorded as '\.\./elsewhere'"):
        ln.lineage("../elsewhere")


def test_of_several_files_of_one_name_the_newest_is_meant_and_it_says_so() -> None:
    ln.setup.init("./mydata")
    for key in ("a/same.txt", "b/same.txt", "[bold]/other.txt"):
        Path("x").write_text(key)
        ln.add(ln.File("x", key=key))
    instance.reset()
    result = CliRunner().invoke(main, ["lineage", "same.txt"])
    assert result.stdout.startswith("b/same.txt\n")
    assert result.stderr == "2 files are called same.txt: this is the newest, b/same.txt\n"
    for reference in ("a/same.txt", "mydata/a/same.txt", "other.txt"):
        assert CliRunner().invoke(main, ["lineage", reference]).stderr == ""


@pytest.mark.parametrize("reference", ["", "*", "a b", "[c", "no\0name", "x" * 5000, "../..", "/"])
def test_what_is_no_name_is_refused_in_words(reference: str) -> None:
    ln.setup.init("./mydata")
    with pytest.raises(RecordError, match=r"nothing is recorded as|NUL"):
        ln.lineage(reference)
    said = lamin("lineage", reference, code=1)
    assert said.startswith("Error: ")
    typed = {"": "lamin files", "*": "lamin files '*'", "a b": "lamin files 'a b'"}
    if reference in typed:
        assert said.endswith(f"see 'lamin runs', or {typed[reference]}\n")


def test_joined_emoji_stay_one_picture() -> None:
    from lamindb.display import printable

    assert printable("👩\u200d🔬\u202e\n") == "👩\u200d🔬\\u202e\\n"
