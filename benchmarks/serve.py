"""How long the pages of ``lamin serve`` take in an instance of a million files and runs.

python benchmarks/serve.py [RUNS] [FOLDER]     # FOLDER: keeps the instance, or has it already
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from lineage import LAYERS, file_id, fill, run_id

PAGES = {
    "home": "/",
    "files": "/files",
    "files by name": "/files?sort=name&dir=asc",
    "files by size": "/files?sort=size",
    "runs": "/runs",
    "runs by status": "/runs?sort=status",
    "runs that failed": "/runs?status=failed",
    "runs of an engine": "/runs?engine=prefect",
    "failed runs of an engine": "/runs?engine=prefect&status=failed",
    "runs of an engine by status": "/runs?engine=prefect&sort=status",
    "transforms": "/transforms",
    "files called .csv (all)": "/files?q=.csv",
    "files called 99999 (few)": "/files?q=99999",
    "files called nothing": "/files?q=no+such+thing",
    "runs called nothing": "/runs?q=no+such+thing",
    "search by key": "/search?q=d/5.csv",
    "search of nothing": "/search?q=no+such+thing",
    "a file": "/files/{file}",
    "a run": "/runs/{run}",
    "a transform": "/transforms/T00000000000",
}
FOLLOWED = ("files", "files by name", "files by size", "runs", "runs by status")
DEEP = 20


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    os.environ.setdefault("LAMINDB_USER", "benchmark")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(scratch)
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        if not Path("data").exists():
            import lamindb as ln

            ln.setup.init("./data")
            fill(runs)
        measure(runs)
        os.chdir("/")


def measure(runs: int) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "lamindb", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        [url] = re.findall(r"http://[\d.:]+", server.stdout.readline())
        middle = (LAYERS // 2) * (runs // LAYERS)
        for name, path in PAGES.items():
            path = path.format(file=file_id(middle), run=run_id(middle))
            print(f"{name}: {median_ms(url + path):.0f} ms", flush=True)
            if name in FOLLOWED:
                print(f"{name}, page {DEEP}: {median_ms(url + deep(url, path)):.0f} ms", flush=True)
    finally:
        server.terminate()
        server.wait()


def get(url: str, **headers: str) -> str:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=names)) as answer:
        return str(answer.read().decode())


def deep(url: str, path: str) -> str:
    for _ in range(DEEP - 1):
        found = re.search(r'hx-get="([^"]+)" hx-target="closest tr"', get(url + path))
        assert found is not None
        path = found[1].replace("&amp;", "&")
    return path


def median_ms(url: str, times: int = 5) -> float:
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        get(url)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[1:])


if __name__ == "__main__":
    main()
