"""Jobs that fail, and what is said of them."""

import os

import pytest
from snakemake_workflows import Done, Project, Records, md5

SNAKEFILE = """
rule all:
    input:
        "good.txt", "shell.txt", "missing.txt", "unsure.txt", "again.txt", "script.txt", "run.txt",
        "after.txt"

rule good:
    output: "good.txt"
    shell: "echo good > {output}"

rule fails_in_shell:
    output: "shell.txt"
    shell: "echo half > {output}; exit 7"

rule never_runs:
    input: "shell.txt"
    output: "after.txt"
    shell: "cp {input} {output}"

rule leaves_nothing:
    output: "missing.txt"
    shell: "true"

rule is_not_what_it_should:
    output: ensure("unsure.txt", sha256="0" * 64)
    shell: "echo x > {output}"

rule succeeds_again:
    output: "again.txt"
    retries: 1
    shell:
        "if [ -e $COUNTS/again ]; then echo ok > {output};"
        " else touch $COUNTS/again; echo half > {output}; exit 3; fi"

rule fails_in_script:
    output: "script.txt"
    script: "fails.py"

rule fails_in_run:
    output: "run.txt"
    run:
        raise ValueError("no run")
"""
OPTIONS = ("-k", "--latency-wait", "0")


def prepare(project: Project) -> Project:
    project.snakefile(SNAKEFILE)
    project.write(fails_py="raise ValueError('no script')\n")
    counts = project.folder.parent / "counts"
    counts.mkdir(exist_ok=True)
    project.environment["COUNTS"] = str(counts)
    return project


@pytest.fixture(scope="module")
def done(shared: Project) -> Done:
    return prepare(shared).snakemake(*OPTIONS)


@pytest.fixture
def records(shared: Project, done: Done) -> Records:
    return shared.records()


def test_each_failure_is_a_failed_run_and_the_rest_goes_on(done: Done, records: Records):
    assert done.code == 1
    assert records.statuses() == {
        "good": "completed",
        "fails_in_shell": "failed",
        "leaves_nothing": "failed",
        "is_not_what_it_should": "failed",
        "succeeds_again": "completed",
        "fails_in_script": "failed",
        "fails_in_run": "failed",
    }
    assert records.workflow["status"] == "failed"
    assert "failed, and 4 more" in records.workflow["error"]


def test_a_failed_run_says_why(records: Records):
    shell = records.job("fails_in_shell")
    assert shell["details"]["exit_status"] == 7
    assert "exit status 7" in shell["error"]
    assert "missing.txt" in records.job("leaves_nothing")["error"]
    assert "checksum" in records.job("is_not_what_it_should")["error"]
    assert records.job("fails_in_script")["error"]
    # newer versions say nothing, older ones show a traceback of their own
    run = records.job("fails_in_run")
    assert run["details"].get("exit_status", 1) == 1
    assert "Snakemake" in run["error"]
    assert "Traceback" not in run["error"]


def test_what_snakemake_shows_of_a_failure_has_nothing_of_ours(project: Project):
    prepare(project)
    done = project.snakemake(*OPTIONS, "--verbose", "shell.txt", "run.txt")
    assert done.code == 1
    assert "in spawn_job" in done.err
    assert "lamindb_snakemake" not in done.err
    assert "LAMINDB_" not in done.err


def test_a_failed_job_leaves_no_file(shared: Project, records: Records):
    assert {file["key"] for file in records.files} == {"good.txt", "again.txt"}
    assert records.file("again.txt")["hash"] == md5(shared.folder / "again.txt")


def test_a_retry_is_the_next_attempt_of_one_run(records: Records):
    run = records.job("succeeds_again")
    attempts = sorted(
        (each["number"], each["status"], bool(each["error"]))
        for each in records.attempts
        if each["run_id"] == run["id"]
    )
    assert attempts == [(1, "failed", True), (2, "completed", False)]
    assert run["error"] is None


def test_what_is_kept_of_a_failed_job_is_no_file_either(project: Project):
    prepare(project)
    done = project.snakemake(*OPTIONS, "--keep-incomplete", "shell.txt", "good.txt")
    assert done.code == 1
    assert os.path.exists(project.folder / "shell.txt")
    records = project.records()
    assert records.statuses() == {"good": "completed", "fails_in_shell": "failed"}
    assert {file["key"] for file in records.files} == {"good.txt"}


def test_a_workflow_that_breaks_off_by_an_error_of_its_own_has_failed(project: Project):
    project.snakefile("""
rule all:
    input: "last.txt"
rule first:
    output: "first.txt"
    shell: "touch {output}"
rule last:
    input: "first.txt"
    output: "last.txt"
    shell: "cp {input} {output}; echo {misspelt}"
""")
    assert project.snakemake().code == 1
    records = project.records()
    assert records.statuses() == {"first": "completed"}
    assert records.workflow["status"] == "failed"
    assert "'misspelt' is unknown" in records.workflow["error"]
