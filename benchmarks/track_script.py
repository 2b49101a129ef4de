"""What tracking costs a script in CPU, beyond importing what it needs: ``python -m`` or by path.

Three scripts do the same work on the same small files, one after the other in turn: bare; with all
modules imported that tracking loads (and their classes mapped, which SQLAlchemy puts off to the
first use), but nothing tracked; tracked. User and system time of each process and its children,
from the kernel. The time to hash and record each further file is shown by --files.

    .venv/bin/python benchmarks/track_script.py [--rounds 15] [--files 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

WORK = """
from pathlib import Path
for number in range({files}):
    Path(f"out{{number}}.txt").write_text(Path(f"in{{number}}.txt").read_text().upper())
"""
IMPORTS = """
import importlib
for name in Path("modules.txt").read_text().split():
    try:
        importlib.import_module(name)
    except Exception:
        pass
from sqlalchemy.orm import configure_mappers
configure_mappers()
"""
# registered first, so called last: when tracking has loaded all that it loads
SAVE = """
import atexit, sys
from pathlib import Path
atexit.register(lambda: Path("modules.txt").write_text("\\n".join(list(sys.modules))))
"""
TRACK = "import lamindb as ln\nln.track()\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--files", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lamindb-bench-") as folder:
        os.chdir(folder)
        for name in ("CONFIG", "STATE", "CACHE", "DATA"):
            os.environ[f"LAMINDB_{name}_DIR"] = f"{folder}/.{name.lower()}"
        os.environ["LAMINDB_USER"] = "benchmark"
        report(measure(chosen.rounds, chosen.files))


def measure(rounds: int, files: int) -> dict[str, list[float]]:
    """Return milliseconds of CPU of each round by kind of script."""
    work = WORK.format(files=files)
    scripts = {
        "bare": work,
        "imports alone": f"from pathlib import Path\n{IMPORTS}{work}",
        "tracked": f"{TRACK}{work}",
    }
    for number in range(files):
        Path(f"in{number}.txt").write_text(f"{number}\n" * 100)
    run([sys.executable, "-m", "lamindb", "init", "--storage", "./mydata"])
    Path("first.py").write_text(f"{SAVE}{TRACK}{work}")
    run([sys.executable, "first.py"])
    for name, code in scripts.items():
        Path(f"{name.split()[0]}.py").write_text(code)
    spent: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(rounds):
        for name in scripts:
            spent[name].append(run([sys.executable, f"{name.split()[0]}.py"]))
    return spent


def run(command: list[str]) -> float:
    """Run a command to its good end; returns milliseconds of user and system time."""
    silent = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, silent, 1)]
    )
    os.close(silent)
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return 1000 * (usage.ru_utime + usage.ru_stime)


def report(spent: dict[str, list[float]]) -> None:
    base = statistics.median(spent["imports alone"])
    print(f"{'':<15}{'median':>9}{'least':>9}{'most':>9}{'ratio':>8}   ms of CPU")
    for name, each in spent.items():
        middle = statistics.median(each)
        print(f"{name:<15}{middle:9.1f}{min(each):9.1f}{max(each):9.1f}{middle / base:8.3f}")
    pairs = zip(spent["tracked"], spent["imports alone"], strict=True)
    beyond = statistics.median(tracked - imports for tracked, imports in pairs)
    least = min(spent["tracked"]) - min(spent["imports alone"])
    print(f"tracking beyond its imports: {beyond:.1f} ms (least against least: {least:.1f} ms)")


if __name__ == "__main__":
    main()
