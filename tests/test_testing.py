"""The conformance kit, shown on an engine of a few lines that only tells what happens."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lamindb as ln
from lamindb.config import host
from lamindb.hooks import (
    FileRead,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
    describe_params,
    emit,
    run_id,
)
from lamindb.testing import SCENARIOS, Conformance, Scenario, golden
from lamindb.testing.golden import differences
from lamindb.testing.steps import StepError, clean, plot, report, stats


class Engine:
    """Runs functions of paths, the last of which is the output; keeps results, tries again."""

    def __init__(self, parent: str | None = None) -> None:
        self.parent = parent
        self.workflow = ""
        self.cache: dict[str, str] = {}

    def flow(self, act: Callable[[], None]) -> None:
        self.workflow = self._start("workflow", self.parent)
        try:
            act()
        except StepError as error:
            emit(RunFinished(run=self.workflow, status="failed", error=str(error)))
        else:
            emit(RunFinished(run=self.workflow, status="completed"))

    def step(self, function: Callable[..., Path], *paths: str, tries: int = 1, **more: Any) -> None:
        params = describe_params(more)
        run = self._start(function.__name__, self.workflow, params)
        known = self.cache.get(function.__name__)
        for path in paths[:-1]:
            uri = str(Path(path).resolve())
            emit(FileRead(run=run, uri=uri, how="declared", stat=FileStat.of(uri)))
        if known is None:
            self._attempt(function, run, paths, tries, more)
        self.cache[function.__name__] = run
        uri = str(Path(paths[-1]).resolve())
        emit(FileWritten(run=run, uri=uri, how="declared", stat=FileStat.of(uri)))
        if known is not None:
            emit(RunLinked(run=run, other=known, role="cached_from"))
        emit(RunFinished(run=run, attempt=tries, status="completed" if known is None else "cached"))

    def _attempt(
        self, function: Callable[..., Path], run: str, paths: Any, tries: int, more: Any
    ) -> None:
        for number in range(1, tries + 1):
            if number > 1:
                emit(RunStarted(run=run, engine="tiny", attempt=number))
            try:
                function(*paths, **more)
            except StepError as error:
                emit(RunFinished(run=run, attempt=number, status="failed", error=str(error)))
                if number == tries:
                    raise

    def _start(self, name: str, parent: str | None, params: Any = None) -> str:
        run = run_id("tiny", uuid.uuid4().hex)
        emit(
            RunStarted(
                run=run,
                engine="tiny",
                transform=InferredTransform(name, f"tiny/{name}", "pipeline", source_hash="1"),
                parent=parent,
                params=params,
                pid=os.getpid(),
                host=host(),
            )
        )
        return run


def workflow(engine: Engine, scenario: str) -> None:
    tries = 3 if scenario == "retries" else 1
    engine.step(clean, "raw.csv", "clean.csv", threshold=2, tries=tries)
    both = (stats, "clean.csv", "stats.json"), (plot, "clean.csv", "plot.svg")
    if scenario == "parallel":
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda call: engine.step(*call), both))
    else:
        for call in both:
            engine.step(*call)
    engine.step(report, "stats.json", "plot.svg", "report.html")


class TestTinyEngine(Conformance):
    def run(self, scenario: Scenario, folder: Path) -> None:
        if scenario == "killed":
            code = (
                "import test_testing as t; e = t.Engine(); e.flow(lambda: t.workflow(e, 'killed'))"
            )
            path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
            done = subprocess.run(
                [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}
            )
            assert done.returncode == -9
            return
        outer = ln.track(transform=ln.Transform("outer")) if scenario == "nested" else None
        engine = Engine(outer.id if outer is not None else None)
        for _ in range(2 if scenario == "cached" else 1):
            engine.flow(lambda: workflow(engine, scenario))
        ln.finish()


def damaged(how: Callable[[dict[str, Any]], Any]) -> list[str]:
    wanted = golden("ok")
    found = copy.deepcopy(wanted)
    how(found)
    return differences(wanted, found)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda found: found["runs"].pop("plot"), "plot: 0 runs, not 1"),
        (lambda found: found["runs"]["clean"].append({}), "clean: 2 runs, not 1"),
        (lambda found: found["runs"]["clean"][0].update(inputs=[]), "clean: inputs is [], not"),
        (lambda found: found["runs"]["clean"][0].update(parent=None), "clean: parent is None"),
        (lambda found: found["files"].pop("plot.svg"), "plot.svg: None, not"),
        (lambda found: found["files"]["plot.svg"].update(hash=None), "plot.svg: {'hash': None"),
        (lambda found: found["files"].update(tmp={"hash": "x"}), "tmp: {'hash': 'x'}, not None"),
    ],
)
def test_what_is_missing_or_too_much_is_named(how: Any, said: str) -> None:
    [line] = damaged(how)
    assert line.startswith(said)


def test_an_error_that_may_be_or_not_is_none_to_be_named() -> None:
    wanted = golden("fails")
    found = copy.deepcopy(wanted)
    for error in (True, False):
        found["runs"]["workflow"][0]["attempt_errors"] = [error]
        assert differences(wanted, found) == []


def test_every_scenario_has_a_golden_lineage_of_its_own() -> None:
    forms = [str(golden(scenario)) for scenario in SCENARIOS]
    assert len(set(forms)) == len(SCENARIOS) - 1  # what runs in parallel is recorded as one by one
