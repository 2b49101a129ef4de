"""The golden lineage in Prefect, in every scenario."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect_scripts import Runner, Server, Warm

from lamindb.testing import Conformance, Scenario

SCRIPT = """
from prefect.cache_policies import INPUTS
from lamindb.testing import steps

SCENARIO = {scenario!r}
cached = dict(persist_result=True, cache_policy=INPUTS) if SCENARIO == "cached" else {{}}
clean = task(retries=steps.FAILURES, **cached)(steps.clean)
stats, plot, report = (task(**cached)(each) for each in (steps.stats, steps.plot, steps.report))

@flow
async def workflow(raw: Path, threshold: int) -> Path:
    table = clean(raw, Path("clean.csv"), threshold)
    calls = (stats, table, Path("stats.json")), (plot, table, Path("plot.svg"))
    if SCENARIO == "parallel":
        made = [made.result() for made in [each.submit(*paths) for each, *paths in calls]]
    else:
        made = [each(*paths) for each, *paths in calls]
    return report(*made, Path("report.html"))

if SCENARIO == "nested":
    ln.track(transform=ln.Transform("outer"))
for _ in range(2 if SCENARIO == "cached" else 1):
    asyncio.run(workflow(Path("raw.csv"), steps.THRESHOLD))
"""
CODES = {"fails": 1, "killed": -9}


class TestPrefect(Conformance):
    @pytest.fixture(autouse=True)
    def _with_server(self, _starting: tuple[Server, Warm]) -> None:
        self.server, self.warm = _starting
        self.warm.get_ready()

    def run(self, scenario: Scenario, folder: Path) -> None:
        runner = Runner(self.warm, self.server, folder, folder.parent)
        script = runner.start(SCRIPT.format(scenario=scenario))
        assert script.wait() == CODES.get(scenario, 0), script.err
