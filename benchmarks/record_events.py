"""CPU of telling of a run, and of recording it: ``python benchmarks/record_events.py [RUNS]``.

Prints microseconds of CPU: of the thread that tells (what an engine waits for), and of the whole
process until the rows are there. The raw line writes the same rows with sqlite3, one transaction a
run: what a plugin without spool and batches could do at best.
"""

import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import lamindb as ln
from lamindb import recorder
from lamindb.hooks import (
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunStarted,
    emit,
    run_id,
)

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
ROUNDS = 5
CODE = InferredTransform("task", "bench/task", "pipeline", source_hash="1")


def tell(number: str, path: Path | None) -> None:
    run = run_id("bench", number)
    emit(RunStarted(run=run, engine="bench", transform=CODE, params={"n": number}, pid=os.getpid()))
    if path is not None:
        emit(FileWritten(run=run, uri=str(path), how="declared", stat=FileStat.of(path)))
    emit(RunFinished(run=run, status="completed"))


def measure(name: str, with_file: bool) -> tuple[float, float]:
    """Return microseconds of CPU a run: of the telling thread, and in all."""
    paths: list[Path | None] = [None] * RUNS
    if with_file:
        folder = Path(f"out-{name}")
        folder.mkdir()
        for number in range(RUNS):
            (folder / f"{number}.txt").write_text(f"{name} {number}")
        paths = [(folder / f"{number}.txt").resolve() for number in range(RUNS)]
    thread, process = time.thread_time(), time.process_time()
    for number, path in enumerate(paths):
        tell(f"{name}-{number}", path)
    told = time.thread_time() - thread
    assert recorder.flush(300)
    return told / RUNS * 1e6, (time.process_time() - process) / RUNS * 1e6


def raw(name: str, connection: sqlite3.Connection) -> float:
    process = time.process_time()
    for number in range(RUNS):
        run = f"{name}-{number}"
        with connection:
            connection.execute("INSERT INTO run VALUES (?, 'started', ?)", (run, time.time()))
        with connection:
            connection.execute("UPDATE run SET status = 'completed' WHERE id = ?", (run,))
    return (time.process_time() - process) / RUNS * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAMINDB_CONFIG_DIR"] = os.environ["LAMINDB_CACHE_DIR"] = f"{folder}/user"
        os.chdir(folder)
        ln.setup.init(storage="./mydata")
        connection = sqlite3.connect("raw.sqlite")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE run (id TEXT PRIMARY KEY, status TEXT, at REAL)")
        measure("warm", with_file=True)
        rounds = [
            (*measure(f"r{n}", False), *measure(f"f{n}", True), raw(f"r{n}", connection))
            for n in range(ROUNDS)
        ]
        first, second, third, fourth, fifth = (
            sorted(column)[ROUNDS // 2] for column in zip(*rounds, strict=True)
        )
        print(f"{RUNS} runs, medians of {ROUNDS} rounds, CPU microseconds a run")
        print(f"{'':<28}{'telling':>10}{'in all':>10}")
        print(f"{'run':<28}{first:>10.0f}{second:>10.0f}")
        print(f"{'run with one output':<28}{third:>10.0f}{fourth:>10.0f}")
        print(f"{'raw sqlite3, run only':<28}{'':>10}{fifth:>10.0f}")
        recorder.close()


if __name__ == "__main__":
    main()
