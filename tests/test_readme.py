"""The README's blocks run as they stand, in order, in a fresh folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.observing

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- not run here:[^\n]*-->\n)?```(bash|python|text)\n(.*?)```", re.DOTALL)


def test_a_newcomer_can_follow_the_readme_as_it_stands():
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    printed = ""
    for skipped, language, code in BLOCK.findall(README.read_text(encoding="utf-8")):
        if skipped or language == "text":
            continue
        command = ["bash", "-e"] if language == "bash" else [sys.executable, "-"]
        done = subprocess.run(
            command, input=code, capture_output=True, text=True, env=environment, timeout=50
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        assert done.stderr == ""
        printed += done.stdout
    assert "select {'above': 1.0} ['study/raw.csv']" in printed
    assert tree_of(printed) == tree_of(README.read_text(encoding="utf-8"))


def tree_of(text: str) -> list[str]:
    """Return the lineage tree without what differs each time: times and ids of runs."""
    tree = text[text.rindex("comes from\n") :].splitlines()[:5]
    return [re.sub(r"  \d{4}-.*", "", line).rstrip() for line in tree]
