"""A tracked script ends as without us, whatever is wrong with the database or another plugin."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lamindb as ln
from lamindb import instance
from lamindb_plain import claims

pytestmark = pytest.mark.observing

BEGIN = """
import lamindb as ln
ln.track()
open("out.txt", "w").write(open("raw.csv").read())
"""
LOCKED = """
import sqlite3
holder = sqlite3.connect("mydata/.lamindb/lamindb.sqlite", isolation_level=None)
holder.execute("BEGIN EXCLUSIVE")
"""
GONE = """
import os
from lamindb import instance
os.rename("mydata/.lamindb", "../elsewhere")
instance.current().database.dispose()
"""


@pytest.fixture(autouse=True)
def project() -> Path:
    """An instance with ./mydata in the working directory, and one file."""
    ln.setup.init("./mydata")
    instance.reset()
    Path("raw.csv").write_text("1\n")
    return Path.cwd()


def run_script(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    Path("script.py").write_text(code)
    return subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=50,
        env={**os.environ, "LAMINDB_BUSY_TIMEOUT": "0.5", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("trouble", [LOCKED, GONE], ids=["locked", "gone"])
@pytest.mark.parametrize(
    ("ending", "code", "status", "error"),
    [
        pytest.param("", 0, "completed", None, id="ends", marks=pytest.mark.full),
        pytest.param("import sys; sys.exit(3)", 3, "failed", "exit code 3", id="exits"),
    ],
)
def test_all_is_there_at_the_next_opening(
    trouble: str, ending: str, code: int, status: str, error: str | None
) -> None:
    done = run_script(f"{BEGIN}{trouble}\nprint('done')\n{ending}")
    assert (done.returncode, done.stdout) == (code, "done\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "recorded when the instance 'mydata' is next opened" in done.stderr
    if Path("../elsewhere").exists():
        shutil.move("../elsewhere", "mydata/.lamindb")
    run = ln.select(ln.Run).one()
    assert (run.status, run.error) == (status, error)
    assert [file.key for file in run.inputs] == ["raw.csv"]
    assert [file.key for file in run.outputs] == ["out.txt"]
    assert run.outputs[0].hash == run.inputs[0].hash is not None


def test_a_raising_plugin_beside_ours_changes_nothing() -> None:
    register = """
from lamindb.hooks import hookimpl, plugins
class Bad:
    @hookimpl
    def ln_run_details(self, run): raise RuntimeError("bad")
    ln_tracking_started = ln_tracking_finished = ln_file_written = ln_run_details
    @hookimpl
    def ln_tracking_started(self, tracking): raise RuntimeError("bad")
    @hookimpl
    def ln_file_written(self, event): raise RuntimeError("bad")
plugins().register(Bad(), name="bad")
"""
    done = run_script(f"{register}{BEGIN}print('done')")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "plugin 'bad' failed in ln_file_written" in done.stderr
    run = ln.select(ln.Run).one()
    assert (run.status, [file.key for file in run.outputs]) == ("completed", ["out.txt"])


FAMILY = """
import multiprocessing as mp, os, subprocess, sys, threading, time
import lamindb as ln

def work(how):
    open(f"{how}.txt", "w").close()
    if how == "hard":
        os._exit(0)

if __name__ == "__main__":
    ln.track(params={"n": 1})
    for how in ("soft", "hard"):
        child = mp.get_context("fork").Process(target=work, args=[how])
        child.start(); child.join()
    if os.fork() == 0:
        open("forked.txt", "w").close()
        os._exit(0)
    os.wait()
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()
    subprocess.run([sys.executable, "-c", "import os; open('exec.txt', 'w'); os._exit(0)"])
    os.execv(sys.executable, [sys.executable, "-c", "print('replaced')"])
"""


def test_children_that_end_by_os_exit_leave_what_they_did_and_exec_ends_the_run() -> None:
    done = run_script(FAMILY.replace("    os.execv", '    if "--exec" in sys.argv: os.execv'))
    assert (done.returncode, done.stderr) == (0, "")
    run = ln.select(ln.Run).one()
    assert run.status == "completed"
    assert [file.key for file in run.outputs] == ["exec.txt", "forked.txt", "hard.txt", "soft.txt"]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_files_of_a_run_that_died_are_recorded_as_far_as_they_were_seen(end: str) -> None:
    run_script(
        f"{BEGIN}\n"
        "import os, signal, subprocess, sys\n"
        "open('raw.csv', 'a').write('2'); open('gone.txt', 'w').close(); os.remove('gone.txt')\n"
        "open('tmp', 'w').write('3'); os.rename('tmp', 'named.txt')\n"
        "subprocess.run([sys.executable, '-c', \"open('child.txt', 'w').close()\"])\n"
        f"{end}\n"
    )
    run = ln.select(ln.Run).one()
    assert run.status == "aborted"
    assert [(file.key, file.size) for file in run.inputs] == [("raw.csv", 2)]
    assert [file.key for file in run.outputs] == ["child.txt", "named.txt", "out.txt", "raw.csv"]
    assert list(claims.folder().glob("*")) == []


def test_what_is_known_of_a_run_is_kept(project: Path) -> None:
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    Path(".gitignore").write_text("mydata\n.lamindb\n")
    for arguments in (
        ["init", "-q", "-b", "work"], ["add", "."], ["commit", "-qm", "first"],
        ["remote", "add", "origin", "https://me:secret@example.org/lab/study.git"],
    ):  # fmt: skip
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    Path("raw.csv").write_text("changed\n")
    Path("script.py").write_text("import lamindb as ln\nln.track()")
    subprocess.run([sys.executable, "script.py", "--token", "hunter2", "x"], check=True)
    run = ln.select(ln.Run).one()
    known = run.details["plain"]
    assert known["git"] == {
        "commit": commit.strip(), "branch": "work", "dirty": True,
        "remote": "example.org/lab/study",
    }  # fmt: skip
    assert known["argv"] == ["script.py", "--token", "***", "x"]
    assert known["directory"] == str(project)
    assert known["python"] == sys.executable
    assert run.engine == "plain"
    assert run.environment_id is not None
    from sqlalchemy import select

    from lamindb.db.schema import environment

    with instance.current().database.read() as connection:
        (row,) = connection.execute(select(environment)).all()
    assert row.id == run.environment_id
    assert row.packages["sqlalchemy"]
