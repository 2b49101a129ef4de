"""What runs no job leaves no row, and what is quiet stays quiet."""

import re

import pytest
from snakemake_workflows import Project

SNAKEFILE = """
rule all:
    input: "a.txt"

rule one:
    output: "a.txt"
    shell: "echo a > {output}"
"""
# several commands of Snakemake in one process, as several calls of its entry point
COMMANDS = """
import sys
from snakemake.cli import main

for arguments in sys.stdin.read().splitlines():
    sys.argv = ["snakemake", *arguments.split(), "--cores", "1", "--logger", "lamindb"]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print("CODE", code, arguments, file=sys.stderr)
"""
DRY_RUN_BY_API = """
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings
from snakemake_logger_plugin_lamindb import LogHandlerSettings

output = OutputSettings(log_handler_settings={"lamindb": LogHandlerSettings()})
with SnakemakeApi(output) as api:
    cores = ResourceSettings(cores=1)
    workflow = api.workflow(resource_settings=cores, snakefile=Path("Snakefile"))
    workflow.dag(DAGSettings(targets={"a.txt"}, force_incomplete=True)).execute_workflow("dryrun")
print("done")
"""


def run_each(project: Project, *commands: str) -> dict[str, int]:
    done = project.python(COMMANDS, stdin="\n".join(commands))
    assert done.code == 0, done.err
    found = re.findall(r"^CODE (\S+) (.*)$", done.err, re.MULTILINE)
    assert len(found) == len(commands), done.err
    return {arguments: int(code) for code, arguments in found}


def test_a_dry_run_leaves_nothing(project: Project):
    project.snakefile(SNAKEFILE)
    done = project.snakemake("-n")
    assert done.code == 0, done.err
    assert "one" in done.out + done.err
    by_api = project.python(DRY_RUN_BY_API)
    assert by_api.out.endswith("done\n"), by_api.err
    records = project.records()
    assert (records.runs, records.files, records.transforms) == ([], [], [])


def test_commands_that_execute_no_job_leave_no_row(project: Project):
    project.snakefile(SNAKEFILE)
    (project.folder / "a.txt").write_text("there already")
    codes = run_each(
        project,
        "--unlock",
        "--summary",
        "--dag",
        "--list-rules",
        "--report report.html",
        "--touch --forceall",
        "--quiet",  # nothing to be done
        "--lint",
    )
    assert {name for name, code in codes.items() if code} <= {"--lint"}
    assert project.records().runs == []


@pytest.mark.parametrize(
    "option",
    [
        "-q",
        pytest.param("--quiet all", marks=pytest.mark.full),
        pytest.param("--quiet progress", marks=pytest.mark.full),
        pytest.param("--quiet rules", marks=pytest.mark.full),
        pytest.param("", marks=pytest.mark.full),
    ],
)
def test_a_quiet_workflow_is_recorded_and_as_quiet_as_without_us(project: Project, option: str):
    project.snakefile(SNAKEFILE)
    shown = []
    for plugin in (False, True):
        done = project.snakemake(*option.split(), "--forceall", plugin=plugin)
        assert done.code == 0, done.err
        shown.append([without_times(done.out), without_times(done.err)])
    assert shown[0] == shown[1]
    assert project.records().statuses() == {"one": "completed"}
    assert project.records().file("a.txt")["hash"]


def without_times(text: str) -> str:
    # the newest versions repeat the command
    return re.sub(
        r"\[\w+ \w+ +\d+ [\d:]+ \d+\]|\d{4}-\d\d-\d\d[T ][\d.:]+|[0-9a-f-]{36}"
        r"|\d+:\d\d:\d\d\.\d+",
        "…",
        text.replace(" --logger lamindb\n", "\n"),
    )
