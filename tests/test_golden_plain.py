"""The golden lineage in plain Python: decorated functions in a script of a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lamindb.testing import Conformance, Scenario

pytestmark = [pytest.mark.observing, pytest.mark.databases("full")]

SCRIPT = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import sys
import lamindb as ln
from lamindb.testing import steps
from lamindb_plain import flow, step

SCENARIO = sys.argv[1]
clean, stats, plot, report = map(step, (steps.clean, steps.stats, steps.plot, steps.report))


@flow
def workflow(raw: Path, threshold: int) -> Path:
    table = clean(raw, Path("clean.csv"), threshold)
    calls = (stats, table, Path("stats.json")), (plot, table, Path("plot.svg"))
    if SCENARIO == "parallel":
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(lambda call: call[0](*call[1:]), calls))
    else:
        made = [function(*paths) for function, *paths in calls]
    return report(*made, Path("report.html"))


if SCENARIO == "nested":
    ln.track(transform=ln.Transform("outer"))
workflow(Path("raw.csv"), steps.THRESHOLD)
"""
CODES = {"fails": 1, "killed": -9}


class TestPlain(Conformance):
    # functions that only record neither try again nor take results from a cache
    scenarios = frozenset({"ok", "parallel", "fails", "killed", "nested"})

    def run(self, scenario: Scenario, folder: Path) -> None:
        script = folder.parent / "script.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, script, scenario], capture_output=True, text=True, check=False
        )
        assert done.returncode == CODES.get(scenario, 0), done.stderr
