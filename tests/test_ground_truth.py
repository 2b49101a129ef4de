"""What is recorded of scripts is what the kernel saw them do: compared with strace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strace import Truth, needs_strace, python, trace

pytestmark = pytest.mark.observing

CSV = "a,b\n" + "".join(f"{n},{n * n}\n" for n in range(50))

# name → code; raw.csv, more/other.csv and old.txt are there before
SCRIPTS = {
    "plain": "open('out.txt', 'w').write(open('raw.csv').read().upper())",
    "pandas": """
import pandas as pd
frame = pd.read_csv("raw.csv")
frame.to_parquet("frame.parquet")
frame.to_json("frame.json")
pd.read_parquet("frame.parquet")
""",
    "pyarrow": """
import pyarrow as pa, pyarrow.csv as csv, pyarrow.parquet as pq, pyarrow.feather as feather
table = csv.read_csv("raw.csv")
pq.write_table(table, "table.parquet")
feather.write_feather(table, "table.feather")
pq.write_table(pq.read_table("old.parquet"), "new.parquet")
with pa.OSFile("raw.bin", "wb") as sink: sink.write(b"x" * 10)
""",
    "numpy": """
import numpy as np
data = np.loadtxt("raw.csv", delimiter=",", skiprows=1)
np.save("data.npy", data); np.savez("data.npz", data=data); np.savetxt("data.txt", data)
data.tofile("data.bin"); np.fromfile("data.bin"); np.load("data.npy", mmap_mode="r")
""",
    "sqlite3": """
import sqlite3
with sqlite3.connect("known.sqlite") as known:
    found = known.execute("SELECT x FROM t").fetchall()
known.close()
new = sqlite3.connect("new.sqlite")
new.execute("CREATE TABLE t (x)"); new.executemany("INSERT INTO t VALUES (?)", found); new.commit()
new.close()
changed = sqlite3.connect("changed.sqlite")
changed.execute("INSERT INTO t VALUES (99)"); changed.commit(); changed.close()
""",
    "h5py": """
import h5py
with h5py.File("old.h5", "r") as old, h5py.File("new.h5", "w") as new:
    new["x"] = old["x"][:] * 2
with h5py.File("grown.h5", "a") as grown:
    grown["y"] = [1, 2]
""",
    "polars": """
import polars as pl
table = pl.read_csv("raw.csv")
pl.scan_csv("more/*.csv").collect()
both = pl.read_parquet(["one.parquet", "two.parquet"])
both.write_parquet("both.parquet"); both.write_ipc("both.arrow"); both.write_ndjson("both.ndjson")
pl.scan_ndjson("old.ndjson").select("x").sink_csv("sunk.csv")
pl.LazyFrame({"x": [1]}).sink_parquet("sunk.parquet")
pl.scan_parquet("partitioned").collect(); pl.read_ipc("old.arrow")
""",
    "shutil": """
import shutil, os
shutil.copy("raw.csv", "copy.csv"); shutil.copy2("old.txt", "copy2.txt")
shutil.copytree("more", "tree"); shutil.move("copy2.txt", "moved.txt")
shutil.make_archive("packed", "zip", "more")
os.makedirs("gone"); open("gone/x", "w").close(); shutil.rmtree("gone")
""",
    "subprocess": """
import subprocess, sys
copy = "open('child.txt', 'w').write(open('raw.csv').read())"
subprocess.run([sys.executable, "-c", copy], check=True)
subprocess.run(["sort", "-o", "sorted.txt", "old.txt"], check=True)
subprocess.run("wc -l < more/other.csv > count.txt", shell=True, check=True)
open("all.txt", "w").write(open("child.txt").read() + open("sorted.txt").read())
""",
    "multiprocessing": """
import multiprocessing as mp

def work(n):
    with open(f"part{n}.txt", "w") as out, open("raw.csv") as raw:
        out.write(raw.readlines()[n])

if __name__ == "__main__":
    with mp.get_context("fork").Pool(2) as pool: pool.map(work, range(3))
    with mp.get_context("spawn").Pool(1) as pool: pool.map(work, [3])
    open("whole.txt", "w").write("".join(open(f"part{n}.txt").read() for n in range(4)))
""",
    "paths": """
from pathlib import Path
here = Path(__file__).resolve().parent
(here / "absolute.txt").write_text((here / "raw.csv").read_text())
Path("./more/../relative.txt").write_bytes(Path("more/other.csv").read_bytes())
open(b"bytes.txt", "wb").close()
import os; os.close(os.open("low.txt", os.O_WRONLY | os.O_CREAT))
""",
    "chdir": """
import os
os.chdir("more")
open("inside.txt", "w").write(open("other.csv").read() + open("../raw.csv").read())
os.chdir("..")
open("outside.txt", "w").close()
""",
    "append": """
with open("old.txt", "a") as log: log.write("one more\\n")
with open("fresh.log", "a") as log: log.write("first\\n")
open("raw.csv").close()
""",
    "rename over": """
import os
with open("old.txt.tmp", "w") as out: out.write(open("old.txt").read() + "new")
os.replace("old.txt.tmp", "old.txt")
os.makedirs("tmpdir"); open("tmpdir/a", "w").close(); os.rename("tmpdir", "results")
os.rename("more/other.csv", "more/renamed.csv")
""",
    "delete": """
import os
open("scratch.txt", "w").write("x"); open("scratch.txt").read(); os.remove("scratch.txt")
open("raw.csv").read(); os.remove("raw.csv")
open("kept.txt", "w").close()
""",
    "read then write": """
text = open("old.txt").read()
open("old.txt", "w").write(text + "changed")
with open("raw.csv", "r+") as both: both.read(); both.write("100,1\\n")
""",
    "temporary files": """
import tempfile, os
with tempfile.NamedTemporaryFile() as t: t.write(open("raw.csv", "rb").read())
with tempfile.TemporaryDirectory(dir=".") as d: open(os.path.join(d, "x"), "w").close()
handle, name = tempfile.mkstemp(dir="."); os.close(handle); os.replace(name, "final.txt")
""",
    "archives": """
import gzip, json, pickle, zipfile, tarfile
with gzip.open("raw.csv.gz", "wb") as out: out.write(open("raw.csv", "rb").read())
json.dump(1, open("a.json", "w")); pickle.dump(1, open("a.pickle", "wb"))
with zipfile.ZipFile("a.zip", "w") as packed: packed.write("old.txt")
with tarfile.open("a.tar.gz", "w:gz") as packed: packed.add("more")
with zipfile.ZipFile("a.zip") as packed: packed.extractall("unpacked")
""",
    "asyncio and threads": """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
def copy(n): open(f"{n}.txt", "w").write(open("raw.csv").read())
async def main(): await asyncio.gather(*(asyncio.to_thread(copy, n) for n in range(2)))
asyncio.run(main())
with ThreadPoolExecutor(2) as pool: list(pool.map(copy, [5, 6]))
t = threading.Thread(target=copy, args=["thread"]); t.start(); t.join()
""",
}

PREPARE = {
    "sqlite3": """
import sqlite3
for n, name in enumerate(("known", "changed")):
    c = sqlite3.connect(f"{name}.sqlite"); c.execute("CREATE TABLE t (x)")
    c.execute("INSERT INTO t VALUES (?)", [n]); c.commit(); c.close()
""",
    "pyarrow": "import pyarrow as pa, pyarrow.parquet as pq\n"
    "pq.write_table(pa.table({'x': [1]}), 'old.parquet')",
    "polars": """
import os, polars as pl
frame = pl.DataFrame({"x": [1, 2]}); os.mkdir("partitioned")
for name in ("one", "two", "partitioned/0"): frame.write_parquet(f"{name}.parquet")
frame.write_ndjson("old.ndjson"); frame.write_ipc("old.arrow", compression="uncompressed")
""",
    "h5py": "import h5py\nfor name in ('old', 'grown'):\n"
    "    with h5py.File(f'{name}.h5', 'w') as f: f['x'] = [len(name)]",
}

READ_BACK = """
import json, sys
import lamindb as ln

def names(files, name):
    return sorted({f.key.removeprefix(f"{name}/") for f in files})

print(json.dumps({
    run.params["name"]: [run.status, names(run.inputs, run.params["name"]),
                         names(run.outputs, run.params["name"])]
    for run in ln.select(ln.Run).all()
}))
"""


def prepare(folder: Path, name: str) -> None:
    (folder / "more").mkdir(parents=True)
    # no two files are alike: what is read is known by its content too
    number = sorted(SCRIPTS).index(name)
    (folder / "raw.csv").write_text(f"{CSV}{number},{number}\n")
    (folder / "more" / "other.csv").write_text(f"other {name}\n")
    (folder / "old.txt").write_text(f"{name}\na\n")
    if name in PREPARE:
        subprocess.run([sys.executable, "-c", PREPARE[name]], cwd=folder, check=True)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Truth, Truth]]]:
    """For each script, what the kernel saw of it bare, and what was recorded of it tracked."""
    base = tmp_path_factory.mktemp("truth")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LAMINDB_")},
        "LAMINDB_CONFIG_DIR": str(base / "config"),
        "LAMINDB_STATE_DIR": str(base / "state"),
        "LAMINDB_CACHE_DIR": str(base / "cache"),
        "LAMINDB_USER": "testuser",
    }
    project = base / "project"
    project.mkdir()

    def run(*command: str, folder: Path = project) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=40,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    run("-m", "lamindb", "init", "--storage", "./mydata")

    def trace_all() -> dict[str, Truth]:
        return {
            name: trace(python("script.py"), base / "bare" / name, base / "traces" / name)
            for name in SCRIPTS
        }

    for name, code in SCRIPTS.items():
        tracking = f"import lamindb as ln; ln.track(params={{'name': {name!r}}})\n"
        for folder, before in ((base / "bare" / name, ""), (project / name, tracking)):
            prepare(folder, name)
            (folder / "script.py").write_text(before + code)
    with ThreadPoolExecutor(1) as pool:
        traced = pool.submit(trace_all)
        for name in SCRIPTS:
            run("script.py", folder=project / name)
        seen = traced.result()
    recorded = json.loads(run("-c", READ_BACK))
    assert {name: status for name, (status, _, _) in recorded.items()} == dict.fromkeys(
        SCRIPTS, "completed"
    )
    yield {
        name: (truth, Truth(set(recorded[name][1]), set(recorded[name][2])))
        for name, truth in seen.items()
    }


@needs_strace
@pytest.mark.timeout(300)
def test_what_is_recorded_is_what_the_kernel_saw(
    compared: dict[str, tuple[Truth, Truth]],
) -> None:
    expected, found = set(), set()
    for name, (truth, recorded) in compared.items():
        for pairs, each in ((expected, truth), (found, recorded)):
            pairs |= {(name, "read", path) for path in each.read}
            pairs |= {(name, "wrote", path) for path in each.written}
    missed, invented = sorted(expected - found), sorted(found - expected)
    assert len(SCRIPTS) >= 15
    assert len(expected) >= 60
    both = len(expected & found)
    assert both / len(expected) >= 0.99, f"missed: {missed}"
    assert both / len(found) >= 0.99, f"invented: {invented}"
