"""The conformance kit: one workflow in every engine, and what must be recorded of it.

A plugin for another engine passes it by a driver, and a class of tests::

    from lamindb.testing import Conformance, Scenario

    class TestMyEngine(Conformance):
        scenarios = frozenset({"ok", "fails", "retries"})

        def run(self, scenario: Scenario, folder: Path) -> None:
            ...  # run raw -> clean -> {stats, plot} -> report in this folder, with your engine

The steps themselves are :mod:`lamindb.testing.steps`, as functions and as a command line.
"""

from __future__ import annotations

from lamindb.testing.golden import SCENARIOS, Scenario, golden, recorded
from lamindb.testing.suite import Conformance

__all__ = ["SCENARIOS", "Conformance", "Scenario", "golden", "recorded"]
