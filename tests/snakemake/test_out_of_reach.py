"""What goes wrong with the database, or with us, is nothing to the workflow."""

import sqlite3
import threading
import time

import pytest
from snakemake_workflows import Project, md5, wait

import lamindb as ln
from read_only import seen_read_only

SNAKEFILE = """
rule all:
    input: expand("{number}.txt", number=range(4))

rule make:
    output: "{number}.txt"
    shell: "echo {wildcards.number} > {output}"
"""


def check(project: Project, jobs: int = 4) -> None:
    records = project.records()
    assert [run["status"] for run in records.jobs] == ["completed"] * jobs
    assert records.workflow["status"] == "completed"
    hashes = {file["key"]: file["hash"] for file in records.files}
    assert hashes == {f"{n}.txt": md5(project.folder / f"{n}.txt") for n in range(4)}


def test_a_database_that_is_away_is_told_later(project: Project):
    project.snakefile(SNAKEFILE)
    hidden = project.sqlite.with_suffix(".hidden")
    project.sqlite.rename(hidden)
    project.sqlite.mkdir()  # no file can be made there
    done = project.snakemake(LAMINDB_DRAIN_TIMEOUT="1")
    assert done.code == 0, done.err
    project.sqlite.rmdir()
    hidden.rename(project.sqlite)
    check(project)


def test_a_locked_database_holds_nobody_up_and_is_told_later(project: Project):
    project.snakefile(SNAKEFILE)
    holder = sqlite3.connect(project.sqlite, check_same_thread=False)
    holder.execute("begin immediate")
    try:
        done = project.snakemake(LAMINDB_DRAIN_TIMEOUT="1")
    finally:
        holder.rollback()
        holder.close()
    assert done.code == 0, done.err
    assert all((project.folder / f"{n}.txt").exists() for n in range(4))
    check(project)


@pytest.mark.full
def test_a_database_locked_for_thirty_seconds_loses_nothing(project: Project):
    project.snakefile(SNAKEFILE.replace("echo", "sleep 2; echo"))
    holder = sqlite3.connect(project.sqlite, check_same_thread=False)
    holder.execute("begin immediate")
    release = threading.Timer(30, holder.rollback)
    release.start()
    done = project.snakemake()
    release.join()
    holder.close()
    assert done.code == 0, done.err
    check(project)


@pytest.mark.full
def test_a_database_that_may_not_be_written_is_told_later(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    # where events wait that may not be written beside the database
    monkeypatch.setenv("LAMINDB_STATE_DIR", project.environment["LAMINDB_STATE_DIR"])
    project.snakefile(SNAKEFILE)
    prefix = seen_read_only(project.sqlite.parent)
    done = wait(project.start(prefix=prefix, LAMINDB_DRAIN_TIMEOUT="1"))
    assert done.code == 0, done.err
    assert done.err.count(str(project.sqlite)) == 1, done.err
    check(project)


def test_a_full_disk_for_events_fails_no_workflow(project: Project):
    project.snakefile(SNAKEFILE)
    done = project.snakemake(LAMINDB_SPOOL_DIR="/dev/full/spool", LAMINDB_STATE_DIR="/dev/full")
    assert done.code == 0, done.err
    check(project)


def test_no_instance_is_said_once_and_strict_refuses_to_start(project: Project):
    project.snakefile(SNAKEFILE)
    elsewhere = {"LAMINDB_INSTANCE": "", "LAMINDB_CONFIG_DIR": str(project.folder / "none")}
    (project.folder / ".lamindb").rename(project.folder / "moved")
    done = project.snakemake(**elsewhere)
    assert done.code == 0, done.err
    assert done.err.count("nothing is recorded") == 1
    strict = project.snakemake("--forceall", "--logger-lamindb-strict", **elsewhere)
    assert strict.code == 1
    assert "no instance is set up" in strict.err
    assert "Finished jobid" not in strict.err


BROKEN = """
import sys
from lamindb_snakemake import files, mapping, recording

real_began, real_details = recording.Recording.job_began, mapping.job_details

def job_began(self, job, said):
    if said["jobid"] == 1:
        raise RuntimeError("broken in the scheduler's thread")
    return real_began(self, job, said)

def job_details(job, script, said):
    if said["jobid"] == 2:
        raise RuntimeError("broken in our thread")
    return real_details(job, script, said)

recording.Recording.job_began, mapping.job_details = job_began, job_details
from snakemake.cli import main
main([*sys.argv[1:], "--cores", "1", "--logger", "lamindb"])
"""


def test_a_fault_of_ours_is_said_and_the_rest_is_recorded(project: Project):
    project.snakefile(SNAKEFILE)
    done = project.python(BROKEN)
    assert done.code == 0, done.err
    assert done.err.count("broken in") == 2
    assert "Traceback" not in done.err
    records = project.records()
    statuses = {run["details"]["jobid"]: run["status"] for run in records.jobs}
    assert statuses == {3: "completed", 4: "completed"}
    # of the second one the end is known, and what it wrote
    assert {file["key"] for file in records.files} >= {"1.txt", "2.txt", "3.txt"}
    assert [run["status"] for run in records.runs] == ["completed"] * 4


OLD = """
import sys
from snakemake.logging import LoggerManager

def stop(self):
    if self.queue_listener is not None and self.queue_listener._thread is not None:
        self.queue_listener.stop()

LoggerManager.stop = stop
from snakemake.cli import main
main([*sys.argv[1:], "--cores", "1", "--logger", "lamindb"])
"""


def test_a_workflow_of_a_snakemake_that_closes_no_handlers_ends_with_its_process(project: Project):
    """As 9.0 does: its logging ends after everything else, when nothing can be recorded any more,
    and with a full disk not kept either."""
    project.snakefile(SNAKEFILE)
    project.environment |= {
        "LAMINDB_SPOOL_DIR": "/dev/full/spool",
        "LAMINDB_STATE_DIR": "/dev/full",
    }
    done = project.python(OLD)
    assert done.code == 0, done.err
    check(project)


TWICE = """
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings
from snakemake_logger_plugin_lamindb import LogHandlerSettings
import lamindb as ln

outer = ln.track(ln.Transform("outer", type="script"))
for number in range(2):
    output = OutputSettings(log_handler_settings={"lamindb": LogHandlerSettings()})
    with SnakemakeApi(output) as api:
        cores = ResourceSettings(cores=1)
        workflow = api.workflow(resource_settings=cores, snakefile=Path("Snakefile"))
        workflow.dag(DAGSettings(forceall=True)).execute_workflow()
ln.finish()
print(outer.id)
"""


def test_workflows_in_one_process_are_told_apart_and_children_of_who_started_them(
    project: Project,
):
    project.snakefile(SNAKEFILE)
    done = project.python(TWICE)
    assert done.code == 0, done.err
    records = project.records()
    workflows = [run for run in records.runs if "workflow_id" in (run["details"] or {})]
    assert [run["status"] for run in workflows] == ["completed"] * 2
    assert {run["parent_id"] for run in workflows} == {done.out.split()[-1]}
    assert len(records.jobs) == 8
    for workflow in workflows:
        assert sum(run["parent_id"] == workflow["id"] for run in records.jobs) == 4


@pytest.mark.full
def test_four_workflows_at_once_lose_and_double_nothing(project: Project):
    text = SNAKEFILE.replace('"{number}.txt"', "f\"{config['to']}/{{number}}.txt\"")
    project.snakefile(text)
    processes = [
        project.start("--nolock", "--config", f"to=out{number}", "--cores", "1")
        for number in range(4)
    ]
    ln.setup.load(str(project.folder))
    while any(process.poll() is None for process in processes):
        assert ln.select(ln.Run).count() <= 20
        time.sleep(0.5)
    for process in processes:
        done = wait(process)
        assert done.code == 0, done.err
    records = project.records()
    assert (len(records.runs), len(records.files), len(records.transforms)) == (20, 16, 2)
    assert {run["status"] for run in records.runs} == {"completed"}


HIDDEN = """
import sys
from lamindb_snakemake import tap

tap.workflow_here = lambda: None
from snakemake.cli import main
main([*sys.argv[1:], "--cores", "1", "--logger", "lamindb", "-k"])
"""


def test_a_version_that_hides_its_workflow_is_recorded_from_what_it_says(project: Project):
    project.snakefile(SNAKEFILE + "rule bad:\n    output: 'bad.txt'\n    shell: 'exit 3'\n")
    text = (project.folder / "Snakefile").read_text().replace("range(4))", "range(4)), 'bad.txt'")
    project.snakefile(text)
    done = project.python(HIDDEN)
    assert done.code == 1, done.err
    assert done.err.count("hides its workflow") == 1
    records = project.records()
    statuses = sorted(run["status"] for run in records.jobs)
    assert statuses == ["completed"] * 4 + ["failed"]
    assert records.workflow["status"] == "failed"
    assert "params" in records.workflow["details"]["unknown"]
    assert {file["key"]: file["hash"] for file in records.files} == {
        f"{n}.txt": md5(project.folder / f"{n}.txt") for n in range(4)
    }
