"""What may go wrong: processes that are killed, databases that do not answer, data that is big."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect_scripts import Runner, names, run_of, runs

import lamindb as ln


def until(question: Callable[[], Any], timeout_s: float = 45) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (answer := question()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.1)
    return answer


def test_a_killed_script_is_found_aborted_with_what_it_had_read(run: Runner) -> None:
    script = run.start(
        """
        @task
        def make() -> Path:
            Path("made.txt").write_text("made")
            return Path("made.txt")

        @task
        def long(raw: Path, made: Path):
            Path("started").touch()
            time.sleep(60)

        @flow
        async def pipeline():
            long(Path("raw.txt"), make())

        Path("raw.txt").write_text("raw")
        asyncio.run(pipeline())
        """
    )
    until(Path("started").exists)
    assert script.kill() == -signal.SIGKILL
    ln.setup.load("mydata")
    for name, status in (("make", "completed"), ("long", "aborted"), ("pipeline", "aborted")):
        assert (name, run_of(name).status) == (name, status)
    assert names(run_of("long").inputs) == ["made.txt"]
    assert run_of("long").outputs == []


@pytest.mark.full
def test_served_runs_that_are_killed_or_cancelled_from_outside_end_so(run: Runner) -> None:
    served = run.process(
        """
        @task
        def long(name: str):
            Path(name).touch()
            time.sleep(120)

        @flow
        def deployed(name: str):
            long(name)

        if __name__ == "__main__":
            deployed.serve(name="here", limit=2)
        """,
        PREFECT_RUNNER_POLL_FREQUENCY="1",
        PREFECT_RUNNER_SERVER_ENABLE="false",
    )
    (deployment,) = until(
        lambda: run.server.ask("deployments/filter", deployments={"name": {"any_": ["here"]}})
    )
    ids = {}
    for name in ("killed", "cancelled"):
        path = f"deployments/{deployment['id']}/create_flow_run"
        ids[name] = run.server.ask(path, parameters={"name": name})["id"]
    for name in ids:
        until(Path(name).exists)
    started = {
        each.params["name"]: each for each in until(lambda: len(runs("long")) == 2 and runs("long"))
    }
    os.kill(started["killed"].pid, signal.SIGKILL)
    run.server.ask(
        f"flow_runs/{ids['cancelled']}/set_state", state={"type": "CANCELLING"}, force=False
    )
    flows = until(
        lambda: (
            (found := runs("deployed"))
            and {each.status for each in found} == {"aborted", "cancelled"}
            and found
        )
    )
    ended = {each.params["name"]: each for each in flows}
    assert ended["killed"].status == "aborted"
    assert ended["cancelled"].status == "cancelled"
    assert ended["killed"].reference == ids["killed"]
    assert ended["killed"].details["prefect"]["deployment"] == deployment["id"]
    assert "lamindb_" not in served.out
    served.stop()
    ln.setup.load("mydata")
    tasks = {each.params["name"]: each for each in runs("long")}
    assert (tasks["killed"].status, tasks["cancelled"].status) == ("aborted", "cancelled")
    assert {name: each.parent for name, each in tasks.items()} == ended


WORKING = """
@task
def work(number: int) -> Path:
    Path(f"{number}.txt").write_text(str(number))
    return Path(f"{number}.txt")

@task
def broken():
    raise ValueError("broken")

@flow
async def pipeline():
    work(1)
    trouble()
    work(2)
    broken()

try:
    asyncio.run(pipeline())
except ValueError as error:
    print(error)
sys.exit(3)
"""

DATABASE = "mydata/.lamindb/lamindb.sqlite"
IMPATIENT = "ln.settings.busy_timeout_s = 0.2; ln.settings.drain_timeout_s = 2\n"
LOCK = f"""
import sqlite3
other = sqlite3.connect({DATABASE!r}, isolation_level=None)
"""


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        (f"os.rename({DATABASE!r}, 'away')", ""),
        (f"{LOCK}other.execute('BEGIN IMMEDIATE')", ""),
        ("", f"os.rename({DATABASE!r}, 'away')"),
    ],
    ids=["missing", "locked", "gone meanwhile"],
)
def test_a_database_out_of_reach_changes_nothing_and_gets_it_all_later(
    run: Runner, before: str, meanwhile: str
) -> None:
    trouble = f"def trouble():\n    {meanwhile or '...'}\n"
    script = run.start(f"{IMPATIENT}{before}\n{trouble}{WORKING}")
    assert script.wait() == 3
    assert script.out == "broken\n"
    assert script.err.count("recorded when the instance 'mydata' is next opened") == 1, script.err
    assert script.err.count("lamindb.sqlite") == 1, script.err
    if Path("away").exists():
        Path("away").rename(DATABASE)
    ln.setup.load("mydata")
    assert [names(each.outputs) for each in runs("work")] == [["1.txt"], ["2.txt"]]
    assert [each.status for each in runs("work")] == ["completed", "completed"]
    assert run_of("pipeline").error == run_of("broken").error == "ValueError: broken"


def test_without_an_instance_a_flow_runs_and_one_line_says_that_nothing_is_recorded(
    run: Runner,
) -> None:
    Path("mydata/.lamindb").rename("nothing")
    Path(".lamindb").rename("no project")
    script = run.start(f"def trouble(): ...\n{WORKING}", LAMINDB_CONFIG_DIR="nowhere")
    assert (script.wait(), script.out) == (3, "broken\n")
    assert script.err.count("nothing is recorded: no instance") == 1


def test_what_is_big_or_cannot_be_pickled_is_not_touched(run: Runner) -> None:
    done = run(
        """
        import threading, tracemalloc
        import numpy as np
        import pandas as pd

        class Touchy:
            def __init__(self):
                self.lock = threading.Lock()
            def __reduce__(self):
                raise TypeError("it was pickled")
            def __repr__(self):
                raise TypeError("it was shown")
            def __len__(self):
                raise TypeError("it was asked for its length")
            def __eq__(self, other):
                raise TypeError("it was compared")
            def __iter__(self):
                raise TypeError("it was looked into")
            __hash__ = None

        @task(cache_policy=None)
        def big(frame, touchy):
            return frame

        @task(cache_policy=None)
        def touch(touchy):
            return touchy

        @flow(validate_parameters=False)
        async def pipeline():
            frame = pd.DataFrame(np.zeros((1_000_000, 128)))
            touchy = Touchy()
            tracemalloc.start()
            for _ in range(2):
                big(frame, [touchy])
                touch(touchy)
            print(tracemalloc.get_traced_memory()[1] < 20_000_000)
            return frame

        asyncio.run(pipeline())
        """
    )
    assert done.out == "True\n"
    assert runs("big")[0].params == {
        "frame": "<DataFrame 1000000x128>",
        "touchy": ["<Touchy>"],
    }
    assert {each.status for each in ln.select(ln.Run).all()} == {"completed"}
    assert not ln.select(ln.File).all()
