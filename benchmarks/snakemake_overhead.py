"""What recording costs a Snakemake workflow: CPU seconds of the whole process tree.

Trivial shell jobs with the greedy scheduler, with and without ``--logger lamindb``, in turns. The
cost of a job is the slope between a small and a large workflow, of starting what is left at none.
CPU counts, not the clock: other programs do not change it much. Give sizes to try others::

    python benchmarks/snakemake_overhead.py [--sizes 100 500] [--rounds 5]
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SNAKEFILE = """
rule all:
    input: expand("out/{number}.txt", number=range(JOBS))

rule make:
    output: "out/{number}.txt"
    shell: "echo {wildcards.number} > {output}"
"""
# counts what the scheduler's thread spends in our code
TIMED = """
import sys, threading, time
from lamindb_snakemake import attach, recording, tap
spent = [0.0, 0]
depth = threading.local()

def timed(function):
    def call(*arguments, **named):
        if threading.current_thread() is not threading.main_thread() or getattr(depth, "in", 0):
            return function(*arguments, **named)
        setattr(depth, "in", 1)
        started = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[0] += time.thread_time() - started
            spent[1] += 1
            setattr(depth, "in", 0)
    return call

tap.Tap.emit = timed(tap.Tap.emit)
for name in ("job_completed", "job_failed", "output_goes"):
    setattr(recording.Recording, name, timed(getattr(recording.Recording, name)))
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    print("SPENT", spent[0], file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs=2, default=(100, 500), metavar="JOBS")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    small, large = arguments.sizes
    cpu: dict[tuple[bool, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.run(1, recorded=True)
        for number in range(arguments.rounds):
            for size in (small, large):
                for recorded in (False, True) if number % 2 else (True, False):
                    cpu.setdefault((recorded, size), []).append(project.run(size, recorded))
        spent = project.spent_on_scheduler(large)
    median = {case: statistics.median(seconds) for case, seconds in cpu.items()}
    slopes, starts = {}, {}
    for recorded in (False, True):
        low, high = median[recorded, small], median[recorded, large]
        slopes[recorded] = (high - low) / (large - small)
        starts[recorded] = low - small * slopes[recorded]
        spread = [
            f"{min(cpu[recorded, size]):.2f}-{max(cpu[recorded, size]):.2f}"
            for size in (small, large)
        ]
        print(
            f"{'recorded' if recorded else 'bare':<9} {low:6.2f} s for {small} jobs ({spread[0]}), "
            f"{high:6.2f} s for {large} ({spread[1]})"
        )
    print(
        f"a job    {1000 * slopes[False]:6.2f} ms bare, {1000 * slopes[True]:6.2f} ms recorded: "
        f"{slopes[True] / slopes[False]:.3f} times (at most 1.15)"
    )
    print(
        f"a start  {starts[False]:6.2f} s bare, {starts[True]:6.2f} s recorded: "
        f"{starts[True] - starts[False]:.2f} s more (at most 1.2)"
    )
    print(f"the scheduler's thread: {1000 * spent / large:.3f} ms a job (at most 0.3)")


class Project:
    """A folder with an instance, in which workflows of any size run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "LAMINDB_CONFIG_DIR": f"{folder}/config",
            "LAMINDB_CACHE_DIR": f"{folder}/cache",
            "LAMINDB_USER": "benchmark",
        }
        self._call("-m", "lamindb", "init", "--storage", "./mydata")

    def run(self, jobs: int, recorded: bool) -> float:
        """Run a workflow of so many jobs; returns CPU seconds of all its processes."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._snakemake(jobs, ["-m", "snakemake"], recorded)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def spent_on_scheduler(self, jobs: int) -> float:
        """Return CPU seconds of the main thread in our code."""
        error = self._snakemake(jobs, ["-c", TIMED], recorded=True)
        return float(error.rpartition("SPENT ")[2].split()[0])

    def _snakemake(self, jobs: int, how: list[str], recorded: bool) -> str:
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        shutil.rmtree(self.folder / ".snakemake", ignore_errors=True)
        (self.folder / "Snakefile").write_text(SNAKEFILE.replace("JOBS", str(jobs)))
        options = ["--cores", "2", "--scheduler", "greedy", "--quiet", "all"]
        return self._call(*how, *options, *(["--logger", "lamindb"] if recorded else []))

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{arguments} ended with {done.returncode}:\n{done.stderr}")
        return done.stderr


if __name__ == "__main__":
    main()
