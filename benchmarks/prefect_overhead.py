"""What tracking costs a Prefect task, against Prefect alone: in one process, in turns.

python benchmarks/prefect_overhead.py [--rounds 15] [--tasks 100] [--profile]

Uses the server that PREFECT_API_URL names, else one of its own. CPU is the whole process's. A round
ends when the recorder has written everything down, and Prefect has sent its own events: else the
next round pays for them, whichever it is.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FOLDER = tempfile.mkdtemp(prefix="lamindb-overhead-")
if "PREFECT_API_URL" not in os.environ:
    os.environ |= {
        "PREFECT_HOME": f"{FOLDER}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("LAMINDB_CONFIG_DIR", f"{FOLDER}/config")

from prefect.events.worker import EventsWorker  # noqa: E402

import lamindb as ln  # noqa: E402
import lamindb_prefect  # noqa: E402
import prefect  # noqa: E402
from lamindb import recorder  # noqa: E402


def no_op(number: int) -> int:
    return number


TASKS = {"alone": prefect.task(no_op), "tracked": lamindb_prefect.task(no_op)}


def directly(name: str, count: int) -> None:
    for number in range(count):
        TASKS[name](number)


def mapped(name: str, count: int) -> None:
    TASKS[name].map(list(range(count))).wait()


def measure(way: Callable[[str, int], None], name: str, count: int) -> tuple[float, float]:
    """Return CPU and wall time of a task, in ms."""
    wall, cpu = time.perf_counter(), time.process_time()
    way(name, count)
    recorder.flush()
    EventsWorker.instance().wait_until_empty()
    return (
        1000 * (time.process_time() - cpu) / count,
        1000 * (time.perf_counter() - wall) / count,
    )


# a synchronous flow, whose tasks share its client: making one costs Prefect many times a task
@lamindb_prefect.flow
def compare(rounds: int, count: int, profile: bool) -> None:
    for way in (directly, mapped):
        for name in TASKS:
            measure(way, name, count)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in TASKS}
        for _ in range(rounds):
            for name in random.sample(list(TASKS), len(TASKS)):
                found[name].append(measure(way, name, count))
        for place, what in enumerate(("CPU", "wall")):
            alone = statistics.median(each[place] for each in found["alone"])
            tracked = statistics.median(each[place] for each in found["tracked"])
            ratio = statistics.median(
                one[place] / other[place]
                for one, other in zip(found["tracked"], found["alone"], strict=True)
            )
            print(
                f"{way.__name__:9} {what:4}  alone {alone:6.2f} ms  tracked {tracked:6.2f} ms  "
                f"x {tracked / alone:.2f}  (median of pairs x {ratio:.2f})",
                flush=True,
            )
    if profile:
        with cProfile.Profile() as profiler:
            measure(directly, "tracked", 10 * count)
        profiler.dump_stats(f"{FOLDER}/tracked.prof")
        print(f"{FOLDER}/tracked.prof")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    os.chdir(FOLDER)
    ln.setup.init(storage=Path(FOLDER) / "data")
    compare(given.rounds, given.tasks, given.profile)


if __name__ == "__main__":
    main()
