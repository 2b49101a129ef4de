"""Workflows that are stopped, killed, locked or incomplete."""

import os
import re
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from snakemake_workflows import Project, new_project, wait

import lamindb as ln

SNAKEFILE = """
rule all:
    input: "quick.txt", "slow.txt", "last.txt"

rule quick:
    output: "quick.txt"
    shell: "echo quick > {output}"

rule slow:
    input: "quick.txt"
    output: "slow.txt"
    shell: "echo half > {output}; touch started; for i in $(seq 100); do [ -e go ] && break; sleep 0.1; done; echo all > {output}"

rule last:
    input: "slow.txt"
    output: "last.txt"
    shell: "echo last > {output}"
"""  # noqa: E501


def interrupted(project: Project, number: int, *, plugin: bool, all_of_it: bool) -> int:
    """Signal a workflow while its second job runs; returns its exit code."""
    project.snakefile(SNAKEFILE)
    process = project.start(plugin=plugin)
    appears(project.folder / "started", process)
    (os.killpg if all_of_it else os.kill)(process.pid, number)
    if not all_of_it:
        time.sleep(0.5)
        (project.folder / "go").touch()
    return wait(process).code


def rows(project: Project) -> dict[str, str]:
    with sqlite3.connect(project.sqlite) as connection:
        found = dict(connection.execute("select name, status from run"))
    connection.close()
    return found


def appears(path: Path, process) -> None:
    deadline = time.monotonic() + 40
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, wait(process, 1).err
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "all_of_it", "slow"),
    [
        pytest.param(signal.SIGINT, True, "cancelled", id="SIGINT as by Ctrl-C"),
        pytest.param(
            signal.SIGTERM,
            False,
            "completed",
            id="SIGTERM to the process alone",
            marks=pytest.mark.full,
        ),
    ],
)
def test_a_stopped_workflow_is_cancelled_and_ends_as_without_us(
    project: Project, tmp_path: Path, number: int, all_of_it: bool, slow: str
):
    bare = new_project(tmp_path / "bare")
    codes = [
        interrupted(each, number, plugin=each is project, all_of_it=all_of_it)
        for each in (project, bare)
    ]
    assert codes[0] == codes[1]
    records = project.records()
    assert records.workflow["status"] == "cancelled"
    assert records.statuses() == {"quick": "completed", "slow": slow}
    assert all(run["finished_at"] for run in records.runs)
    assert ("slow.txt" in {file["key"] for file in records.files}) == (slow == "completed")


# what writes down is as late as on the busiest machine
LATE = """
import os, time
from lamindb_snakemake import recording, writer
recording._TOLD_S = 40.0
writer._PAUSE_S = 60.0

def late(self, act, run=writer.Writer._run):
    if os.path.exists("quick.txt"):
        time.sleep(PAUSE)
    run(self, act)

writer.Writer._run = late
os.environ.setdefault("WORKFLOW_PID", str(os.getpid()))

rule quick:
    output: "quick.txt"
    shell: "sleep 1; echo quick > {output}"
"""


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param("shell: 'kill -9 $WORKFLOW_PID'", id="shell"),
        pytest.param("run: os.kill(int(os.environ['WORKFLOW_PID']), 9)", id="run"),
    ],
)
def test_what_was_before_a_job_is_kept_though_the_job_kills_its_workflow_at_once(
    project: Project, kill: str
):
    rule = f"""
rule deadly:
    input: "quick.txt"
    output: "deadly.txt"
    {kill}
"""
    project.snakefile(LATE.replace("PAUSE)", "0.3)") + rule)
    done = wait(project.start("deadly.txt"))
    assert done.code == -signal.SIGKILL, done.err
    records = project.records()
    assert records.statuses() == {"quick": "completed", "deadly": "aborted"}
    assert records.linked(records.job("quick"), "output") == {"quick.txt"}
    assert records.file("quick.txt")["hash"]


@pytest.mark.parametrize(
    "does",
    [
        pytest.param("shell: 'touch {output}; sleep 20'", id="shell"),
        pytest.param("run: open(output[0], 'w'); time.sleep(20)", id="run"),
    ],
)
def test_a_job_that_waits_for_what_is_late_does_not_start_after_ctrl_c(project: Project, does: str):
    rule = f"""
rule long:
    input: "quick.txt"
    output: "long.txt"
    {does}
"""
    project.snakefile(LATE.replace("PAUSE)", "1.5)") + rule)
    process = project.start("long.txt")
    assert any("rule long:" in line for line in iter(process.stderr.readline, ""))
    # Snakemake may miss a signal that comes while it submits a job
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    done = wait(process)
    assert done.code == 1, done.err
    assert not (project.folder / "long.txt").exists()
    # it reads as if the job's process had been there: with its command, and no line of ours
    assert re.search(r"(touch long|jobs 'long:').* died with <Signals.SIGINT: 2>", done.err)
    assert "lamindb_snakemake" not in done.err
    assert project.records().statuses() == {"quick": "completed", "long": "cancelled"}


def test_a_child_that_the_code_of_a_job_forks_waits_for_nobody(project: Project):
    rule = """
rule forks:
    input: "quick.txt"
    output: "forked.txt"
    run:
        import signal
        child = os.fork()
        if child == 0:
            signal.alarm(15)
            shell("touch {output}")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
"""
    project.snakefile(LATE.replace("PAUSE)", "0)") + rule)
    done = wait(project.start("--force-use-threads", "forked.txt"))
    assert done.code == 0, done.err
    assert project.records().statuses() == {"quick": "completed", "forks": "completed"}


def test_a_killed_workflow_is_seen_and_found_dead_on_the_next_look(project: Project):
    project.snakefile(SNAKEFILE)
    process = project.start()
    appears(project.folder / "started", process)
    deadline = time.monotonic() + 20
    while rows(project).get("slow") != "started":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    wait(process)
    # as if it ran on another host: nothing is known of its process there
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("LAMINDB_HOST", "elsewhere")
        assert project.records().statuses() == {"quick": "completed", "slow": "started"}
        ln.setup.close()
    records = project.records()
    assert records.statuses() == {"quick": "completed", "slow": "aborted"}
    assert records.workflow["status"] == "aborted"
    ln.setup.close()

    # its lock is still there, and its output is incomplete: no run comes of either
    (project.folder / "go").touch()
    incomplete = project.snakemake()
    assert incomplete.code == 1 and "IncompleteFilesException" in incomplete.err
    locked = project.snakemake("--rerun-incomplete")
    assert locked.code == 1 and "LockException" in locked.err
    assert project.snakemake("--unlock").code == 0
    assert len(project.records().runs) == 3
    ln.setup.close()

    again = project.snakemake("--rerun-incomplete")
    assert again.code == 0, again.err
    records = project.records()
    assert sorted((run["name"], run["status"]) for run in records.jobs) == [
        ("last", "completed"),
        ("quick", "completed"),
        ("slow", "aborted"),
        ("slow", "completed"),
    ]
