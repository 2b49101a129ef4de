"""Flows that are recorded in a PostgreSQL database, which is restarted in the middle of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_scripts import Runner, names, run_of, runs

import lamindb as ln
from lamindb import config, instance, spool
from postgres import Server

FLOW = """
@task
def make(number: int) -> Path:
    Path(f"{number}.txt").write_text(str(number))
    return Path(f"{number}.txt")

@task
def wait(after: list[Path]) -> Path:
    Path("restart").touch()
    while not Path("restarted").exists():
        time.sleep(0.05)
    return after[0]

@task(retries=1)
def join(parts: list[Path]) -> Path:
    Path("joined.txt").write_text("".join(part.read_text() for part in parts))
    return Path("joined.txt")

@flow
def pipeline():
    parts = make.map([0, 1, 2]).result()
    wait(parts)
    join(parts)

pipeline()
"""


@pytest.fixture
def shared(run: Runner, own_postgres: Server) -> Iterator[Server]:
    ln.setup.init("./shared", name="shared", db=own_postgres.url())
    instance.reset()
    yield own_postgres
    instance.reset()


@pytest.mark.full
def test_a_server_restarted_in_the_middle_of_a_flow_loses_nothing(
    run: Runner, shared: Server
) -> None:
    script = run.start(FLOW)
    deadline = time.monotonic() + 45
    while not Path("restart").exists():
        assert time.monotonic() < deadline, script.err
        time.sleep(0.05)
    shared.restart()
    Path("restarted").touch()
    assert script.wait() == 0, script.err
    assert Path("joined.txt").read_text() == "012"
    ln.setup.load("shared")
    assert {each.status for each in ln.select(ln.Run).all()} == {"completed"}
    assert ln.select(ln.Run).count() == 6
    assert sorted(names(run_of("join").inputs)) == ["0.txt", "1.txt", "2.txt"]
    assert names(run_of("join").outputs) == ["joined.txt"]
    assert [len(each.outputs) for each in runs("make")] == [1, 1, 1]
    assert {each.parent for each in runs("make")} == {run_of("pipeline")}
    assert not spool.waiting(config.configuration())
