"""``lamin snakemake import``: workflows that ran before anyone thought of it."""

import os
import subprocess
import sys

import pytest
from snakemake_workflows import Project, Records, md5

from lamindb_snakemake.importing import UNKNOWN

SNAKEFILE = """
rule all:
    input: "b.txt", "changed.txt"

rule one:
    output: "a.txt", "a.log", temp("gone.tmp")
    params: k=3
    shell: "for each in {output}; do echo a > $each; done"

rule two:
    input: "a.txt"
    output: "b.txt"
    shell: "cp {input} {output}"

rule changes:
    output: "changed.txt"
    shell: "echo {output} > {output}"

rule vanishes:
    output: "vanished.txt"
    shell: "echo v > {output}"
"""


def import_into(project: Project) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lamindb", "snakemake", "import"],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def said(shared: Project) -> list[str]:
    shared.snakefile(SNAKEFILE)
    targets = ("b.txt", "changed.txt", "vanished.txt")
    assert shared.snakemake(*targets, plugin=False).code == 0
    (shared.folder / "changed.txt").write_text("by hand")
    os.utime(shared.folder / "changed.txt", (1, 1))
    (shared.folder / "vanished.txt").unlink()
    return [import_into(shared), import_into(shared)]


@pytest.fixture
def records(shared: Project, said: list[str]) -> Records:
    return shared.records()


def test_jobs_are_runs_that_say_what_is_unknown(said: list[str], records: Records):
    assert said[0].startswith("3 jobs imported, 0 were recorded already.\n1 left out:")
    assert {run["name"] for run in records.jobs} == {"one", "two", "changes"}
    [workflow] = [run for run in records.runs if run not in records.jobs]
    for run in records.jobs:
        assert run["details"]["imported"] is True
        assert set(run["details"]["unknown"]) >= set(UNKNOWN)
        assert (run["host"], run["pid"], run["params"]) == (None, None, None)
        assert run["parent_id"] == workflow["id"]
    assert records.job("one")["details"]["params"] == ["3"]


def test_files_have_hashes_where_they_are_still_what_the_job_left(
    shared: Project, records: Records
):
    assert records.linked(records.job("one"), "output") == {"a.txt", "a.log"}
    assert records.linked(records.job("two"), "input") == {"a.txt"}
    assert records.file("b.txt")["hash"] == md5(shared.folder / "b.txt")
    changed = records.file("changed.txt")
    assert (changed["hash"], bool(changed["hash_note"])) == (None, True)


def test_importing_again_adds_nothing(records: Records):
    assert len(records.runs) == 4
    assert len(records.files) == 4


@pytest.mark.full
def test_what_was_recorded_while_it_ran_is_not_imported_and_has_the_same_version(
    project: Project,
):
    project.snakefile(SNAKEFILE)
    assert project.snakemake("a.txt").code == 0
    assert project.snakemake("b.txt", plugin=False).code == 0
    assert import_into(project) == "1 jobs imported, 1 were recorded already.\n"
    records = project.records()
    assert {run["details"].get("imported", False) for run in records.jobs} == {True, False}
    assert project.snakemake("b.txt", "--forceall").code == 0
    versions = [each["version"] for each in project.records().transforms if each["name"] == "two"]
    assert versions == ["0"]
