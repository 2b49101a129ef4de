"""What an instance of many files needs: ``python benchmarks/scaling.py [FILES] [--postgres URL]``.

Fills an instance in SQLite, and one in an empty PostgreSQL database (a server of its own where the
system has one and no URL is given), with runs of four files each, every file read by the next run;
prints bytes and rows per million files, how many of each question are answered in a second by one
process, and what 100 million files would take.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import lamindb as ln  # noqa: E402
import postgres  # noqa: E402
from lamindb import instance  # noqa: E402
from lamindb.db import schema  # noqa: E402
from lamindb.hooks import run_id  # noqa: E402

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FILES_A_RUN, CHUNK = 4, 1000
TABLES = (schema.run, schema.attempt, schema.file, schema.run_file)
PARAMS = {"sample": "A-17", "max_z": 3.5, "threads": 4, "input": "raw/plates/A-17.csv", "seed": 11}
DETAILS = {
    "snakemake": {"rule": "normalise", "jobid": 17, "shell": "python normalise.py A-17 " * 6},
    "git": {"commit": "7f8ea1c0" * 5, "branch": "main", "remote": "git@host:lab/study.git"},
}


def rows_of(run: int, transform: str, here: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of one run that writes four files and reads those of the run before."""
    at = AT + dt.timedelta(seconds=run)
    own = {"created_by_id": here.user_id, "created_at": at}
    made = {"transform_id": transform, "transform_version": "0"}
    run_name = run_id("bench", str(run))
    files = [file_id(run, number) for number in range(FILES_A_RUN)]
    before = [file_id(run - 1, number) for number in range(FILES_A_RUN)] if run else []
    return {
        "run": [
            {
                "id": run_name, "name": "normalise", "engine": "snakemake", "status": "completed",
                "reference": f"{run // 500}/{run % 500}", "started_at": at, "finished_at": at,
                "params": PARAMS, "details": DETAILS, "host": "node17", "pid": 4711,
                "process_started_at": at, "heartbeat_at": at, **made, **own,
            }
        ],
        "attempt": [
            {
                "run_id": run_name, "number": 1, "status": "completed", "started_at": at,
                "finished_at": at,
            }
        ],
        "file": [
            {
                "id": name, "name": f"plate-{run}-{number}.normalised.csv", "suffix": ".csv",
                "size": 123456, "hash": run_id("hash", name) + "xx", "hash_type": "md5",
                "key": key_of(run, number), "run_id": run_name, "updated_at": at,
                "source_uri": f"/data/lab/projects/dose-response/{key_of(run, number)}",
                "storage_id": here.default_storage_id, "is_latest": True, **made, **own,
            }
            for number, name in enumerate(files)
        ],
        "run_file": [
            {"run_id": run_name, "file_id": name, "role": role, "how": "declared", "created_at": at}
            for role, names in (("output", files), ("input", before))
            for name in names
        ],
    }  # fmt: skip


def file_id(run: int, number: int) -> str:
    return run_id("file", f"{run}/{number}")


def key_of(run: int, number: int) -> str:
    return f"results/batch-{run // 500:05}/normalised/plate-{run}-{number}.normalised.csv"


def fill(files: int) -> float:
    """Write the rows; returns the rows a second."""
    here = instance.current()
    transform = ln.add(ln.Transform("normalise", type="pipeline")).id
    begun, written = time.perf_counter(), 0
    for start in range(0, files // FILES_A_RUN, CHUNK):
        runs = [
            rows_of(run, transform, here)
            for run in range(start, min(start + CHUNK, files // FILES_A_RUN))
        ]
        with here.database.begin() as connection:
            for table in TABLES:
                rows = [row for each in runs for row in each[table.name]]
                connection.execute(insert(table), rows)
                written += len(rows)
    return written / (time.perf_counter() - begun)


def size_bytes() -> int:
    database = instance.current().database
    path = instance.current().config.sqlite_path
    if path is not None:
        with database.read() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar())


def rate(ask: Callable[[int, int], Any], runs: int, budget_s: float = 3.0) -> float:
    """Return how many questions a second one process gets answered: the median of ten parts."""
    chosen, rates = random.Random(1), []
    for _ in range(10):
        begun, asked = time.perf_counter(), 0
        while time.perf_counter() - begun < budget_s / 10:
            ask(chosen.randrange(10, runs), chosen.randrange(FILES_A_RUN))
            asked += 1
        rates.append(asked / (time.perf_counter() - begun))
    return statistics.median(rates)


QUESTIONS: dict[str, Callable[[int, int], Any]] = {
    "file by key": lambda run, number: ln.select(ln.File, key=key_of(run, number)).one(),
    "file by hash": lambda run, number: ln.select(
        ln.File, hash=run_id("hash", file_id(run, number)) + "xx"
    ).one(),
    "inputs of a run": lambda run, number: (
        ln.select(ln.Run, id=run_id("bench", str(run))).one().inputs
    ),
    "20 newest files": lambda run, number: (
        ln.select(ln.File).order_by(ln.File.created_at.desc()).limit(20).all()
    ),
    "10 runs upstream": lambda run, number: ln.lineage(
        ln.select(ln.File, id=file_id(run, number)).one()
    ).upstream(depth=10),
}


def measure(files: int, db: str | None) -> dict[str, float]:
    folder = Path("postgresql" if db else "sqlite").resolve()
    folder.mkdir()
    ln.setup.init(folder / "data", name=folder.name, db=db)
    empty = size_bytes()
    found = {"rows written a second": fill(files)}
    found["GB per million files"] = (size_bytes() - empty) / files / 1000
    for name, ask in QUESTIONS.items():
        found[f"{name}, a second"] = rate(ask, files // FILES_A_RUN)
    instance.reset()
    return found


@contextmanager
def server(url: str | None) -> Iterator[str | None]:
    if url is not None or postgres.binaries() is None:
        yield url
        return
    with postgres.server() as running:
        yield running.database()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--postgres", help="URL of an empty database")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        os.environ["LAMINDB_CONFIG_DIR"] = folder
        os.chdir(folder)
        found = {"SQLite": measure(chosen.files, None)}
        with server(chosen.postgres) as url:
            if url is not None:
                found["PostgreSQL"] = measure(chosen.files, url)
        os.chdir("/")
    print(f"{chosen.files:,} files, {os.cpu_count()} cores, Python {sys.version.split()[0]}\n")
    rows = 1_000_000 * (2 / FILES_A_RUN + 3) / 1e6
    print(f"rows per million files: {rows:.1f} million\n")
    names = list(found)
    print("|  | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for what in found["SQLite"]:
        print(f"| {what} | " + " | ".join(f"{found[name][what]:,.2f}" for name in names) + " |")
    for name in names:
        need = 100 * found[name]["GB per million files"]
        print(f"\n{name}, 100 million files: {100 * rows:,.0f} million rows, {need:,.0f} GB")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
