"""Flow files as they are, switched on from outside, in processes as a user starts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prefect_scripts import PREFECT, Runner, names, run_of, runs

PLAIN = """\
import asyncio
from pathlib import Path
from prefect import flow, task

@task
async def clean(raw: Path) -> Path:
    out = Path(f"clean-{raw}")
    out.write_text(raw.read_text())
    return out

@flow
async def NAME():
    await clean(Path("NAME.txt"))

if __name__ == "__main__":
    asyncio.run(NAME())
"""


@pytest.mark.skipif(PREFECT < (3, 6), reason="Prefect has no plugins before 3.6")
def test_prefects_own_switch_and_lamin_run_track_a_plain_file(run: Runner) -> None:
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        "switched": ([], {"PREFECT_PLUGINS_ENABLED": "1"}),
        "started": ([sys.executable, "-m", "lamindb", "run", "--"], {}),
    }
    running = {}
    for name, (prefix, switch) in ways.items():
        Path(f"{name}.txt").write_text(name)
        Path(f"{name}.py").write_text(PLAIN.replace("NAME", name))
        running[name] = subprocess.Popen(
            [*prefix, sys.executable, f"{name}.py"],
            env=run.environment | switch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    for process in running.values():
        printed = process.communicate(timeout=50)[0]
        assert process.returncode == 0, printed
    assert {each.name for each in Path().glob("clean-*")} == {f"clean-{name}.txt" for name in ways}
    found = {each.parent.transform.name: names(each.outputs) for each in runs("clean")}
    assert found == {name: [f"clean-{name}.txt"] for name in ("switched", "started")}
    command = run_of("started.py")
    assert run_of("started").parent == command
    assert command.status == "completed"
    assert "clean-started.txt" not in names(command.outputs)  # it is the task's
    assert run_of("switched").parent is None
