"""Bars on a terminal while something long lasts, and nothing anywhere else."""

import base64
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

import lamindb as ln

LARGE_BYTES = 32 << 20
# as if it all took long, whatever the disk
AT_ONCE = """
import lamindb as ln
from lamindb import progress
progress._DELAY_S, progress._TICK_S = 0.0, 0.01
"""


def in_terminal(code: str) -> tuple[str, str]:
    """Run code whose stderr is a terminal 80 wide; return what stdout and the terminal got."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"},
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            ready, _, _ = select.select([controller], [], [], 40)
            part = os.read(controller, 65536) if ready else b""
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(controller)
    assert child.stdout is not None
    said = child.stdout.read().decode()
    child.stdout.close()
    assert child.wait(20) == 0, shown
    return said, shown.decode()


def lines(shown: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", re.sub(r"\x1b\[[0-9;]*m", "", shown))
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.fixture
def large() -> Path:
    ln.setup.init("./mydata")
    path = Path("large [bold].bin")
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
    return path


def test_a_script_shows_how_far_it_has_copied_and_takes_it_away(large: Path) -> None:
    said, shown = in_terminal(
        f"{AT_ONCE}print(ln.add(ln.File({str(large)!r}, key='a/large [bold].bin')).size)"
    )
    assert said == f"{LARGE_BYTES}\n"
    bars = lines(shown)
    assert all(line.startswith("Copying large [bold].bin") for line in bars), bars
    done = [float(each) for line in bars for each in re.findall(r"([\d.]+)/33\.6 MB", line)]
    assert len(done) > 1
    assert done == sorted(done)
    assert max(map(len, bars)) <= 80
    assert shown.endswith("\x1b[2K")  # the line is empty again
    assert "\x1b[?25l" not in shown.split("\x1b[?25h")[-1]  # the cursor is there again


def test_several_files_are_one_bar(large: Path) -> None:
    for number in range(4):
        with Path(str(number)).open("wb") as file:
            file.write(bytes([number]))
            file.truncate(LARGE_BYTES // 4)
    code = "ln.add([ln.File(str(number), key=str(number)) for number in range(4)])"
    _, shown = in_terminal(AT_ONCE + code)
    assert {line[: len("Copying 4 files")] for line in lines(shown)} == {"Copying 4 files"}
    assert "/33.6 MB" in shown


def test_what_is_short_shows_nothing(large: Path) -> None:
    Path("small").write_text("x")
    said, shown = in_terminal("import lamindb as ln; print(ln.add(ln.File('small')).size)")
    assert (said, shown) == ("1\n", "")


def test_a_file_that_redirects_stderr_gets_nothing(large: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{AT_ONCE}ln.add(ln.File({str(large)!r}))"],
        capture_output=True,
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# what is there → code that works there
ELSEWHERE = {
    "a thread": "import threading; t = threading.Thread(target=work); t.start(); t.join()",
    "a pool's process": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=work)
process.start(); process.join(); assert process.exitcode == 0
""",
    "a dumb terminal": "os.environ['TERM'] = 'dumb'; work(); os.environ['TERM'] = 'xterm'",
    "an engine's task": """
from lamindb.hooks import hookimpl, manager
class Engine:
    @hookimpl
    def ln_current_run(self):
        return "R" * 20
manager.plugins().register(Engine(), "engine"); work(); manager.plugins().unregister(name="engine")
""",
    "what replaced it": "own = sys.stderr; sys.stderr = open(os.ttyname(2), 'w'); work()",
    "none of these": "sys.stderr = own; work()",
}


def test_where_others_have_the_terminal_it_is_left_alone(large: Path) -> None:
    work = f"""
import os, sys
from lamindb.storage.sources import LocalSource, digest
def work():
    with progress.progress("Hashing", lambda: {LARGE_BYTES}):
        digest(LocalSource({str(large)!r}))
"""
    cases = [
        f"os.write(2, b'in ' + {name.encode()!r} + b'\\n')\n{code}\n"
        for name, code in ELSEWHERE.items()
    ]
    _, shown = in_terminal(AT_ONCE + work + "".join(cases))
    said = lines(shown)
    assert said[: len(ELSEWHERE)] == [f"in {name}" for name in ELSEWHERE]
    assert said[-1].startswith("Hashing")  # so the others could have been seen


def test_what_goes_to_and_comes_from_a_store_is_shown(large: Path, bucket: str) -> None:
    code = f"""
ln.setup.init({bucket!r})
file = ln.add(ln.File({str(large)!r}, key="l.bin"))
ln.select(ln.File, id=file.id).one().stage()
"""
    _, shown = in_terminal(AT_ONCE + code)
    verbs = [line.split()[0] for line in lines(shown)]
    assert list(dict.fromkeys(verbs)) == ["Hashing", "Uploading", "Downloading"]


def test_an_import_shows_its_jobs(large: Path) -> None:
    notes = Path(".snakemake/metadata")
    notes.mkdir(parents=True)
    Path("Snakefile").write_text("rule one:\n    output: '{n}.txt'\n    shell: 'echo > {output}'\n")
    for number in range(60):
        output = Path(f"{number}.txt")
        output.write_text("x")
        at = output.stat().st_mtime
        record = {"rule": "one", "starttime": at - 1, "endtime": at, "shellcmd": str(number)}
        name = base64.urlsafe_b64encode(output.name.encode()).decode()
        (notes / name).write_text(json.dumps(record))
    code = f"{AT_ONCE}from lamindb.cli import main; main(['snakemake', 'import'])"
    said, shown = in_terminal(code)
    assert said == "60 jobs imported, 0 were recorded already.\n"
    bars = lines(shown)
    assert all(line.startswith("Importing jobs ") and "/60" in line for line in bars)
    assert len(bars) > 1
