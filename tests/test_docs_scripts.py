"""The blocks of docs/scripts.md run as they stand, and do what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lamindb as ln

pytestmark = pytest.mark.observing

PAGE = (Path(__file__).parent.parent / "docs" / "scripts.md").read_text(encoding="utf-8")


def run(name: str, code: str) -> None:
    Path(name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, name], capture_output=True, text=True, timeout=50, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_blocks_of_the_page_do_what_it_says() -> None:
    ln.setup.init("./mydata")
    tracked, declared, functions = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path("raw.csv").write_text("1\n")

    run("tracked.py", f"{tracked}\nopen('out.csv', 'w').write(open('raw.csv').read())\n")
    first = ln.select(ln.Run).one()
    assert first.params == {"above": 1.0}
    assert ([each.key for each in first.inputs], [each.key for each in first.outputs]) == (
        ["raw.csv"],
        ["out.csv"],
    )

    Path("results").mkdir()
    run("declared.py", f"import lamindb as ln\n{declared}\nopen('results/a.csv', 'w').close()\n")
    second = ln.select(ln.Run, name="declared.py").one()
    assert [each.key for each in second.outputs] == ["results/a.csv"]

    run("functions.py", f"{functions}\nanalysis('raw.csv')\n")
    step = ln.select(ln.Run, name="clean").one()
    assert (step.parent.name, step.params["scale"]) == ("analysis", 2.0)
    assert [each.key for each in step.outputs] == ["clean.csv"]
