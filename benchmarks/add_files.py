"""What `ln.add` costs beside the least that the same work takes.

The floor copies, hashes and syncs each file in one pass, and records all in one transaction of bare
sqlite3. Both run in this process, in turns, on the same files: believe the ratios, not the seconds.
"""

import hashlib
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import lamindb as ln

ROUNDS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["LAMINDB_CONFIG_DIR"] = f"{folder}/config"
        ln.setup.init("./store", name="benchmark")
        ln.track(transform=ln.Transform("benchmark"))
        compare("1,000 files of 4 KiB, one ln.add", 1000, 4096, add_all)
        compare("100 files of 4 KiB, an ln.add each", 100, 4096, add_each)
        compare("1 file of 512 MiB", 1, 512 << 20, add_all)


def compare(title: str, count: int, size: int, add: Callable[[Sequence[Path], str], None]) -> None:
    sources = [write(Path("sources") / title / f"{number}.bin", size) for number in range(count)]
    ratios = []
    for number in range(ROUNDS):
        floor = timed(lambda n=number: copy_and_record(sources, f"{title}/floor-{n}", add))
        ours = timed(lambda n=number: add(sources, f"{title}/{n}".replace(",", "")))
        ratios.append((ours / floor, ours, floor))
    ratio, ours, floor = statistics.median(ratios)
    print(f"{title:<36} {ours:8.3f} s   floor {floor:7.3f} s   {ratio:5.2f} times")


def add_all(sources: Sequence[Path], prefix: str) -> None:
    ln.add([ln.File(path, key=f"{prefix}/{path.name}") for path in sources])


def add_each(sources: Sequence[Path], prefix: str) -> None:
    for path in sources:
        ln.add(ln.File(path, key=f"{prefix}/{path.name}"))


def copy_and_record(sources: Sequence[Path], prefix: str, add: Callable[..., None]) -> None:
    target = Path("floor") / prefix
    target.mkdir(parents=True)
    database = sqlite3.connect("floor.sqlite")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS file (path TEXT, hash TEXT, size INTEGER)")
    for path in sources:
        md5, size = hashlib.md5(), 0
        with path.open("rb", buffering=0) as source, (target / path.name).open("wb", 0) as copy:
            while chunk := source.read(65536):
                md5.update(chunk)
                copy.write(chunk)
                size += len(chunk)
            os.fsync(copy.fileno())
        database.execute("INSERT INTO file VALUES (?, ?, ?)", (str(path), md5.hexdigest(), size))
        if add is add_each:
            database.commit()
    database.commit()
    database.close()


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def timed(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
