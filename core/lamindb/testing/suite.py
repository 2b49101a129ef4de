"""The tests that a plugin's class inherits; needs pytest."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from lamindb import setup
from lamindb.testing import steps
from lamindb.testing.golden import SCENARIOS, Scenario, differences, golden, recorded


class Conformance:
    """Inherit, say how your engine runs the canonical workflow, and which scenarios it knows."""

    scenarios: ClassVar[frozenset[Scenario]] = frozenset(SCENARIOS)

    def run(self, scenario: Scenario, folder: Path) -> None:
        """Run ``raw.csv -> clean.csv -> {stats.json, plot.svg} -> report.html`` in the folder.

        It holds ``raw.csv``, and is the working directory. The steps are those of
        :mod:`lamindb.testing.steps`, each a run named like its function, inside one workflow run.

        ========  =====================================================================
        ok        one after the other, in this order
        parallel  stats and plot at the same time
        retries   ``clean`` is tried again until it succeeds, the third time
        fails     ``report`` fails, and nothing else
        killed    SIGKILL in ``stats``, before ``plot``: run it in a process of its own; if
                  that is not the engine's, its number is ``LAMINDB_TESTING_KILL``
        cached    twice, and the second time every step takes the result of the first
        nested    within a run of a transform that is named ``outer``
        ========  =====================================================================

        Return when all is over, however it ended.
        """
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = [each for each in SCENARIOS if each in cls.scenarios]

        @pytest.mark.parametrize("scenario", known)
        def test(
            self: Conformance, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
        ) -> None:
            self.check(scenario, tmp_path, monkeypatch)

        cls.test_the_golden_lineage_is_recorded = test  # type: ignore[attr-defined]

    def check(self, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run one scenario in a fresh instance, and compare what was recorded."""
        folder, state = tmp_path / "golden", tmp_path / "state"
        folder.mkdir()
        state.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("LAMINDB_TESTING_SCENARIO", scenario)
        monkeypatch.setenv("LAMINDB_TESTING_STATE", str(state))
        steps.write_raw()
        setup.init(storage=folder / "mydata", name="golden")
        self.run(scenario, folder)
        setup.load(folder / "mydata")
        found = differences(golden(scenario), recorded())
        assert not found, "\n".join(found)
