"""``ln.track``: which transform, which run, and how a run ends. Real scripts, signals and forks."""

import asyncio
import datetime as dt
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest

import lamindb as ln
from lamindb import config, instance, liveness, recorder
from lamindb.errors import LaminError, PluginError, RecordError, TransformUnknownError
from lamindb.hooks import InferredTransform, RunStarted, emit, hookimpl, plugins
from lamindb.records import active

pytestmark = [pytest.mark.observing, pytest.mark.databases("full")]

TRACK = "import lamindb as ln; ln.track()"


@pytest.fixture
def project() -> Path:
    """An instance with ./mydata in the working directory, which is returned."""
    ln.setup.init("./mydata")
    return Path.cwd()


def run_script(
    code: str, *arguments: str, name: str = "script.py", **environment: str
) -> subprocess.CompletedProcess[str]:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(code, encoding="utf-8")
    return subprocess.run(
        [sys.executable, name, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def done(*arguments: Any, **options: Any) -> str:
    """Run a script to its good end and return what it printed."""
    child = run_script(*arguments, **options)
    assert child.returncode == 0, child.stderr
    return child.stdout


def look() -> ln.Run:
    """Open the instance anew, as the next process does, and return the only run."""
    instance.reset()
    run: ln.Run = ln.select(ln.Run).one()
    return run


def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask the database behind the library's back."""
    where = config.config_named("mydata")
    if not where.is_sqlite:
        with psycopg.connect(where.db.replace("+psycopg", "")) as server:
            cursor = server.execute(statement.replace("?", "%s"), values or None)
            return cursor.fetchall() if cursor.description else []
    path = Path("mydata/.lamindb/lamindb.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def pipeline(name: str = "study", **fields: Any) -> ln.Transform:
    return ln.Transform(name, type="pipeline", **fields)


# --- which transform ----------------------------------------------------------------------------


def test_the_row_is_there_when_track_returns_and_says_started(project: Path) -> None:
    before = dt.datetime.now(dt.UTC)
    run = ln.track(pipeline(), params={"max_z": 3.5})

    ((run_id, status, host, pid),) = rows("SELECT id, status, host, pid FROM run")
    assert (run_id, status, pid) == (run.id, "started", os.getpid())
    assert host
    assert before <= run.started_at <= dt.datetime.now(dt.UTC)
    assert run.finished_at is None
    assert run.params == {"max_z": 3.5}
    assert ln.context.run == run
    assert ln.context.transform == run.transform


def test_an_unknown_transform_is_added(project: Path) -> None:
    given = pipeline(reference="https://example.org/study")
    run = ln.track(given)

    stored = ln.select(ln.Transform).one()
    assert stored == run.transform == given
    assert (stored.name, stored.version, stored.type) == ("study", "0", "pipeline")
    assert stored.reference == "https://example.org/study"


def test_a_transform_is_found_by_name_and_type(project: Path) -> None:
    first = ln.track(pipeline())
    second = ln.track(pipeline())

    assert first != second
    assert first.transform == second.transform
    assert ln.select(ln.Transform).count() == 1


def test_the_same_name_of_another_type_is_another_transform(project: Path) -> None:
    one = ln.track(ln.Transform("study", type="pipeline")).transform
    other = ln.track(ln.Transform("study", type="app")).transform

    assert one.id != other.id
    assert ln.track(ln.Transform("study", type="pipeline")).transform == one
    assert ln.track(ln.Transform("study", type="app")).transform == other


def test_a_new_version_of_a_known_name_shares_its_id(project: Path) -> None:
    old = ln.track(pipeline()).transform
    new = ln.track(pipeline(version="2")).transform

    assert old.id == new.id
    assert (old.version, new.version) == ("0", "2")
    assert ln.track(pipeline()).transform == new  # without a version: the latest
    assert ln.track(pipeline(version="0")).transform == old


def test_a_transform_is_found_by_id_and_version(project: Path) -> None:
    old = ln.track(pipeline()).transform
    new = ln.track(pipeline(version="2")).transform

    assert ln.track(ln.Transform(id=old.id)).transform == new
    assert ln.track(ln.Transform(id=old.id, version="0")).transform == old
    assert ln.track(ln.Transform("other words", id=old.id, version="0")).transform.name == "study"


def test_a_record_from_a_query_is_tracked_as_it_is(project: Path) -> None:
    ln.track(pipeline())
    ln.track(pipeline(version="2"))
    old = ln.select(ln.Transform, version="0").one()

    assert ln.track(old).transform == old


def test_an_unknown_id_with_a_name_is_added_and_without_one_is_an_error(project: Path) -> None:
    added = ln.track(ln.Transform("study", id="AAAAbbbb0000")).transform
    assert ln.select(ln.Transform, id="AAAAbbbb0000").one() == added

    with pytest.raises(TransformUnknownError, match=r"'typo' and version '3'.*ln\.select"):
        ln.track(ln.Transform(id="typo", version="3"))
    assert isinstance(TransformUnknownError("x"), ValueError)
    assert ln.select(ln.Transform).count() == 1


@pytest.mark.parametrize(
    "params",
    [
        {"path": Path("x")},
        {"x": float("nan")},
        {"x": {1, 2}},
        {(1, 2): 3},
        ["a", "list"],
        "text",
        {1: "a", "1": "b"},
        {"x": [{None: 1, "null": 2}]},
    ],
    ids=str,
)
def test_params_that_are_no_json_object_are_refused_before_anything_is_written(
    project: Path, params: Any
) -> None:
    with pytest.raises(RecordError, match="params"):
        ln.track(pipeline(), params=params)
    assert ln.select(ln.Run).count() == ln.select(ln.Transform).count() == 0
    assert ln.context.run is None


def test_params_that_contain_themselves_are_refused(project: Path) -> None:
    params: dict[str, Any] = {}
    params["self"] = params
    with pytest.raises(RecordError, match="params"):
        ln.track(pipeline(), params=params)


# --- twice, and finish --------------------------------------------------------------------------


def test_tracking_twice_in_one_context_closes_the_former_run(project: Path) -> None:
    first = ln.track(pipeline())
    second = ln.track(pipeline("next"))

    assert (first.status, second.status) == ("completed", "started")
    assert first.finished_at is not None
    assert first.finished_at <= second.started_at
    assert second.parent is None
    assert ln.context.run == second
    assert ln.select(ln.Run, id=first.id).one().status == "completed"


def test_finish_completes_the_run_and_leaves_no_context(project: Path) -> None:
    run = ln.track(pipeline())
    ln.finish()

    assert ln.context.run is None
    assert ln.context.transform is None
    stored = ln.select(ln.Run, id=run.id).one()
    assert (stored.status, stored.error) == ("completed", None)
    assert stored.duration_s is not None
    ln.finish()  # nothing to do, and no error
    assert ln.select(ln.Run, id=run.id).one().finished_at == stored.finished_at


def test_a_run_after_finish_has_no_parent(project: Path) -> None:
    ln.track(pipeline())
    ln.finish()
    assert ln.track(pipeline()).parent is None


def test_choosing_another_instance_completes_the_runs_of_the_former(project: Path) -> None:
    ln.track(pipeline())
    ln.setup.init("./other", name="other")
    assert ln.context.run is None

    ln.setup.load("mydata")
    assert ln.select(ln.Run).one().status == "completed"


# --- who belongs to which run -------------------------------------------------------------------


def test_each_asyncio_task_has_its_own_run(project: Path) -> None:
    async def step(name: str) -> tuple[ln.Run, ln.Run | None, ln.Run]:
        run = ln.track(pipeline(name))
        await asyncio.sleep(0.02)
        seen = ln.context.run
        later = ln.track(pipeline(f"{name} again"))
        await asyncio.sleep(0)
        return run, seen, later

    async def main() -> tuple[ln.Run, list[tuple[ln.Run, ln.Run | None, ln.Run]]]:
        outer = ln.track(pipeline("outer"))
        results = await asyncio.gather(step("a"), step("b"))
        assert ln.context.run == outer
        return outer, results

    outer, results = asyncio.run(main())
    for run, seen, later in results:
        assert seen == run
        assert run.parent == outer
        assert (run.status, later.status) == ("completed", "started")
        assert later.parent == outer
    assert outer.status == "started"


def test_a_task_is_told_from_an_ended_one_whose_number_it_has(project: Path) -> None:
    async def child(number: int, parent: ln.Run) -> bool | None:
        if id(asyncio.current_task()) != number:
            return None
        run = ln.track(pipeline("child"))
        ln.finish()
        return run.parent == parent

    async def spawner(number: int, parent: ln.Run) -> bool | None:
        for _ in range(20):
            if (is_child := await asyncio.create_task(child(number, parent))) is not None:
                return is_child
        return None

    async def starter() -> tuple[ln.Run, "asyncio.Task[bool | None]"]:
        run = ln.track(pipeline("starter"))
        return run, asyncio.create_task(spawner(id(asyncio.current_task()), run))

    async def main() -> tuple[ln.Run, bool | None]:
        for _ in range(20):
            run, task = await asyncio.create_task(starter())
            if (is_child := await task) is not None:
                break
        return run, is_child

    run, is_child = asyncio.run(main())
    assert is_child is not None, "no number was given twice"
    assert is_child
    assert run.status == "started"


def test_a_task_without_a_run_of_its_own_belongs_to_the_one_that_started_it(project: Path) -> None:
    async def reader() -> ln.Run | None:
        return ln.context.run

    async def main() -> tuple[ln.Run, ln.Run | None]:
        run = ln.track(pipeline())
        return run, await asyncio.create_task(reader())

    run, seen = asyncio.run(main())
    assert seen == run


def test_a_thread_falls_back_to_the_run_of_the_process(project: Path) -> None:
    run = ln.track(pipeline())
    assert in_thread(lambda: ln.context.run) == run


def test_a_thread_that_tracks_has_a_child_run_of_its_own(project: Path) -> None:
    outer = ln.track(pipeline())

    def work() -> tuple[ln.Run, ln.Run | None]:
        inner = ln.track(pipeline("inner"))
        return inner, ln.context.run

    inner, seen = in_thread(work)
    assert seen == inner
    assert inner.parent == outer
    assert ln.context.run == outer
    assert (outer.status, inner.status) == ("started", "started")
    assert outer.children == [inner]


def test_the_run_of_a_thread_is_not_the_main_threads_nor_another_threads(project: Path) -> None:
    in_thread(lambda: ln.track(pipeline()))
    assert ln.context.run is None
    assert in_thread(lambda: ln.context.run) is None
    assert in_thread(lambda: ln.track(pipeline()).parent) is None


def test_tasks_beside_each_other_are_not_each_others_children(project: Path) -> None:
    async def step(name: str) -> ln.Run:
        run = ln.track(pipeline(name))
        await asyncio.sleep(0.01)
        assert ln.context.run == run
        return run

    async def main() -> list[ln.Run]:
        found = await asyncio.gather(*(step(f"t{n}") for n in range(3)))
        assert ln.context.run is None
        return found

    runs = asyncio.run(main())
    assert [run.parent for run in runs] == [None, None, None]
    assert {run.status for run in runs} == {"started"}
    assert ln.context.run is None


def test_threads_of_a_pool_are_not_each_others_children(project: Path) -> None:
    barrier = threading.Barrier(3)

    def step(number: int) -> ln.Run:
        barrier.wait()
        run = ln.track(pipeline(f"t{number}"))
        barrier.wait()
        return run

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(step, range(3)))
    assert [run.parent for run in runs] == [None, None, None]
    outer = ln.track(pipeline())
    with ThreadPoolExecutor(3) as pool:
        assert [run.parent for run in pool.map(step, range(3))] == [outer] * 3


def test_what_the_main_task_tracks_is_the_run_of_a_new_thread(project: Path) -> None:
    async def main() -> tuple[ln.Run, ln.Run]:
        run = ln.track(pipeline())
        return run, in_thread(lambda: ln.context.run)

    run, seen = asyncio.run(main())
    assert seen == run


def in_thread(act: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


def test_a_child_process_learns_its_parent_from_the_environment(project: Path) -> None:
    outer = ln.track(pipeline())
    done(f"{TRACK}\nprint(ln.context.run.parent_id)", name="child.py")
    done(f"{TRACK}\nln.finish()\nprint(ln.context.run.id)", name="grandchild.py")

    children = outer.children
    assert [run.name for run in children] == ["child.py", "grandchild.py"]
    assert [run.status for run in children] == ["completed", "completed"]
    assert ln.select(ln.Run, id=outer.id).one().status == "started"

    ln.finish()
    done(TRACK, name="later.py")
    assert ln.select(ln.Run, name="later.py").one().parent is None


def test_what_an_untracked_child_process_adds_belongs_to_its_parents_run(project: Path) -> None:
    outer = ln.track(pipeline())
    Path("a.txt").write_text("a")
    done("import lamindb as ln\nln.add(ln.File('a.txt', key='a.txt'))")
    assert ln.select(ln.File).one().run == outer


def test_a_parent_run_of_another_instance_is_left_alone(project: Path) -> None:
    done(TRACK, LAMINDB_RUN="0" * 20)
    assert look().parent is None


FAMILY = """
import multiprocessing, os, sys
import lamindb as ln


def work(name):
    ln.track(ln.Transform(name))
    if name.endswith("ill"):
        raise ValueError("in the child")
    if name.endswith("out"):
        sys.exit("enough")


if __name__ == "__main__":
    ln.track(ln.Transform("parent"))
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        for name in (f"{method} well", f"{method} ill", f"{method} out"):
            child = context.Process(target=work, args=(name,))
            child.start()
            child.join()
            print(name, child.exitcode)
    print(ln.context.run.status)
"""


@pytest.mark.parametrize(
    "method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.full)]
)
def test_children_of_multiprocessing_end_their_own_runs_and_not_the_parents(
    project: Path, method: str
) -> None:
    assert done(FAMILY, method).splitlines() == [
        f"{method} well 0",
        f"{method} ill 1",
        f"{method} out 1",
        "started",
    ]
    found = {run.name: run for run in ln.select(ln.Run).all()}
    parent = found.pop("parent")
    assert parent.status == "completed"
    assert {name: run.status for name, run in found.items()} == {
        f"{method} well": "completed",
        f"{method} ill": "failed",
        f"{method} out": "failed",
    }
    errors = [found[f"{method} {name}"].error for name in ("ill", "out")]
    if sys.version_info < (3, 13):
        assert errors == ["ValueError: in the child", "exit code 1: enough"]
    else:  # which forgets the exception before exit handlers run
        assert all(error.startswith("exit code 1") for error in errors)
    assert {run.parent for run in found.values()} == {parent}
    assert len({run.pid for run in [parent, *found.values()]}) == 4


@pytest.mark.databases("sqlite")
def test_a_forked_child_neither_finishes_nor_closes_its_parents_run(project: Path) -> None:
    printed = done(
        """
import os, sqlite3, sys
import lamindb as ln

run = ln.track()


def status():
    connection = sqlite3.connect("mydata/.lamindb/lamindb.sqlite")
    return connection.execute("SELECT status FROM run WHERE id = ?", [run.id]).fetchone()[0]


if os.fork() == 0:
    assert ln.context.run == run
    ln.finish()
    sys.exit(5)
os.wait()
print(status())

if os.fork() == 0:
    assert ln.track(ln.Transform("child")).parent == run
    sys.exit(0)
os.wait()
print(status())
"""
    )
    assert printed == "started\nstarted\n"
    assert {run.name: run.status for run in ln.select(ln.Run).all()} == {
        "script.py": "completed",
        "child": "completed",
    }


def test_a_forked_child_is_ended_by_sigterm_like_any_other(project: Path) -> None:
    printed = done(
        """
import os, signal, time
import lamindb as ln

ln.track()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    # a handler in Python would have to wait for the end of a long computation in C
    os.write(writer, str(signal.getsignal(signal.SIGTERM)).encode())
    time.sleep(60)
print(os.read(reader, 1000).decode())
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    )
    assert printed == f"{signal.SIG_DFL!s}\n-15\n"
    assert look().status == "completed"


# --- how a run ends -----------------------------------------------------------------------------

ENDINGS: dict[str, tuple[str, str, str | None]] = {
    "the last line": ("pass", "completed", None),
    "an exception": ("raise ValueError('bad input')", "failed", "ValueError: bad input"),
    "an exception of several lines": (
        "raise ValueError('bad\\n  input\\n')",
        "failed",
        "ValueError: bad input",
    ),
    "an exception without words": ("raise ValueError", "failed", "ValueError"),
    "an exception that cannot be shown": (
        "raise type('Bad', (Exception,), {'__str__': lambda self: 1 / 0})",
        "failed",
        "Bad: <its message cannot be shown>",
    ),
    "an exception that is no valid Unicode": (
        "raise OSError('no file caf\\udce9\\0')",
        "failed",
        "OSError: no file caf\\udce9\\x00",
    ),
    "an exception that another hook shows": (
        "import sys; sys.excepthook = lambda *_: print('mine'); raise ValueError('bad')",
        "failed",
        "ValueError: bad",
    ),
    "an exception that was caught": (
        "try: 1 / 0\nexcept ZeroDivisionError: pass",
        "completed",
        None,
    ),
    "an exception in a thread": (
        "import threading\nt = threading.Thread(target=int, args=['x'])\nt.start(); t.join()",
        "completed",
        None,
    ),
    "sys.exit of a number": ("import sys; sys.exit(3)", "failed", "exit code 3"),
    "sys.exit of a text": ("import sys; sys.exit('no data')", "failed", "exit code 1: no data"),
    "sys.exit of nothing": ("import sys; sys.exit()", "completed", None),
    "sys.exit of zero": ("import sys; sys.exit(0)", "completed", None),
    "sys.exit of True": ("import sys; sys.exit(True)", "failed", "exit code 1"),
    "sys.exit of False": ("import sys; sys.exit(False)", "completed", None),
    "sys.exit that was caught": (
        "import sys\ntry: sys.exit(3)\nexcept SystemExit as e: saved = e",
        "completed",
        None,
    ),
    "sys.exit that was caught, then an exception": (
        "import sys\ntry: sys.exit(3)\nexcept SystemExit as e: saved = e\n1 / 0",
        "failed",
        "ZeroDivisionError: division by zero",
    ),
    "an exception that was caught, then sys.exit": (
        "import sys\ntry: 1 / 0\nexcept ZeroDivisionError: sys.exit(4)",
        "failed",
        "exit code 4",
    ),
    "sys.exit that a function held and let go": (
        "import sys\ndef f():\n    try: sys.exit(3)\n    except SystemExit as e:\n"
        "        held = e\n        raise\nf()",
        "failed",
        "exit code 3",
    ),
    "sys.exit in a coroutine": (
        "import asyncio, sys\nasync def main(): sys.exit(3)\nasyncio.run(main())",
        "failed",
        "exit code 3",
    ),
    "sys.exit with cleaning up": (
        "import sys\ntry:\n    sys.exit(3)\nfinally:\n    print('clean')",
        "failed",
        "exit code 3",
    ),
    "sys.exit in a thread": (
        "import sys, threading\nt = threading.Thread(target=lambda: sys.exit(3))\n"
        "t.start(); t.join()",
        "completed",
        None,
    ),
    "exit of a number": ("exit(3)", "failed", "exit code 3"),
    "quit": ("quit()", "completed", None),
    "argparse": (
        "import argparse\nargparse.ArgumentParser(prog='x').parse_args(['--no'])",
        "failed",
        "exit code 2",
    ),
    "sys.exit that was caught, then a raised SystemExit": (
        "import sys\ntry: sys.exit(3)\nexcept SystemExit: pass\nraise SystemExit(0)",
        "completed",
        None,
    ),
    "exit that was imported before": ("leave(3)", "failed", "exit code 3"),
    # the interpreter tells nobody: as documented at ln.track
    "a raised SystemExit": ("raise SystemExit(3)", "completed", None),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "cancelled", "KeyboardInterrupt"),
    "os._exit": (
        "import os; os._exit(4)",
        "aborted",
        "its process died without saying why, as after SIGKILL or power loss",
    ),
}


# what is like another one
RARE = {
    "an exception without words",
    "an exception that was caught",
    "sys.exit of nothing",
    "sys.exit of True",
    "sys.exit of False",
    "sys.exit with cleaning up",
    "quit",
}


@pytest.mark.parametrize(
    "ending",
    [pytest.param(name, marks=pytest.mark.full) if name in RARE else name for name in ENDINGS],
)
def test_the_run_says_how_the_script_ended_and_the_script_ends_as_without_us(
    project: Path, ending: str
) -> None:
    code, status, error = ENDINGS[ending]
    early = "from sys import exit as leave; "
    bare = run_script(f"{early}pass\nprint('begun', flush=True)\n{code}\n")
    tracked = run_script(f"{early}{TRACK}\nprint('begun', flush=True)\n{code}\n")

    assert tracked.returncode == bare.returncode
    assert tracked.stdout == bare.stdout
    assert without_threads(tracked.stderr) == without_threads(bare.stderr)
    run = look()
    assert (run.status, run.error) == (status, error)
    assert run.finished_at is not None
    # not when somebody looked, which may be months later
    assert status != "aborted" or run.finished_at == run.heartbeat_at


def without_threads(text: str) -> str:
    """Leave out what differs from process to process."""
    return "\n".join(line for line in text.splitlines() if "0x" not in line)


SLEEP = """
import signal, sys, time
{before}
{track}
{after}
try:
    print("ready", flush=True)
    time.sleep(50)
finally:
    print("unwound", flush=True)
"""


def signalled(
    number: int, *, track: bool, before: str = "", after: str = ""
) -> tuple[int, str, str]:
    """Send a signal to a sleeping script; return its exit code and what it printed."""
    code = SLEEP.format(before=before, track=TRACK if track else "", after=after)
    Path("script.py").write_text(code)
    with started("script.py") as child:
        wait_until_asleep(child.pid)
        child.send_signal(number)
        stdout, stderr = child.communicate(timeout=30)
    return child.returncode, stdout, stderr


def wait_until_asleep(pid: int) -> None:
    """Return when a process no longer does anything, so that a signal finds it at one place."""
    process, before = psutil.Process(pid), None
    while True:
        now = process.num_ctx_switches()
        if now == before and process.status() == psutil.STATUS_SLEEPING:
            return
        before = now
        time.sleep(0.05)


@contextmanager
def started(*command: str, prefix: Sequence[str] = ()) -> Iterator["subprocess.Popen[str]"]:
    """Start a script and wait until it says that it is ready."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [*prefix, sys.executable, *command], stdout=pipe, stderr=pipe, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


@pytest.mark.parametrize(
    ("number", "status", "error"),
    [
        (signal.SIGINT, "cancelled", "KeyboardInterrupt"),
        (signal.SIGTERM, "cancelled", "SIGTERM"),
        (signal.SIGHUP, "cancelled", "SIGHUP"),
        (signal.SIGKILL, "aborted", "its process died without saying why"),
    ],
)
def test_a_signal_ends_script_and_run_and_the_exit_status_is_the_signals(
    project: Path, number: signal.Signals, status: str, error: str
) -> None:
    bare = signalled(number, track=False)
    tracked = signalled(number, track=True)

    assert tracked == bare
    assert tracked[0] == -number
    run = look()
    assert run.status == status
    assert run.error is not None
    assert run.error.startswith(error)


def test_a_dead_run_says_started_until_somebody_looks(project: Path) -> None:
    signalled(signal.SIGKILL, track=True)
    assert rows("SELECT status FROM run") == [("started",)]
    assert look().status == "aborted"


def test_a_run_that_lives_is_not_taken_for_dead(project: Path) -> None:
    Path("script.py").write_text(SLEEP.format(before="", track=TRACK, after=""))
    with started("script.py"):
        assert look().status == "started"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_scripts_own_sigterm_handler_is_left_alone(project: Path, moment: str) -> None:
    own = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    code, stdout, stderr = signalled(signal.SIGTERM, track=True, **{moment: own})

    assert (code, stdout, stderr) == (7, "unwound\n", "")
    run = look()
    assert (run.status, run.error) == ("failed", "exit code 7")


def test_a_signal_is_noticed_although_a_thread_was_the_first_to_track(project: Path) -> None:
    first = (
        "import threading, lamindb as ln; "
        "t = threading.Thread(target=lambda: (ln.track(), ln.finish())); t.start(); t.join()"
    )
    code, _, _ = signalled(signal.SIGTERM, track=True, before=first)
    assert code == -signal.SIGTERM
    assert [run.status for run in ln.select(ln.Run).all()] == ["completed", "cancelled"]


WORKER = """
import signal, sys, threading, time, lamindb as ln

def work():
    ln.track()
    print("ready", flush=True)
    time.sleep(50)

t = threading.Thread(target=work)
t.start()
{wait}
"""


@pytest.mark.parametrize(
    "wait",
    [
        "t.join()",
        "time.sleep(50)",
        # the thread that records gets little of the interpreter
        pytest.param("while True: pass", marks=pytest.mark.full),
    ],
)
def test_sigterm_is_noticed_when_only_a_thread_has_tracked(project: Path, wait: str) -> None:
    Path("script.py").write_text(WORKER.format(wait=wait))
    with started("script.py") as child:
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
        assert child.stderr is not None
        assert child.stderr.read() == ""
    run = look()
    assert (run.status, run.error) == ("cancelled", "SIGTERM")


def test_sigkill_is_not_taken_for_sigterm_when_only_a_thread_has_tracked(project: Path) -> None:
    Path("script.py").write_text(WORKER.format(wait="t.join()"))
    with started("script.py") as child:
        child.kill()
        child.wait(30)
    assert look().status == "aborted"


def test_a_run_in_another_container_is_not_taken_for_dead(project: Path) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-pf", "true"]).returncode:
        pytest.skip("unshare --pid is not allowed here")
    Path("script.py").write_text(SLEEP.format(before="", track=TRACK, after=""))
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with started("script.py", prefix=prefix):
        assert look().status == "started"
        rows("UPDATE run SET heartbeat_at = '2020-01-01 00:00:00.000000'")
        assert look().status == "aborted"


def test_a_run_before_the_machine_was_started_anew_is_dead(project: Path) -> None:
    run = ln.track(pipeline())
    table = f"other-boot {liveness.process_table().partition(' ')[2]}"
    rows(f"UPDATE run SET details = '{json.dumps({'lamindb': {'process': table}})}'")
    assert liveness.dead_runs(instance.current().database) == [run.id]


def test_a_heartbeat_takes_back_that_a_run_was_found_dead(project: Path) -> None:
    run = ln.track(pipeline())
    rows("UPDATE run SET pid = 2147483646")
    database = instance.current().database
    assert liveness.close_dead_runs(database) == 1
    assert ln.select(ln.Run).one().status == "aborted"
    liveness.beat(database, [run.id])
    again = ln.select(ln.Run).one()
    assert (again.status, again.finished_at, again.error) == ("started", None, None)


def test_a_spawned_child_does_not_track_what_its_parents_script_tracks(project: Path) -> None:
    printed = done(
        f"{TRACK}\n"
        "import multiprocessing as mp\n"
        "def work(n): return ln.context.run.id\n"
        "if __name__ == '__main__':\n"
        "    with mp.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(work, [1]) == [ln.context.run.id])\n"
    )
    assert printed == "True\n"
    assert look().status == "completed"


def test_an_ignored_signal_stays_ignored(project: Path) -> None:
    done(
        "import os, signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        f"{TRACK}\nos.kill(os.getpid(), signal.SIGHUP)"
    )
    assert look().status == "completed"


def test_sigterm_after_the_instance_was_closed_still_ends_the_script(project: Path) -> None:
    code, stdout, stderr = signalled(
        signal.SIGTERM,
        track=True,
        after="import os; os.mkdir('/tmp/gone'); os.chdir('/tmp/gone'); os.rmdir('/tmp/gone'); "
        "ln.setup.close()".replace("/tmp/gone", str(project.parent / "gone")),
    )
    assert (code, stdout, stderr) == (-signal.SIGTERM, "", "")


def test_sigterm_in_the_middle_of_a_transaction_still_ends_the_script(project: Path) -> None:
    code, stdout, _ = signalled(
        signal.SIGTERM,
        track=True,
        after="from lamindb import instance\n"
        "writing = instance.current().database.begin(); writing.__enter__()",
    )
    assert (code, stdout) == (-signal.SIGTERM, "")
    assert look().status in ("cancelled", "aborted")


@pytest.mark.databases("sqlite")
def test_a_script_whose_database_was_damaged_ends_as_it_would(project: Path) -> None:
    child = run_script(
        f"{TRACK}\n"
        "from pathlib import Path\n"
        "for path in Path('mydata/.lamindb').glob('*.sqlite*'):\n"
        "    path.write_bytes(b'x' * 8192)\n"
        "print('done')"
    )
    assert (child.returncode, child.stdout) == (0, "done\n")
    assert "Traceback" not in child.stderr
    assert child.stderr.count("is recorded when the instance 'mydata' is next opened") == 1


# --- whose process is gone ----------------------------------------------------------------------


def written(**values: Any) -> str:
    """Write a run that says started, as its process left it; returns its id."""
    run = ln.add(ln.Run(pipeline(), name="left"))
    assignments = ", ".join(f"{name} = ?" for name in values)
    rows(f"UPDATE run SET {assignments} WHERE id = ?", *values.values(), run.id)
    return run.id


def ago(**span: float) -> str:
    moment = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(**span)
    return moment.isoformat(" ")


def test_a_run_of_another_host_is_aborted_only_after_30_silent_minutes(project: Path) -> None:
    alive = written(host="elsewhere", heartbeat_at=ago(minutes=29))
    dead = written(host="elsewhere", heartbeat_at=ago(minutes=31))
    never = written(host="elsewhere", heartbeat_at=None)
    instance.reset()

    status = {run.id: run.status for run in ln.select(ln.Run).all()}
    assert status == {alive: "started", dead: "aborted", never: "started"}


def test_a_reused_process_number_is_another_process(project: Path) -> None:
    mine = written(pid=os.getpid())
    reused = written(pid=os.getpid(), process_started_at=ago(days=1))
    instance.reset()

    status = {run.id: run.status for run in ln.select(ln.Run).all()}
    assert status == {mine: "started", reused: "aborted"}


def test_a_process_that_has_ended_but_was_not_waited_for_is_dead(project: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    begun = dt.datetime.fromtimestamp(psutil.Process(child.pid).create_time(), dt.UTC)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    run_id = written(pid=child.pid, process_started_at=begun.replace(tzinfo=None).isoformat(" "))
    instance.reset()

    assert ln.select(ln.Run, id=run_id).one().status == "aborted"
    child.wait()


def test_the_end_of_a_run_that_was_taken_for_dead_reverses_it(project: Path) -> None:
    run = ln.track(pipeline())
    rows("UPDATE run SET status = 'aborted', error = 'its process died' WHERE id = ?", run.id)
    ln.finish()

    stored = ln.select(ln.Run).one()
    assert (stored.status, stored.error) == ("completed", None)


# --- scripts ------------------------------------------------------------------------------------


def test_a_script_is_named_and_keyed_by_its_path_in_the_project(project: Path) -> None:
    done(f"# first\n{TRACK}", name="analysis/fit.py")

    storage = ln.select(ln.Storage).one()
    found = ln.select(ln.Transform).one()
    assert (found.name, found.type, found.version) == ("fit.py", "script", "0")
    assert found.key == f"{storage.id}/analysis/fit.py"
    assert found.reference == str(project / "analysis/fit.py")
    assert len(found.source_hash) == 64


def test_a_script_outside_of_the_project_is_keyed_by_its_whole_path(
    project: Path, tmp_path: Path
) -> None:
    script = tmp_path / "elsewhere" / "fit.py"
    done(TRACK, name=str(script))
    assert ln.select(ln.Transform).one().key == str(script)


def test_changed_code_is_a_new_version_and_the_same_code_again_reuses_its_own(
    project: Path,
) -> None:
    for code in ("# a", "# b", "# a\r", "# c"):
        done(f"{TRACK}\n{code}\n")

    found = [(run.transform_id, run.transform_version) for run in ln.select(ln.Run).all()]
    assert [version for _, version in found] == ["0", "1", "0", "2"]
    assert len({transform_id for transform_id, _ in found}) == 1
    assert ln.select(ln.Transform).count() == 3


def test_a_version_that_was_deleted_does_not_stop_the_next_one(project: Path) -> None:
    for code in ("# a", "# b", "# c"):
        done(f"{TRACK}\n{code}\n")
    second = ln.select(ln.Transform, version="1").one()
    ln.delete([*second.runs, second])

    done(f"{TRACK}\n# d\n")
    assert [each.version for each in ln.select(ln.Transform).all()] == ["0", "2", "3"]


def test_each_call_in_a_script_is_a_run_unless_new_run_says_no(project: Path) -> None:
    done(
        "import lamindb as ln\n"
        "first = ln.track()\n"
        "second = ln.track()\n"
        "assert (first != second, first.status) == (True, 'completed')\n"
        "assert ln.track(new_run=False) == second\n"
        "ln.finish()\n"
        "assert ln.track(new_run=False) != second\n"
    )
    assert ln.select(ln.Run).count() == 3
    assert ln.select(ln.Transform).count() == 1


def test_a_module_that_is_run_with_m_is_a_script_too(project: Path) -> None:
    Path("steps").mkdir()
    Path("steps/fit.py").write_text(TRACK)
    child = subprocess.run([sys.executable, "-m", "steps.fit"], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert ln.select(ln.Transform).one().name == "fit.py"


def test_a_script_that_is_no_valid_unicode_is_tracked(project: Path) -> None:
    Path("latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + TRACK.encode())
    child = subprocess.run([sys.executable, "latin.py"], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert look().status == "completed"


@pytest.mark.parametrize(
    ("command", "given"), [(["-c", TRACK], None), (["-"], TRACK), (["-i", "-q"], f"{TRACK}\n")]
)
def test_code_without_a_file_is_told_what_to_pass(
    project: Path, command: list[str], given: str | None
) -> None:
    child = subprocess.run(
        [sys.executable, *command], input=given, capture_output=True, text=True, check=False
    )
    assert "TransformUnknownError" in child.stderr
    assert "ln.track(transform=ln.Transform('My analysis', type='pipeline'))" in child.stderr
    assert ln.select(ln.Run).count() == 0


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def test_a_script_in_a_repository_is_keyed_by_its_remote_without_credentials(
    project: Path, tmp_path: Path
) -> None:
    git("init")
    git("remote", "add", "origin", "https://me:s3cr3t@example.org/lab/study.git")
    done(TRACK, name="analysis/fit.py")

    found = ln.select(ln.Transform).one()
    assert found.key == "example.org/lab/study/analysis/fit.py"
    assert "s3cr3t" not in "".join(map(str, rows("SELECT * FROM transform")))


def test_a_checkout_that_moved_keeps_its_transform(project: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    git("init", "study")
    git("-C", "study", "remote", "add", "origin", "git@example.org:lab/study.git")
    done(TRACK, name="study/fit.py")
    Path("study").rename(moved)
    done(TRACK, name=str(moved / "fit.py"))

    assert ln.select(ln.Transform).one().key == "example.org/lab/study/fit.py"
    assert ln.select(ln.Run).count() == 2


NAMED = """
import lamindb as ln
run = ln.track(ln.Transform({name!r}))
print(run.transform.id, run.transform.key)
"""


def test_a_name_means_the_transform_of_ones_own_project(project: Path) -> None:
    for name in ("one", "two"):
        git("init", name)
        git("-C", name, "remote", "add", "origin", f"git@example.org:lab/{name}.git")
    # a rule of an engine, that happens to have the name
    fit = InferredTransform("fit", "example.org/lab/two/Snakefile:fit", "pipeline")
    emit(RunStarted(run="R" * 20, engine="test", transform=fit))
    recorder.close(20)

    def tracked(folder: str, name: str = "clean") -> list[str]:
        printed = done(NAMED.format(name=name), name=f"{folder}/run.py")
        return printed.strip().split(" ", 1)

    first, second = tracked("one"), tracked("two")
    assert first[0] != second[0]
    assert first[1] == "example.org/lab/one:clean (pipeline)"
    assert tracked("one") == first
    assert tracked("one/deep/er") == first
    assert tracked("two", "fit")[1] == fit.key
    assert tracked("one", "fit")[1] == "example.org/lab/one:fit (pipeline)"
    # outside of a repository the folder with the storage is the project
    assert tracked(".")[1].endswith(":clean (pipeline)")
    assert ln.select(ln.Transform, name="clean").count() == 3
    # added by hand, without a project: everybody's
    shared = ln.add(ln.Transform("report"))
    assert tracked("one", "report")[0] == tracked("two", "report")[0] == shared.id


def test_a_script_that_a_git_hook_runs_is_keyed_by_its_own_repository(
    project: Path, tmp_path: Path
) -> None:
    git("init", "study")
    git("-C", "study", "remote", "add", "origin", "git@example.org:lab/study.git")
    git("init", "other")
    git("-C", "other", "remote", "add", "origin", "git@example.org:lab/other.git")
    done(TRACK, name="study/fit.py", GIT_DIR=str(project / "other/.git"))
    assert ln.select(ln.Transform).one().key == "example.org/lab/study/fit.py"


@pytest.mark.parametrize(
    "remote",
    [
        "https://example.org/lab/study.git",
        "https://token@example.org/lab/study",
        "https://me:tok%40en@example.org/lab/study.git/",
        "https://me:tok@en@example.org/lab/study.git",
        "ssh://git@example.org/lab/study.git",
        "git@example.org:lab/study.git",
        "example.org:lab/study.git",
        "https://example.org/lab/study.git?private_token=token",
        "https://example.org/lab/study.git#token",
    ],
)
def test_a_remote_has_one_name_however_it_is_reached_and_no_secret(remote: str) -> None:
    from lamindb.hooks.code import without_credentials

    assert without_credentials(remote) == "example.org/lab/study"


# --- plugins ------------------------------------------------------------------------------------


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    """Register hook functions as a plugin of their own, until the test ends."""
    added = []

    def add(name: str = "third party", **hooks: Callable[..., Any]) -> None:
        plugin = SimpleNamespace(**{hook: hookimpl(act) for hook, act in hooks.items()})
        plugins().register(plugin, name=name)
        added.append(plugin)

    yield add
    for plugin in added:
        plugins().unregister(plugin)


def rule(caller: Any) -> InferredTransform:
    assert caller.frame.f_code.co_name.startswith("test_")
    return InferredTransform("rule fit", "workflow/Snakefile:fit", "pipeline", source_hash="1")


def test_a_third_partys_transform_is_asked_for_first(project: Path, register: Any) -> None:
    register(ln_transform=rule)
    run = ln.track()
    assert (run.transform.name, run.transform.type) == ("rule fit", "pipeline")
    assert run.transform.key == "workflow/Snakefile:fit"


def test_a_plugin_that_fails_is_logged_and_the_next_one_is_asked(
    project: Path, register: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(caller: Any) -> None:
        raise KeyError("no rule")

    register("good", ln_transform=rule)
    register("bad", ln_transform=fails)
    with caplog.at_level(logging.WARNING, "lamindb.plugins"):
        assert ln.track().transform.name == "rule fit"
    assert "plugin 'bad' failed in ln_transform: KeyError: 'no rule'" in caplog.text


def test_strict_mode_raises_after_everybody_was_asked(
    project: Path, register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fails(caller: Any) -> None:
        asked.append("bad")
        raise KeyError("no rule")

    def answers(caller: Any) -> InferredTransform:
        asked.append("good")
        return rule(caller)

    register("good", ln_transform=answers)
    register("bad", ln_transform=fails)
    monkeypatch.setattr(ln.settings, "strict", True)
    with pytest.raises(PluginError, match="plugin 'bad' failed in ln_transform"):
        ln.track()
    assert asked == ["bad", "good"]
    assert ln.select(ln.Run).count() == 0


def test_an_answer_that_is_no_transform_is_refused(project: Path, register: Any) -> None:
    register(ln_transform=lambda caller: "rule fit")
    with pytest.raises(TransformUnknownError):
        ln.track()


def test_inside_an_engines_run_track_adopts_it(project: Path, register: Any) -> None:
    engine = ln.add(ln.Run(pipeline("flow")))
    register(ln_current_run=lambda: engine.id)

    assert ln.track() == engine
    assert ln.context.run == engine
    ln.finish()  # the engine ends its own runs
    assert ln.select(ln.Run).one().status == "started"


def test_inside_an_engines_run_declared_files_are_that_runs(project: Path) -> None:
    printed = done(
        """
import lamindb as ln
from lamindb.hooks import RunStarted, emit, hookimpl, plugins, run_id
RUN = run_id("engine", "1")
class Engine:
    @hookimpl
    def ln_current_run(self): return RUN
plugins().register(Engine(), name="engine")
emit(RunStarted(run=RUN, engine="engine"))
print(ln.track(outputs="out.txt", inputs="script.py").id == RUN)
open("out.txt", "w").close(); open("other.txt", "w").close()
"""
    )
    assert printed == "True\n"
    run = ln.select(ln.Run).one()
    assert [[file.key for file in files] for files in (run.inputs, run.outputs)] == [
        ["script.py"], ["out.txt"],
    ]  # fmt: skip


def test_tracking_works_in_a_folder_that_was_removed(project: Path) -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    os.rmdir(project / "gone")
    instance.use(config.read_config(project / ".lamindb/instance.toml"))
    assert ln.track(pipeline()).status == "started"
    ln.finish()
    os.chdir(project)


def test_events_are_recorded_where_no_thread_can_be_started(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    recorder.close()
    ln.track(pipeline())
    recorder.close()
    Path("a.txt").write_text("a")
    monkeypatch.setattr(threading.Thread, "start", start)
    ln.finish()
    recorder.close()
    monkeypatch.undo()
    assert [file.key for file in ln.select(ln.Run).one().outputs] == ["a.txt"]


def test_inside_an_engines_run_a_given_transform_is_a_child_of_it(
    project: Path, register: Any
) -> None:
    engine = ln.add(ln.Run(pipeline("flow")))
    register(ln_current_run=lambda: engine.id)
    first = ln.track(pipeline("step"))

    assert first.parent == engine
    assert ln.context.run == first
    assert in_thread(lambda: ln.context.run) == first
    second = ln.track(pipeline("next step"))
    assert (first.status, second.parent) == ("completed", engine)
    ln.finish()
    assert ln.context.run == engine


def test_an_engines_run_inside_a_tracked_script_is_the_inner_one(
    project: Path, register: Any
) -> None:
    script = ln.track(pipeline("script"))
    engine = ln.add(ln.Run(pipeline("flow"), parent=script))
    register(ln_current_run=lambda: engine.id)

    assert ln.context.run == engine
    assert active.tracked_outside() == script
    assert ln.track(pipeline("step")).parent == engine
    assert active.tracked_outside() == script
    assert ln.select(ln.Run, id=script.id).one().status == "started"


def test_an_engines_run_is_known_with_its_transform_as_soon_as_it_was_told(
    project: Path, register: Any
) -> None:
    fit = InferredTransform("fit", "flows.py:fit", "pipeline")
    emit(RunStarted(run="r1", engine="test", transform=fit))
    register(ln_current_run=lambda: "r1")
    assert ln.context.transform is not None
    assert ln.context.transform.name == "fit"


def test_without_an_instance_track_names_the_command_to_run() -> None:
    with pytest.raises(LaminError, match="lamin init --storage"):
        ln.track(pipeline())


def test_params_come_back_as_they_were_given(project: Path) -> None:
    params = {"max_z": 3.5, "plates": ["a", "b"], "deep": {"x": None, "é": True}, "": 2**60}
    run = ln.track(pipeline(), params=params)
    assert ln.select(ln.Run, id=run.id).one().params == params
    assert json.loads(rows("SELECT CAST(params AS TEXT) FROM run")[0][0]) == params
