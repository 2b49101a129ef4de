"""``lamin run -- COMMAND``: the command runs as it would, and is recorded."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import lamindb as ln
from lamindb import instance
from lamindb_plain.commands import Command, parsed_arguments
from read_only import seen_read_only

pytestmark = pytest.mark.observing

LAMIN = [sys.executable, "-m", "lamindb"]


@pytest.fixture(autouse=True)
def project() -> Path:
    """An instance with ./mydata in the working directory, and one file."""
    ln.setup.init("./mydata")
    instance.reset()
    Path("raw.csv").write_text("b,2\na,1\n")
    return Path.cwd()


def lamin_run(
    *arguments: str, prefix: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, *LAMIN, "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def only_run() -> ln.Run:
    instance.reset()
    return ln.select(ln.Run).one()


def keys(files: list[ln.File]) -> list[str | None]:
    return [file.key for file in files]


def executable(name: str, code: str) -> str:
    Path(name).write_text(f"#!/bin/sh\n{code}\n")
    Path(name).chmod(0o755)
    return f"./{name}"


def test_a_script_that_nobody_touched_is_recorded() -> None:
    Path("legacy.py").write_text(
        "import sys, os\n"
        "text = open(sys.argv[2]).read()\n"
        "open('out.txt', 'w').write(text + sys.stdin.read())\n"
        "print('said'); print('complained', file=sys.stderr)\n"
        "sys.exit(3)\n"
    )
    command = [sys.executable, "legacy.py", "--in", "raw.csv", "--password", "hunter2", "-v"]
    bare = subprocess.run(command, input="more", capture_output=True, text=True)
    Path("out.txt").unlink()
    done = lamin_run("--param", "n=3", "--", *command, input="more")
    assert (done.returncode, done.stdout, done.stderr) == (3, bare.stdout, bare.stderr)
    run = only_run()
    assert (run.status, run.error, run.name) == ("failed", "exit code 3", "legacy.py")
    assert run.params == {"in": "raw.csv", "password": "***", "v": True, "n": 3}
    assert (run.transform.type, run.transform.key.split("/", 1)[1]) == ("script", "legacy.py")
    assert (keys(run.inputs), keys(run.outputs)) == (["raw.csv"], ["out.txt"])
    assert "hunter2" not in json.dumps(run.details)
    assert run.details["plain"]["argv"][1:4] == ["legacy.py", "--in", "raw.csv"]
    assert run.environment_id is not None


def test_it_is_the_same_transform_that_track_infers() -> None:
    Path("script.py").write_text("import lamindb as ln\nln.track()\n")
    subprocess.run([sys.executable, "script.py"], check=True)
    assert lamin_run("--", sys.executable, "script.py").returncode == 0
    by_track, by_command, inner = ln.select(ln.Run).order_by(ln.Run.started_at).all()
    assert by_track.transform == by_command.transform == inner.transform
    assert inner.parent == by_command


def test_any_program_is_recorded_with_what_is_declared(tmp_path: Path) -> None:
    tool = executable("tool.sh", 'mkdir -p out; sort "$1" > out/sorted.txt; echo x > note.log')
    reference = tmp_path / "reference.txt"
    reference.write_text("r")
    options = ["--input", str(reference), "--output", "out/**", "--exclude", "*.log"]
    done = lamin_run(*options, "--name", "sorting", "--", tool, "raw.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run = only_run()
    assert (run.name, run.transform.name, run.transform.type) == ("sorting", "sorting", "pipeline")
    assert run.params == {"args": ["raw.csv"]}
    assert sorted(file.name for file in run.inputs) == ["raw.csv", "reference.txt"]
    assert keys(run.outputs) == ["out/sorted.txt"]


@pytest.mark.parametrize(
    ("code", "returned", "status", "error"),
    [
        ("exit 0", 0, "completed", None),
        pytest.param("exit 7", 7, "failed", "exit code 7", marks=pytest.mark.full),
        ("kill -TERM $$", 128 + 15, "cancelled", "SIGTERM"),
        ("kill -KILL $$", 128 + 9, "aborted", "SIGKILL"),
        pytest.param("kill -ABRT $$", 128 + 6, "failed", "SIGABRT", marks=pytest.mark.full),
    ],
)
def test_the_exit_code_is_what_a_shell_gives(
    code: str, returned: int, status: str, error: str | None
) -> None:
    assert lamin_run("--", "sh", "-c", code).returncode == returned
    run = only_run()
    assert (run.status, run.error) == (status, error)
    assert (run.transform.name, run.transform.type) == ("sh", "app")


def test_a_command_that_cannot_be_started_is_said_as_by_a_shell() -> None:
    done = lamin_run("--", "no-such-program")
    assert (done.returncode, done.stderr) == (127, "lamin: no-such-program: command not found\n")
    Path("plain.txt").write_text("")
    done = lamin_run("--", "./plain.txt")
    assert (done.returncode, done.stderr) == (126, "lamin: ./plain.txt: Permission denied\n")
    assert [run.status for run in ln.select(ln.Run).all()] == ["failed", "failed"]


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGUSR1, marks=pytest.mark.full)],
)
def test_signals_are_passed_on(number: signal.Signals) -> None:
    name = number.name[3:]
    code = f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    child = subprocess.Popen(
        [*LAMIN, "run", "--", "sh", "-c", code], stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    output, _ = child.communicate(timeout=30)
    assert (child.returncode, output) == (5, f"got {name}\n")
    assert only_run().error == "exit code 5"


def lock(project: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(project / "mydata/.lamindb/lamindb.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


TROUBLES = ["locked", "read-only", "gone", "no instance"]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_command_runs_whatever_is_wrong_with_the_database(project: Path, trouble: str) -> None:
    environment = dict(os.environ, LAMINDB_BUSY_TIMEOUT="0.3", LAMINDB_DRAIN_TIMEOUT="20")
    holder, prefix = None, list[str]()
    if trouble == "locked":
        holder = lock(project)
    elif trouble == "read-only":
        prefix = seen_read_only(project / "mydata")
    elif trouble == "gone":
        shutil.move(project / "mydata/.lamindb", project / "elsewhere")
    elif trouble == "no instance":
        environment["LAMINDB_INSTANCE"] = "nowhere"
    done = lamin_run(
        "--",
        "sh",
        "-c",
        "echo said; sort raw.csv > out.txt; exit 4",
        env=environment,
        prefix=prefix,
    )
    assert (done.returncode, done.stdout) == (4, "said\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert Path("out.txt").read_text() == "a,1\nb,2\n"
    if holder is not None:
        holder.close()
    if trouble in ("locked", "read-only"):
        run = only_run()  # the next opening records it
        assert (run.status, run.error) == ("failed", "exit code 4")
        assert (keys(run.inputs), keys(run.outputs)) == (["raw.csv"], ["out.txt"])


def test_a_dry_run_says_what_would_count_and_runs_nothing() -> None:
    Path(".git").mkdir()
    done = lamin_run("--dry-run", "--exclude", "*.csv", "--output", "out/**", "--", "touch", "x")
    assert done.returncode == 0, done.stderr
    assert not Path("x").exists()
    assert "not     " in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "would run  touch x"
    assert lines[1] == "transform  touch (app), key command:touch"
    assert any(line.endswith("raw.csv  (exclude '*.csv')") for line in lines)
    assert any(line.endswith("/.git/  (.git is a folder of a tool)") for line in lines)
    assert ln.select(ln.Run).count() == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "a.csv --n 3 --fast -x=1 -- b --c",
            {"n": "3", "fast": True, "x": "1", "args": ["a.csv", "b", "--c"]},
        ),
        ("--in a --in b", {"in": ["a", "b"]}),
        ("-5 --t -3", {"args": ["-5"], "t": "-3"}),
        ("", {}),
    ],
)  # fmt: skip
def test_parameters_are_told_from_a_command_line(words: str, expected: dict[str, Any]) -> None:
    assert parsed_arguments(words.split()) == expected


@pytest.mark.parametrize(
    ("words", "script", "arguments"),
    [
        ("python x.py 1", "x.py", ["1"]),
        ("python3.11 -u -W error -X dev x.py --n 1", "x.py", ["--n", "1"]),
        ("python -m module x.py", None, ["-m", "module", "x.py"]),
        ("python -c 1 x.py", None, ["-c", "1", "x.py"]),
        ("./x.py 1", "x.py", ["1"]),
        ("x.py 1", None, ["1"]),
    ],
)
def test_the_code_of_a_command_is_found(
    words: str, script: str | None, arguments: list[str]
) -> None:
    Path("x.py").write_text("")
    command = Command(tuple(words.split()))
    assert command.script == (None if script is None else Path(script).resolve())
    assert command.arguments == arguments


def test_wrong_usage_is_refused() -> None:
    assert lamin_run().returncode == 2
    assert lamin_run("--param", "n", "--", "true").returncode == 2
