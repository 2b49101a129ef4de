"""Exports, checked by the tools and schemas of those who read them."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import lamindb as ln
from export_checks import checked, entities, events_in, lamin, of_type, validator
from lamindb import recorder
from lamindb.cli import main
from lamindb.export.mirror import Mirror
from lamindb.hooks import plugins
from lineage_rows import Rows
from lineage_study import Clock, Teller, tell_study

pytestmark = pytest.mark.databases("full")

ODD = [
    "<script>alert(1)</script>",
    'a "quoted" name',
    "two\nlines",
    "🧪 café 数据",
    "\u202egnp",
    "n" * 300,
    "👩\u200d🔬",
]


@pytest.fixture
def project() -> Path:
    ln.setup.init("./mydata")
    return Path.cwd()


# --- RO-Crate -----------------------------------------------------------------------------------


def test_crates_pass_the_validator_and_are_read_by_others(project: Path, tmp_path: Path) -> None:
    tell_study(project)
    lamin(
        "export",
        "ro-crate",
        "Snakefile",
        "packed",
        "--license",
        "https://spdx.org/licenses/CC0-1.0",
    )
    lamin("export", "ro-crate", "results/", "report", "--license", "CC0-1.0")
    broken = Path("broken")
    broken.mkdir()
    graph = json.loads(Path("report/ro-crate-metadata.json").read_text())
    for entity in graph["@graph"]:
        if entity["@type"] == "CreateAction":
            entity.pop("instrument", None)
    (broken / "ro-crate-metadata.json").write_text(json.dumps(graph))
    # the provenance profile holds those of workflows and processes
    workflow, report, bad = checked(
        tmp_path / "cache",
        provenance_run_crate="packed",
        process_run_crate__1="report",
        process_run_crate__2="broken",
    )
    assert workflow["issues"] == []
    assert report["issues"] == []
    assert any("instrument" in issue for issue in bad["issues"])
    assert set(workflow["read"]) == set(entities(Path("packed")))

    program = Path(sys.executable).parent / "runcrate"
    told = subprocess.run([program, "report", "packed"], capture_output=True, text=True).stdout
    actions = told.split("action: ")[1:]
    assert len(actions) == 15 + 1
    workflow_action = next(each for each in actions if "instrument: workflow/Snakefile" in each)
    assert "GRCh38 <- #formal-" in workflow_action
    assert "data/counts.tsv" in workflow_action.split("outputs:")[1]
    assert "raw/s3.csv" in workflow_action.split("inputs:")[1].split("outputs:")[0]


def test_a_crate_says_what_is_recorded_and_no_more(project: Path) -> None:
    tell_study(project)
    assert lamin("export", "ro-crate", "results/report.html", "crate") == (
        "crate: 26 files and 24 runs\n"
    )
    crate = Path("crate")
    assert (crate / "data/results/report.html").read_bytes() == Path(
        "results/report.html"
    ).read_bytes()
    assert [path.name for path in (crate / "data").rglob("*") if path.is_file()] == ["report.html"]
    file = ln.select(ln.File, key="results/report.html").one()
    found = entities(crate)["data/results/report.html"]
    assert found["md5"] == base64.urlsafe_b64decode(file.hash + "==").hex()
    assert found["contentSize"] == str(file.size)
    run = file.run
    assert run is not None
    action = entities(crate)[f"#run-{run.id}"]
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert action["startTime"] == run.started_at.isoformat()
    assert {"@id": "data/results/report.html"} in action["result"]
    params = [entities(crate)[each["@id"]] for each in action["object"] if "param" in each["@id"]]
    assert [(each["name"], each["value"]) for each in params] == [("title", "Counts & models")]
    assert entities(crate)[action["instrument"]["@id"]]["name"] == "report.py"
    fits = [each for each in of_type(crate, "CreateAction") if each["name"] == "Run of fit"]
    assert len(fits) == 5
    assert all(any("#value-" in part["@id"] for part in each["object"]) for each in fits)
    assert "engine: prefect" in fits[0]["description"]
    flow = next(each for each in of_type(crate, "CreateAction") if each["name"] == "Run of model")
    packages = (crate / flow["subjectOf"]["@id"]).read_text()
    assert packages.startswith("# CPython 3.")
    assert "sqlalchemy==" in packages
    root = entities(crate)["./"]
    assert "license" not in root
    assert "mainEntity" not in root  # two workflows went into it


def test_a_crate_without_a_licence_says_that_it_lacks_one(project: Path) -> None:
    Teller(project).step("plain", "1", "fit", [], ["a.txt"])
    for options in ((), ("--json",)):
        name = f"crate{len(options)}"
        result = CliRunner().invoke(main, ["export", "ro-crate", "a.txt", name, *options])
        assert result.exit_code == 0
        assert result.stderr == (
            "the crate names no licence, and validators refuse one without: give it as in "
            "--license https://spdx.org/licenses/CC-BY-4.0\n"
        )
    result = CliRunner().invoke(main, ["export", "ro-crate", "a.txt", "x", "--license", "CC0-1.0"])
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_failed_run_and_one_that_runs_are_exported_as_such(project: Path) -> None:
    tell = Teller(project, Clock(dt.datetime.now(dt.UTC)))
    tell.step("snakemake", "1", "fit", [], ["a.txt"], "failed", error="no memory")
    tell.write(tell.start("plain", "2", "busy"), "b.txt", "b")
    lamin("export", "ro-crate", "a.txt", "a")
    [action] = of_type(Path("a"), "CreateAction")
    assert (action["actionStatus"], action["error"]) == (
        "http://schema.org/FailedActionStatus",
        "no memory",
    )
    lamin("export", "ro-crate", "b.txt", "b")
    [action] = of_type(Path("b"), "CreateAction")
    assert action["actionStatus"] == "http://schema.org/ActiveActionStatus"
    assert "endTime" not in action


def test_bytes_that_are_not_as_recorded_are_named_and_not_packed(project: Path) -> None:
    tell = Teller(project)
    tell.step("plain", "1", "fit", [], ["a.txt", "b.txt", "c.txt"])
    Path("a.txt").unlink()
    Path("b.txt").write_text("other")
    result = CliRunner().invoke(main, ["export", "ro-crate", "fit", "crate"])
    assert result.exit_code == 0
    assert result.stderr.count("not packed, only named: ") == 2
    assert sorted(path.name for path in Path("crate/data").rglob("*")) == ["c.txt"]
    assert entities(Path("crate"))[f"file://{project}/a.txt"]["@type"] == "File"
    shown = json.loads(lamin("export", "ro-crate", "fit", "two", "--json"))
    assert shown["left_out"] == ["a.txt", "b.txt"]
    lamin("export", "ro-crate", "fit", "three", "--data", "none")
    assert [path.name for path in Path("three").iterdir()] == ["ro-crate-metadata.json"]
    assert "is there already" in lamin("export", "ro-crate", "fit", "three", code=1)
    assert "nothing is recorded as 'nowhere'" in lamin("export", "ro-crate", "nowhere", "x", code=1)
    assert not Path("x").exists()


def test_a_folder_is_found_by_a_path_with_dots_or_through_a_link(project: Path) -> None:
    tell_study(project, samples=2, models=1)
    Path("alink").symlink_to("results")
    for number, reference in enumerate(("trimmed/../results", f"../{project.name}/alink")):
        lamin("export", "ro-crate", reference, f"{number}.zip")
        with zipfile.ZipFile(f"{number}.zip") as archive:
            assert "data/results/report.html" in archive.namelist()


def test_a_zip_holds_all_upstream_when_asked_to(project: Path) -> None:
    tell_study(project, samples=2, models=1)
    lamin("export", "ro-crate", "results", "out.zip", "--data", "all", "--title", "Our study")
    with zipfile.ZipFile("out.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        graph = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    assert {"data/raw/s0.csv", "data/counts.tsv", "data/results/report.html"} <= set(names)
    assert next(each for each in graph if each["@id"] == "./")["name"] == "Our study"
    packed = {each["@id"] for each in graph if each["@type"] == "File"}
    assert packed - {each for each in names if each.startswith("environments/")} <= set(names)


@pytest.mark.full
def test_odd_names_folders_and_versions_are_exported_valid(project: Path, tmp_path: Path) -> None:
    run = ln.track(ln.Transform(ODD[0]), params={name: name for name in ODD})
    for number, name in enumerate(ODD):
        Path("x").write_text(str(number))
        ln.add(ln.File("x", name=name, description=name))
    for text in ("one", "two"):
        Path("x").write_text(text)
        ln.add(ln.File("x", key="same/x.txt"))
    Path("folder/inner").mkdir(parents=True)
    Path("folder/inner/a.txt").write_text("a")
    ln.add(ln.File("folder", key="folder"))
    Path("x").write_text("y")
    ln.add(ln.File("x", key="data (1)/ü#%.txt"))
    ln.finish()
    lamin("export", "ro-crate", run.id, "crate", "--license", "CC0-1.0")
    [found] = checked(tmp_path / "cache", process_run_crate="crate")
    assert found["issues"] == []
    crate = entities(Path("crate"))
    assert {each["name"] for each in crate.values() if each["@type"] == "File"} >= set(ODD)
    assert (Path("crate/data/folder/inner/a.txt")).read_text() == "a"
    versions = [each for each in crate.values() if each.get("name") == "same/x.txt"]
    assert len({each["md5"] for each in versions}) == 2
    assert all((Path("crate") / "data/data (1)/ü#%.txt").read_text() == "y" for _ in (1,))


def test_many_runs_and_files_are_packed_and_what_is_not_is_counted(project: Path) -> None:
    rows = Rows()
    top = rows.run("workflow")
    for number in range(3000):
        run = rows.run("job", number + 1, parent_id=top)
        rows.file(f"out/{number}.csv", run)
    rows.write()
    Path("mydata/out").mkdir()
    result = CliRunner().invoke(main, ["export", "ro-crate", top, "many", "--license", "x"])
    assert result.stdout == "many: 3,000 files and 3,001 runs\n"
    named = result.stderr.splitlines()
    assert len(named) == 21
    assert named[-1] == "… and 2,980 files more: --json names all"
    assert len(of_type(Path("many"), "CreateAction")) == 3001


# --- OpenLineage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validate() -> Any:
    return validator()


def test_all_runs_are_valid_openlineage_events(project: Path, validate: Any) -> None:
    tell = tell_study(project)
    tell.start("prefect", "later", "busy")
    assert recorder.flush()
    assert lamin("export", "openlineage", "--to", "events.jsonl") == "events.jsonl: 52 events\n"
    events = events_in(Path("events.jsonl"))
    for event in events:
        validate(event)
    kinds = [event["eventType"] for event in events]
    assert (kinds.count("START"), kinds.count("COMPLETE"), kinds.count("FAIL")) == (26, 24, 1)
    by_job = {event["job"]["name"]: event for event in events}
    report = by_job["study/report.py"]
    assert {each["name"] for each in report["inputs"]} == {
        str(project / "counts.tsv"), str(project / "best.json"),
    }  # fmt: skip
    [made] = report["outputs"]
    file = ln.select(ln.File, key="results/report.html").one()
    assert made["namespace"] == "file"
    assert made["facets"]["version"]["datasetVersion"] == f"md5:{file.hash}"
    assert made["outputFacets"]["outputStatistics"]["size"] == file.size
    assert report["run"]["facets"]["executionParameters"]["parameters"] == [
        {"key": "title", "value": "Counts & models"}
    ]
    fit, flow = by_job["study/fit"], by_job["study/model"]
    assert fit["run"]["facets"]["parent"]["run"]["runId"] == flow["run"]["runId"]
    assert fit["run"]["facets"]["parent"]["job"]["name"] == "study/model"
    assert flow["run"]["facets"]["processing_engine"]["name"] == "prefect"
    assert by_job["study/plot"]["run"]["facets"]["errorMessage"]["message"] == "no display, again"
    printed = lamin("export", "openlineage").splitlines()
    assert [json.loads(line) for line in printed] == events


def test_since_takes_only_what_happened_since(project: Path) -> None:
    tell_study(project)
    assert len(lamin("export", "openlineage", "--since", "2026-11-02T08:01:30").splitlines()) == 6
    assert lamin("export", "openlineage", "--since", "2030-01-01") == ""
    assert "is no date or time" in lamin("export", "openlineage", "--since", "soon", code=2)


def test_odd_names_are_valid_events(project: Path, validate: Any) -> None:
    run = ln.track(ln.Transform(ODD[0]), params={name: name for name in ODD})
    for number, name in enumerate(ODD):
        Path("x").write_text(str(number))
        ln.add(ln.File("x", name=name, description=name))
    ln.finish()
    assert run.status
    for line in lamin("export", "openlineage").splitlines():
        validate(json.loads(line))


SCRIPT = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
sys.path.insert(0, {tests!r})
from pathlib import Path
import lamindb as ln
from export_checks import checked, entities, events_in, lamin, of_type, validator
from lineage_rows import Rows
from lineage_study import Clock, Teller
ln.track(ln.Transform("plain", type="script"), params={{"p": 1}})
Path("a.txt").write_text("a")
ln.add(ln.File("a.txt", key="a.txt"))
ln.finish()
tell = Teller(Path.cwd())
tell.step("prefect", "1", "fit", ["mydata/a.txt"], ["b.txt"])
tell.step("snakemake", "2", "plot", ["b.txt"], [], "failed", error="no display")
ln.track(ln.Transform("last", type="script"))
"""


def run_script(**environment: str) -> subprocess.CompletedProcess[str]:
    code = SCRIPT.format(tests=str(Path(__file__).parent))
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=50,
    )


def test_runs_are_mirrored_as_they_happen_to_their_end(project: Path, validate: Any) -> None:
    done = run_script(LAMINDB_OPENLINEAGE=str(project / "live.jsonl"))
    assert done.returncode == 0, done.stderr
    assert "OpenLineage" not in done.stderr
    events = events_in(Path("live.jsonl"))
    for event in events:
        validate(event)
    ends = {
        # a name alone is a job's within its project
        re.split("[/:]", event["job"]["name"])[-1].removesuffix(" (script)"): event
        for event in events
        if event["eventType"] in ("COMPLETE", "FAIL", "OTHER")
    }
    assert {name: event["eventType"] for name, event in ends.items()} == {
        "plain": "COMPLETE", "fit": "COMPLETE", "plot": "FAIL", "last": "COMPLETE",
    }  # fmt: skip
    assert [Path(each["name"]).name for each in ends["plain"]["outputs"]] == ["a.txt"]
    assert [Path(each["name"]).name for each in ends["fit"]["inputs"]] == ["a.txt"]
    assert [Path(each["name"]).name for each in ends["fit"]["outputs"]] == ["b.txt"]
    starts = [event["run"]["runId"] for event in events if event["eventType"] == "START"]
    assert len(starts) == len(set(starts)) == 4


LATE = """
import threading
import lamindb_plain

@lamindb_plain.flow
def fit():
    def refuse(thread):  # as the interpreter that ends does, from Python 3.12 on
        raise RuntimeError("can't create new thread at interpreter shutdown")
    threading.Thread.start = refuse

fit()
"""


def test_runs_are_mirrored_where_the_end_of_the_interpreter_starts_no_thread(
    project: Path,
) -> None:
    Path("script.py").write_text(LATE)
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "LAMINDB_OPENLINEAGE": "live.jsonl"},
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [event["eventType"] for event in events_in(Path("live.jsonl"))] == ["START", "COMPLETE"]


def test_a_mirror_that_does_not_answer_costs_nothing_but_a_warning(project: Path) -> None:
    done = run_script(LAMINDB_OPENLINEAGE="http://127.0.0.1:9/api/v1/lineage")
    assert done.returncode == 0
    assert done.stderr.count("OpenLineage events wait") == 1
    assert len(ln.select(ln.Run).all()) == 4


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[tuple[str | None, dict[str, Any]]]]]:
    received: list[tuple[str | None, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api/v1/lineage", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_are_posted_with_a_key_and_what_comes_later_is_added(
    project: Path, endpoint: tuple[str, list[tuple[str | None, dict[str, Any]]]]
) -> None:
    url, received = endpoint
    mirror = Mirror(url, "secret")
    plugins().register(mirror, name="mirror under test")
    try:
        tell = Teller(project)
        run = tell.start("prefect", "1", "fit")
        tell.finish(run)
        assert recorder.flush()
        mirror._tell()
        tell.write(run, "late.txt", "late")
        mirror.close()
    finally:
        plugins().unregister(name="mirror under test")
    assert {key for key, _ in received} == {"Bearer secret"}
    kinds = [event["eventType"] for _, event in received]
    assert kinds[0] == "START"
    assert kinds[-2:] == ["COMPLETE", "OTHER"]
    assert [Path(each["name"]).name for each in received[-1][1]["outputs"]] == ["late.txt"]


def test_without_a_target_nothing_is_mirrored() -> None:
    hook = plugins().hook.ln_event_recorded
    assert [each.plugin_name for each in hook.get_hookimpls()] == []
