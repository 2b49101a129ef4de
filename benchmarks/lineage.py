"""How fast lineage is found in an instance of a million runs, and how fast the page draws.

    python benchmarks/lineage.py sql [RUNS]     # against the same recursive query in raw SQL
    python benchmarks/lineage.py page           # against the bare library, in Chromium

The first makes an instance of 100 layers of runs: each reads two files of the layer before, from
its own lane of 20, so that a file of the last layer has about 1,900 runs upstream.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

LAYERS, LANE = 100, 20
AT = "2026-11-01 00:00:00.000000"

# what `ln.lineage(file).upstream()` reads, as one would write it by hand
RAW = """
WITH RECURSIVE upstream(run_id) AS (
    SELECT run_id FROM run_file WHERE file_id = :file AND role = 'output'
    UNION
    SELECT wrote.run_id FROM upstream
    JOIN run_file AS read ON read.run_id = upstream.run_id AND read.role = 'input'
    JOIN run_file AS wrote ON wrote.file_id = read.file_id AND wrote.role = 'output'
    UNION
    SELECT run_run.other_id FROM upstream JOIN run_run ON run_run.run_id = upstream.run_id
)
SELECT run.id, coalesce(transform.name, run.name), run.transform_version, run.engine, run.status,
       run.started_at, run.finished_at, file.id, coalesce(file.key, file.name), file.size,
       file.hash, file.is_latest, read.how, wrote.run_id
FROM (SELECT DISTINCT run_id FROM upstream) AS found
JOIN run ON run.id = found.run_id
LEFT JOIN transform ON transform.id = run.transform_id
     AND transform.version = run.transform_version
LEFT JOIN run_file AS read ON read.run_id = run.id AND read.role = 'input'
LEFT JOIN file ON file.id = read.file_id
LEFT JOIN run_file AS wrote ON wrote.file_id = file.id AND wrote.role = 'output'
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["sql", "page"])
    parser.add_argument("runs", nargs="?", type=int, default=1_000_000)
    chosen = parser.parse_args()
    os.environ.setdefault("LAMINDB_USER", "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if chosen.what == "sql":
            measure_sql(chosen.runs)
        else:
            measure_page()
        os.chdir(ROOT)


def median_ms(call: Callable[[], Any], times: int = 15) -> float:
    call()
    taken = []
    for _ in range(times):
        gc.collect()
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def interleaved_ms(calls: dict[str, Callable[[], Any]], times: int = 15) -> dict[str, float]:
    """Return medians of calls that take turns, so that what else the machine does hits all."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(times + 1):
        for name, call in calls.items():
            gc.collect()
            start = time.perf_counter()
            call()
            if number:  # the first is to warm up
                taken[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(each) for name, each in taken.items()}


# --- the walk -------------------------------------------------------------------------------------


def measure_sql(runs: int) -> None:
    import lamindb as ln

    ln.setup.init("./data")
    start = time.perf_counter()
    path = fill(runs)
    print(
        f"{runs:,} runs written in {time.perf_counter() - start:.0f} s, {path.stat().st_size:,} B"
    )
    last = file_id((LAYERS - 1) * (runs // LAYERS) + LANE // 2)
    raw = sqlite3.connect(path)
    lineage = ln.lineage(last)
    rows = len(raw.execute(RAW, {"file": last}).fetchall())
    assert len(lineage.upstream()) == rows
    calls: dict[str, Callable[[], Any]] = {
        "raw SQL": lambda: raw.execute(RAW, {"file": last}).fetchall(),
        "ln.lineage(file).upstream()": lineage.upstream,
        "ln.lineage(file).upstream(depth=100)": lambda: lineage.upstream(depth=100),
        "ln.lineage(file).upstream(depth=3)": lambda: lineage.upstream(depth=3),
        "ln.lineage(file).rows('upstream')": lambda: lineage.rows("upstream"),
    }
    medians = interleaved_ms(calls)
    print(f"{rows:,} rows")
    for name, taken in medians.items():
        ratio = taken / medians["raw SQL"]
        print(f"{name}: {taken:.1f} ms, {ratio:.2f} times raw SQL")
    for name, slow in {
        "html()": lineage.html,
        "ln.stale(disk=False)": lambda: ln.stale(disk=False),
    }.items():
        print(f"{name}: {median_ms(slow, 3):.0f} ms")


def run_id(number: int) -> str:
    return f"R{number:019d}"


def file_id(number: int) -> str:
    return f"F{number:019d}"


def fill(runs: int) -> Path:
    from lamindb import instance

    here = instance.current()
    user, storage, path = here.user_id, here.default_storage_id, here.config.sqlite_path
    assert path is not None
    instance.reset()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.executemany(
        "INSERT INTO transform(id, version, name, type, created_by_id, created_at, updated_at)"
        " VALUES (?, '0', ?, 'pipeline', ?, ?, ?)",
        [(f"T{n:011d}", f"step {n}", user, AT, AT) for n in range(LANE)],
    )
    engines = ("plain", "prefect", "snakemake")
    connection.executemany(
        "INSERT INTO run(id, transform_id, transform_version, engine, status, started_at,"
        " finished_at, created_by_id, created_at) VALUES (?, ?, '0', ?, 'completed', ?, ?, ?, ?)",
        ((run_id(n), f"T{n % LANE:011d}", engines[n % 3], AT, AT, user, AT) for n in range(runs)),
    )
    connection.executemany(
        "INSERT INTO file(id, name, suffix, size, hash, hash_type, key, run_id, storage_id,"
        " is_latest, created_at, updated_at, created_by_id)"
        " VALUES (?, ?, '.csv', ?, ?, 'md5', ?, ?, ?, 1, ?, ?, ?)",
        (
            (
                file_id(n),
                f"{n}.csv",
                n,
                f"h{n:021d}",
                f"d/{n}.csv",
                run_id(n),
                storage,
                AT,
                AT,
                user,
            )
            for n in range(runs)
        ),
    )
    connection.executemany(
        "INSERT INTO run_file(run_id, file_id, role, how, matched_by, created_at)"
        " VALUES (?, ?, ?, 'declared', 'path', ?)",
        links(runs),
    )
    connection.commit()  # without ANALYZE, which nobody runs on an instance
    connection.close()
    return path


def links(runs: int) -> Iterator[tuple[str, str, str, str]]:
    choose, width = random.Random(1), runs // LAYERS
    for number in range(runs):
        yield run_id(number), file_id(number), "output", AT
        layer, place = divmod(number, width)
        if layer:
            lane = place // LANE * LANE
            for other in {place, min(lane + choose.randrange(LANE), width - 1)}:
                yield run_id(number), file_id((layer - 1) * width + other), "input", AT


# --- the page -------------------------------------------------------------------------------------

BARE = """<!doctype html><meta charset="utf-8">
<style>html, body, #c {{ height: 100%; margin: 0 }}</style><div id="c"></div>
<script>{cytoscape}</script><script>{dagre}</script>
<script>
const cy = cytoscape({{ container: document.getElementById("c"), elements: {elements},
  style: [{{ selector: "node", style: {{ label: "data(id)", shape: "rectangle", width: 90 }} }},
          {{ selector: "edge", style: {{ "curve-style": "bezier",
                                       "target-arrow-shape": "triangle" }} }}],
  layout: {{ name: "dagre", rankDir: "LR", ranker: "longest-path", fit: true }} }});
document.body.dataset.drawn = "1";
</script>"""


def measure_page() -> None:
    import lamindb as ln
    from chromium import chromium
    from lamindb.graph.page import asset
    from lineage_rows import fan

    with chromium() as browser:
        for lanes, stages in ((50, 2), (500, 2)):
            ln.setup.init(f"./data{lanes}")
            drawn = ln.lineage(fan(lanes, stages))
            picture = drawn.picture()
            unfolded = {**picture, "nodes": [{**each, "group": None} for each in picture["nodes"]]}
            elements = [{"data": {"id": each["id"]}} for each in picture["nodes"]]
            elements += [{"data": {"source": a, "target": b}} for a, b, *_ in picture["edges"]]
            bare = BARE.format(
                cytoscape=asset("vendor/cytoscape.min.js"),
                dagre=asset("vendor/cytoscape-dagre.min.js"),
                elements=json.dumps(elements),
            )
            from lamindb.graph.page import page

            count = f"{len(picture['nodes'])} nodes, {len(picture['edges'])} edges"
            for name, html in {
                "the bare library": bare,
                "the page, each node drawn": page(unfolded),
                "the page, as it opens": drawn.html(),
            }.items():
                print(f"{count}: {name}: {drawing_ms(browser, html):.0f} ms")


def drawing_ms(browser: Any, html: str, times: int = 5) -> float:
    path = Path("page.html")
    path.write_text(html, encoding="utf-8")
    taken = []
    for _ in range(times):
        tab = browser.new_page(viewport={"width": 1400, "height": 820})
        start = time.perf_counter()
        tab.goto(path.absolute().as_uri())
        tab.wait_for_function("document.body.dataset.drawn", timeout=120_000)
        tab.screenshot(path="shot.png")  # until it is painted
        taken.append(time.perf_counter() - start)
        tab.close()
    return 1000 * statistics.median(taken)


if __name__ == "__main__":
    main()
