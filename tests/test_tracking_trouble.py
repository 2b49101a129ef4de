"""A tracked script ends as without us, whatever is wrong with the database or another plugin."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

import lamindb as ln
import postgres as postgres_server
from lamindb import instance
from lamindb_plain import claims
from read_only import seen_read_only

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


def run_script(
    code: str, prefix: Sequence[str] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    Path("script.py").write_text(code)
    return subprocess.run(
        [*prefix, sys.executable, "script.py"], capture_output=True, text=True, timeout=50,
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


TRACKED = """
import sys
import lamindb as ln
run = ln.track({transform}params={{"n": 1}})
assert ln.context.run is run
open("out.txt", "w").write(open("raw.csv").read())
print("done")
sys.exit(3)
"""


@pytest.mark.parametrize("transform", ["", "ln.Transform('clean'), "], ids=["inferred", "named"])
@pytest.mark.parametrize("trouble", ["locked", "read-only", "gone"])
def test_a_database_out_of_reach_from_the_start_costs_one_warning(
    trouble: str, transform: str, project: Path
) -> None:
    code = TRACKED.format(transform=transform)
    assert run_script(code).stderr == ""
    before = ln.select(ln.Run).one()
    instance.reset()
    with ExitStack() as stack:
        prefix: list[str] = []
        if trouble == "locked":
            database = "mydata/.lamindb/lamindb.sqlite"
            holder = stack.enter_context(closing(sqlite3.connect(database, isolation_level=None)))
            holder.execute("BEGIN EXCLUSIVE")
        elif trouble == "gone":
            database = "mydata/.lamindb/lamindb.sqlite"
            shutil.move(database, "../elsewhere")
            stack.callback(shutil.move, "../elsewhere", database)
        else:
            prefix = seen_read_only(project / "mydata")
        done = run_script(code, prefix, LAMINDB_DRAIN_TIMEOUT="1")
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "recorded when the instance 'mydata' is next opened" in done.stderr
    [run] = [each for each in ln.select(ln.Run).all() if each.id != before.id]
    assert (run.transform, run.engine, run.params) == (before.transform, "plain", {"n": 1})
    assert (run.status, run.error, run.created_by) == ("failed", "exit code 3", before.created_by)
    assert run.details.keys() - {"lamindb"} == before.details.keys() - {"lamindb"}
    assert run.environment_id == before.environment_id
    assert [file.key for file in run.inputs] == ["raw.csv"]
    assert [file.key for file in run.outputs] == ["out.txt"]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_run_that_nobody_could_record_is_of_the_transform_it_was_given_by_id(
    is_known: bool, project: Path
) -> None:
    known = ln.add(ln.Transform("clean"))
    instance.reset()
    given = f"id={known.id!r}" if is_known else "'other', id='AAAAbbbb0000'"
    done = run_script(
        TRACKED.format(transform=f"ln.Transform({given}), "),
        seen_read_only(project / "mydata"),
        LAMINDB_DRAIN_TIMEOUT="1",
    )
    assert done.returncode == 3, done.stderr
    transform = ln.select(ln.Run).one().transform
    expected = (known.id, "clean") if is_known else ("AAAAbbbb0000", "other")
    assert transform is not None
    assert (transform.id, transform.name) == expected


def test_what_is_added_once_the_database_is_back_is_of_the_run_told_of_before() -> None:
    done = run_script(
        "import lamindb as ln\n"
        f"{LOCKED}\n"
        "run = ln.track()\n"
        "holder.close()\n"
        "file = ln.add(ln.File('raw.csv', key='kept.csv'))\n"
        "assert file.run == run, file.run\n"
    )
    assert done.returncode == 0, done.stderr
    run = ln.select(ln.Run).one()
    assert (run.status, ln.select(ln.File, key="kept.csv").one().run) == ("completed", run)


def test_a_server_that_is_down_costs_one_warning(
    postgres: postgres_server.Server, project: Path, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    socket.symlink_to(postgres.folder)
    url = postgres.database().replace(str(postgres.folder), str(socket))
    ln.setup.init("./served", db=url)
    instance.reset()
    socket.unlink()
    done = run_script(TRACKED.format(transform=""), LAMINDB_INSTANCE="served")
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    socket.symlink_to(postgres.folder)
    ln.setup.load("served")
    run = ln.select(ln.Run).one()
    assert (run.status, run.transform.name) == ("failed", "script.py")
    assert [file.key for file in run.outputs] == ["out.txt"]


@pytest.mark.parametrize("why", ["no rights", "read-only"])
def test_a_server_that_takes_no_writes_costs_one_warning(
    why: str, postgres: postgres_server.Server
) -> None:
    url = postgres.database()
    ln.setup.init("./served", db=url)
    ln.setup.settings.user  # noqa: B018 - registers the user
    instance.reset()
    options = "-c default_transaction_read_only=on"
    if why == "no rights":
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CREATE ROLE nobody_in_particular NOLOGIN")
            connection.execute(
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO nobody_in_particular"
            )
        options = "-c role=nobody_in_particular"
    code = TRACKED.format(transform="")
    done = run_script(code, LAMINDB_INSTANCE="served", PGOPTIONS=options)
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "refuses this" in done.stderr
    ln.setup.load("served")
    run = ln.select(ln.Run).one()
    assert (run.status, [file.key for file in run.outputs]) == ("failed", ["out.txt"])


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


FORKS = """
import os, sys, threading
if "--track" in sys.argv:
    import lamindb as ln
    ln.track()
def fork():
    if os.fork() == 0:
        os._exit(0)
    os.wait()
fork()
done = threading.Event()
thread = threading.Thread(target=done.wait)
thread.start()
fork()
done.set(); thread.join()
"""


def test_whoever_forks_is_warned_of_the_threads_of_the_script_alone() -> None:
    bare = run_script(FORKS)
    tracked = run_script(FORKS.replace("sys.argv", "['--track']"))
    said, wanted = (re.sub(r"pid=\d+", "", done.stderr) for done in (tracked, bare))
    assert (tracked.returncode, said) == (0, wanted)


AT_EXIT = """
import atexit
import lamindb as ln

def late():
    for name in "abc":
        with open(f"{name}.txt", "w") as stream:
            stream.write(name)
    files = [ln.File(f"{name}.txt", key=name) for name in "abc"]
    ln.add(files)
    ln.delete(files[1:], delete_data=True)
    print([file.key for file in ln.select(ln.File).all()])

atexit.register(late)
"""


def test_an_exit_handler_may_add_and_delete_several_files() -> None:
    done = run_script(AT_EXIT)
    assert (done.stdout, done.stderr) == ("['a']\n", "")


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
