"""Jobs that a cluster runs, several submitted as one."""

import pytest
from snakemake_workflows import Done, Project, Records

from lamindb.storage.hashing import hash_bytes

SNAKEFILE = """
from lamindb_snakemake import tracked

rule all:
    input: "last.txt", "alone.txt"

rule first:
    output: temp(tracked("first.tmp", description="the first"))
    group: "both"
    shell: "echo first > {output}"

rule last:
    input: "first.tmp"
    output: "last.txt"
    group: "both"
    run:
        import lamindb as ln
        open(output[0], "w").write(ln.context.run.id)

rule alone:
    output: "alone.txt"
    script: "alone.py"
"""
SCRIPT = """
import lamindb as ln
open(snakemake.output[0], "w").write(ln.track().id)
"""
# runs the job at once, in the background, as a scheduler of a cluster would
SUBMIT = """#!/bin/sh
nohup sh "$1" > "$1.log" 2>&1 &
echo $!
"""
STATUS = """#!/bin/sh
if kill -0 "$1" 2>/dev/null; then echo running; else echo success; fi
"""
OPTIONS = (
    "--executor",
    "cluster-generic",
    "--cluster-generic-submit-cmd",
    "./submit.sh",
    "--cluster-generic-status-cmd",
    "./status.sh",
    "--jobs",
    "2",
    "--seconds-between-status-checks",
    "1",
    "--latency-wait",
    "20",
)


def prepare(project: Project, snakefile: str) -> None:
    project.snakefile(snakefile)
    project.write(submit_sh=SUBMIT, status_sh=STATUS, alone_py=SCRIPT)
    for name in ("submit.sh", "status.sh"):
        (project.folder / name).chmod(0o755)


@pytest.fixture(scope="module")
def done(shared: Project) -> Done:
    prepare(shared, SNAKEFILE)
    done = shared.snakemake(*OPTIONS)
    assert done.code == 0, done.err
    return done


@pytest.fixture
def records(shared: Project, done: Done) -> Records:
    return shared.records()


def test_each_member_of_a_group_is_a_run(records: Records):
    assert records.statuses() == {"first": "completed", "last": "completed", "alone": "completed"}
    assert {run["parent_id"] for run in records.jobs} == {records.workflow["id"]}
    assert records.workflow["details"]["executor"] == "cluster-generic"
    assert len(records.runs) == 4


def test_a_temporary_file_of_a_group_is_hashed_where_the_job_runs(
    shared: Project, records: Records
):
    assert not (shared.folder / "first.tmp").exists()
    assert records.file("first.tmp")["hash"] == hash_bytes(b"first\n")
    assert records.linked(records.job("first"), "output") == {"first.tmp"}
    assert records.linked(records.job("last"), "input") == {"first.tmp"}


def test_code_on_the_cluster_knows_the_run_of_its_job(shared: Project, records: Records):
    for rule in ("last", "alone"):
        assert (shared.folder / f"{rule}.txt").read_text() == records.job(rule)["id"]


@pytest.mark.full
def test_without_the_helper_such_a_file_is_unknown_and_says_why(project: Project):
    plain = SNAKEFILE.replace("from lamindb_snakemake import tracked\n", "")
    prepare(project, plain.replace('tracked("first.tmp", description="the first")', '"first.tmp"'))
    done = project.snakemake("last.txt", *OPTIONS)
    assert done.code == 0, done.err
    records = project.records()
    file = records.file("first.tmp")
    assert file["hash"] is None
    assert "removed where the job ran" in file["hash_note"]
    assert records.linked(records.job("first"), "output") == {"first.tmp"}
