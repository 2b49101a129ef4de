"""What two real engines have recorded in one instance, exported and read by others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_scripts import Runner

import lamindb as ln
from export_checks import checked, entities, lamin, of_type, validator
from lamindb.testing import steps

BIN = Path(sys.executable).parent
SNAKEFILE = f"""
rule stats:
    input: "clean.csv"
    output: "stats.json"
    shell: "python {steps.__file__} stats {{input}} {{output}}"

rule clean:
    input: "raw.csv"
    output: "clean.csv"
    params: threshold=2
    shell: "python {steps.__file__} clean {{input}} {{output}} --threshold {{params.threshold}}"
"""
FLOW = """
from lamindb.testing import steps

report, plot = task(steps.report), task(steps.plot)

@flow
def hand_over(table: Path, stats: Path, title: str) -> Path:
    return report(stats, plot(table, Path("plot.svg")), Path("report.html"))

hand_over(Path("clean.csv"), Path("stats.json"), title="For our <partners>")
"""


@pytest.fixture
def study(run: Runner) -> Path:
    """A Snakemake workflow has made two files, and a Prefect flow a report of them."""
    Path("Snakefile").write_text(SNAKEFILE)
    steps.write_raw()
    done = subprocess.run(
        [BIN / "snakemake", "stats.json", "--cores", "1", "--logger", "lamindb"],
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    run(FLOW)
    return Path.cwd()


@pytest.mark.full
def test_runs_of_both_engines_are_exported_as_they_were(study: Path, tmp_path: Path) -> None:
    free = ["--license", "https://spdx.org/licenses/CC0-1.0"]
    lamin("export", "ro-crate", "report.html", "report", "--data", "all", *free)
    lamin("export", "ro-crate", "stats.json", "stats", *free)
    both, workflow = checked(
        tmp_path / "cache", process_run_crate="report", provenance_run_crate="stats"
    )
    assert (both["issues"], workflow["issues"]) == ([], [])
    assert set(both["read"]) == set(entities(study / "report"))
    for name in ("raw.csv", "clean.csv", "stats.json", "plot.svg", "report.html"):
        assert (study / "report/data" / name).read_bytes() == (study / name).read_bytes()
        file = ln.select(ln.File, name=name).one()
        told = entities(study / "report")[f"data/{name}"]
        assert (told["identifier"], told["contentSize"]) == (
            f"lamindb:file/{file.id}",
            str(file.size),
        )

    actions = {each["name"]: each for each in of_type(study / "report", "CreateAction")}
    assert set(actions) >= {f"Run of {name}" for name in ("clean", "stats", "plot", "report")}
    assert "engine: snakemake" in actions["Run of clean"]["description"]
    assert "engine: prefect" in actions["Run of report"]["description"]
    assert {"@id": "data/clean.csv"} in actions["Run of clean"]["result"]
    assert {"@id": "data/clean.csv"} in actions["Run of plot"]["object"]
    values = {
        (each["name"], each["value"]) for each in of_type(study / "report", "PropertyValue")
        if "value" in each
    }  # fmt: skip
    assert ("title", "For our <partners>") in values
    assert ("threshold", "2") in {(name, str(value)) for name, value in values}
    packages = study / "report" / actions["Run of hand-over"]["subjectOf"]["@id"]
    assert "\nprefect==" in packages.read_text()
    assert "mainEntity" in entities(study / "stats")["./"]

    reported = subprocess.run([BIN / "runcrate", "report", "stats"], capture_output=True, text=True)
    assert reported.returncode == 0, reported.stderr
    assert "instrument: workflow/Snakefile" in reported.stdout

    validate = validator()
    events = [json.loads(line) for line in lamin("export", "openlineage").splitlines()]
    for event in events:
        validate(event)
    ended = {
        event["job"]["name"].rsplit("/", 1)[-1].rsplit(":", 1)[-1]: event
        for event in events
        if event["eventType"] == "COMPLETE"
    }
    report, clean = ended["report"], ended["clean"]
    assert report["run"]["facets"]["processing_engine"]["name"] == "prefect"
    assert clean["run"]["facets"]["processing_engine"]["name"] == "snakemake"
    assert {Path(each["name"]).name for each in report["inputs"]} == {"stats.json", "plot.svg"}
    assert {Path(each["name"]).name for each in clean["outputs"]} == {"clean.csv"}
    [made] = report["outputs"]
    file = ln.select(ln.File, name="report.html").one()
    assert made["facets"]["version"]["datasetVersion"] == f"md5:{file.hash}"
