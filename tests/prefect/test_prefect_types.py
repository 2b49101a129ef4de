"""For a type checker, the decorators are Prefect's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prefect_scripts import PREFECT

ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path

@task
def clean(raw: Path, n: int = 1) -> Path: return raw

@task(retries=2, tags={"a"}, timeout_seconds=1.5)
async def fetch(raw: Path) -> str: return ""

@flow
def one(x: int) -> int: return x

@flow(name="two", retries=1, log_prints=True)
async def two(x: int) -> list[int]: return []

@materialize("file:///x", by="me", retries=1)
def made(x: int) -> bytes: return b""

reveal_type(clean)
reveal_type(fetch)
reveal_type(one)
reveal_type(two)
reveal_type(made)
reveal_type(clean(Path()))
reveal_type(clean.submit(Path()))
reveal_type(clean.map([1]))
reveal_type(fetch(Path()))
reveal_type(one(1))
reveal_type(two(1))
reveal_type(clean.with_options(retries=1))
reveal_type(two.with_options(name="x"))
reveal_type(made(1))
clean("no path")
one("no number")
task(retries="no number")
flow(retries="no number")
task(outputs="*.csv")
"""


def test_types_are_those_of_prefect_and_our_options_are_known(tmp_path: Path) -> None:
    plain, tracked = tmp_path / "plain.py", tmp_path / "tracked.py"
    prefect = "from prefect import flow, task; from prefect.assets import materialize"
    plain.write_text(prefect + CODE)
    tracked.write_text("from lamindb_prefect import flow, task, materialize" + CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(plain), str(tracked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    revealed = CODE.count("reveal_type")
    told = {each.stem: lines_of(each, done.stdout) for each in (plain, tracked)}
    *same, unknown_option = told["plain"]
    assert told["tracked"] == same
    assert sum("Revealed type" in line for line in same) == revealed
    assert sum("error: No overload" in line for line in same) == (4 if PREFECT > (3, 4) else 3)
    assert "error" in unknown_option


def lines_of(path: Path, told: str) -> list[str]:
    """Return what is said of a file: types and errors, without what else might be meant."""
    # a cache repeats what it said of the same file in another folder
    lines = [line.partition(f"/{path.name}:")[2] for line in told.splitlines()]
    return [line for line in lines if "Revealed type" in line or " error: " in line]
