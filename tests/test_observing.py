"""What a tracked run of this very process reads and writes; for whole scripts see ground truth."""

import asyncio
import os
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lamindb as ln
from lamindb_plain import claims

pytestmark = [pytest.mark.observing, pytest.mark.databases("full")]


@pytest.fixture(autouse=True)
def project() -> Path:
    """An instance with ./mydata in the working directory, and two files."""
    ln.setup.init("./mydata")
    Path("a.txt").write_text("a")
    Path("b.txt").write_text("b")
    return Path.cwd()


def tracked(**options: Any) -> ln.Run:
    return ln.track(ln.Transform("study", type="pipeline"), **options)


def files(run: ln.Run) -> tuple[list[str], list[str]]:
    """Keys of what a finished run read and wrote."""
    ln.finish()
    return [file.key for file in run.inputs], [file.key for file in run.outputs]


def how(run: ln.Run) -> dict[str, tuple[str, str, str]]:
    from sqlalchemy import select

    from lamindb import instance
    from lamindb.db.schema import file, run_file

    with instance.reading().database.read() as connection:
        rows = connection.execute(
            select(file.c.key, run_file.c.role, run_file.c.how, run_file.c.matched_by)
            .join(file, file.c.id == run_file.c.file_id)
            .where(run_file.c.run_id == run.id)
        )
        return {row.key: tuple(row)[1:] for row in rows}


def test_what_is_opened_is_observed() -> None:
    run = tracked()
    Path("c.txt").write_text(Path("a.txt").read_text())
    assert files(run) == (["a.txt"], ["c.txt"])
    assert how(run)["c.txt"] == ("output", "observed", "path")
    assert ln.select(ln.File, key="c.txt").one().hash == "DMF1ucDxtqgxw5niaXcmYQ"


def test_observing_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracked(observe=False)
    Path("c.txt").write_text("c")
    assert files(run) == ([], [])
    monkeypatch.setattr(ln.settings, "observe", False)
    run = tracked()
    Path("d.txt").write_text("d")
    assert files(run) == ([], [])


def test_include_and_exclude_say_what_counts(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    run = tracked(include=[f"{outside}/**"], exclude="*.log")
    (outside / "x.txt").write_text("x")
    (tmp_path / "y.txt").write_text("y")
    Path("z.log").write_text("z")
    inputs, outputs = files(run)
    assert (inputs, [Path(key).name for key in outputs]) == ([], ["x.txt"])


def test_what_is_declared_counts_wherever_it_is(tmp_path: Path) -> None:
    Path("out").mkdir()
    Path("out/old.txt").write_text("from another run")
    outside = tmp_path / "reference.fa"
    outside.write_text("ACGT")
    run = tracked(inputs=outside, outputs=["out/**", "*.never"], observe=False)
    subprocess.run(["sh", "-c", "mkdir out/x; echo 1 > out/x/new.txt; echo 1 > side.txt"])
    inputs, outputs = files(run)
    assert [Path(key).name for key in inputs] == ["reference.fa"]
    assert outputs == ["out/x/new.txt"]
    assert {kind for _, kind, _ in how(run).values()} == {"declared"}


def test_relative_declarations_start_where_track_was_called(monkeypatch: Any) -> None:
    Path("deep").mkdir()
    run = tracked(outputs="deep/x.txt")
    os.chdir("deep")
    Path("x.txt").write_text("x")
    assert files(run) == ([], ["deep/x.txt"])
    assert how(run)["deep/x.txt"][1] == "declared"


def test_wrong_patterns_are_refused_before_anything_is_written() -> None:
    with pytest.raises(ln.errors.RecordError, match="outputs=3 is no path"):
        tracked(outputs=3)
    with pytest.raises(ln.errors.RecordError, match="include"):
        tracked(include=[None])
    assert ln.select(ln.Run).count() == 0


def test_a_file_that_code_adds_itself_is_no_second_record() -> None:
    run = tracked()
    Path("c.txt").write_text("c")
    ln.add(ln.File("c.txt", key="results/c.txt"))
    Path("mydata/in_place.txt").write_text("here")
    ln.add(ln.File("mydata/in_place.txt"))
    ln.add(ln.File("b.txt"))  # under its id
    ln.finish()
    assert sorted(file.key or file.name for file in run.outputs) == [
        "b.txt", "in_place.txt", "results/c.txt",
    ]  # fmt: skip
    assert ln.select(ln.File).count() == 3


def test_the_bytes_that_were_read_are_recorded_though_they_are_changed_later() -> None:
    run = tracked()
    text = Path("a.txt").read_text()
    Path("a.txt").write_text(f"{text} changed")
    Path("b.txt").read_text()
    Path("b.txt").unlink()
    ln.finish()
    (first, second), (left,) = run.inputs, run.outputs
    assert (first.key, first.hash) == ("a.txt", "DMF1ucDxtqgxw5niaXcmYQ")
    assert (second.key, second.hash) == ("b.txt", "kutf_uauL-w61xx3dTFXjw")
    assert (left.key, left.size) == ("a.txt", 9)


def test_the_innermost_run_owns_a_file_and_what_it_made_is_no_input_of_the_outer() -> None:
    outer = tracked()

    def work(number: int) -> ln.Run:
        run = ln.track(ln.Transform("inner"))
        Path(f"{number}.txt").write_text(str(number))
        ln.finish()
        return run

    with ThreadPoolExecutor(1) as pool:
        inner = list(pool.map(work, range(2)))
    Path("sum.txt").write_text(Path("0.txt").read_text() + Path("1.txt").read_text())
    assert files(outer) == ([], ["sum.txt"])
    assert [[file.key for file in run.outputs] for run in inner] == [["0.txt"], ["1.txt"]]


def test_runs_beside_each_other_do_not_take_each_others_files() -> None:
    async def step(name: str) -> ln.Run:
        run = ln.track(ln.Transform(name))
        await asyncio.sleep(0.01)
        Path(f"{name}.out").write_text(name)
        await asyncio.sleep(0.01)
        ln.finish()
        return run

    async def main() -> list[ln.Run]:
        return await asyncio.gather(*(step(name) for name in ("one", "two")))

    found = {run.name: [file.key for file in run.outputs] for run in asyncio.run(main())}
    assert found == {"one": ["one.out"], "two": ["two.out"]}


OTHER = """
import sys, lamindb as ln
ln.track(ln.Transform("other"))
open("others.txt", "w").write("x")
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_look_leaves_what_an_overlapping_run_claims_or_may_have_written() -> None:
    run = tracked()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {n: v for n, v in os.environ.items() if n not in ("LAMINDB_RUN",)}
    with subprocess.Popen([sys.executable, "-c", OTHER], env=environment, **pipes) as other:
        assert other.stdout.readline() == b"ready\n"
        subprocess.run(["sh", "-c", "echo 1 > unclear.txt"])
        Path("mine.txt").write_text("seen by the hook")
        other.communicate(b"\n")
    subprocess.run(["sh", "-c", "echo 1 > later.txt"])
    assert files(run) == ([], ["later.txt", "mine.txt"])
    assert [file.key for file in ln.select(ln.Run, name="other").one().outputs] == ["others.txt"]
    assert list(claims.folder().glob("*")) == []


def test_a_python_child_is_observed_and_starts_as_without_us(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import sys; sys.mine = 1")
    before = os.environ["PYTHONPATH"]
    os.environ["PYTHONPATH"] = f"{own}{os.pathsep}{before}"
    code = (
        "import sys, os; open('c.txt', 'w').write(open('a.txt').read()); print(sys.mine);"
        "print(sys.path[1:]); print(sys.modules['sitecustomize'].__file__); os._exit(0)"
    )
    bare = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    Path("c.txt").unlink()
    run = tracked()
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert files(run) == (["a.txt"], ["c.txt"])
    assert (seen.stdout, seen.stderr) == (bare.stdout, bare.stderr)
    assert os.environ["PYTHONPATH"] == f"{own}{os.pathsep}{before}"
    assert "LAMINDB_OBSERVED_BY" not in os.environ


def test_lineage_is_known_by_path_by_source_by_the_stored_path_and_by_content() -> None:
    saving = tracked()
    Path("result.txt").write_text("the result")
    saved = ln.add(ln.File("result.txt", key="stored/result.txt"))
    ln.finish()
    Path("copy.txt").write_bytes(Path("result.txt").read_bytes())

    def reading(path: str) -> ln.Run:
        run = tracked()
        Path(path).read_text()
        ln.finish()
        return run

    ways = {}
    for path in ("result.txt", "mydata/stored/result.txt", "copy.txt"):
        run = reading(path)
        assert run.inputs == [saved]
        assert run.inputs[0].run == saving
        ways[path] = how(run)["stored/result.txt"]
    staged = tracked()
    ln.select(ln.File, key="stored/result.txt").one().load()
    ln.finish()
    ways["load"] = how(staged)["stored/result.txt"]
    assert ways == {
        "result.txt": ("input", "observed", "source"),
        "mydata/stored/result.txt": ("input", "observed", "path"),
        "copy.txt": ("input", "observed", "content"),
        "load": ("input", "declared", "path"),
    }


def test_what_lamindb_itself_writes_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamindb import formats

    def download(path: str) -> None:
        Path(path).write_text("data")

    # as of a function of the package
    own = types.FunctionType(download.__code__, {**vars(formats)}, closure=None)
    run = tracked()
    own("downloaded.txt")
    Path("c.txt").write_text("c")
    assert files(run) == ([], ["c.txt"])


def test_a_folder_of_a_format_counts_as_one_file() -> None:
    import numpy as np
    import zarr

    run = tracked()
    zarr.save("data.zarr", np.arange(3))
    assert files(run) == ([], ["data.zarr"])
    run = tracked()
    zarr.load("data.zarr")
    assert files(run) == (["data.zarr"], [])


def test_a_process_that_nobody_observes_pays_for_no_listener() -> None:
    from lamindb_plain import accesses

    tracked()
    assert accesses._listener is not None
    ln.finish()
    assert accesses._listener is None


def test_a_copy_that_a_run_makes_of_what_it_reads_is_not_taken_for_what_it_read() -> None:
    import datetime as dt

    from lamindb.hooks import FileRead, FileStat, FileWritten, emit, run_id

    Path("copy.txt").write_text("a")
    run, at = run_id("plain", "copying"), dt.datetime.now(dt.UTC)
    # as a clock that ticks slowly may have it
    for event, path, later in ((FileWritten, "copy.txt", 0), (FileRead, "a.txt", 1)):
        where = Path(path).absolute()
        when = at + dt.timedelta(milliseconds=later)
        emit(event(run=run, uri=str(where), stat=FileStat.of(where), at=when))
    found = ln.select(ln.Run, id=run).one()
    assert [file.key for file in found.inputs] == ["a.txt"]
    assert [file.key for file in found.outputs] == ["copy.txt"]
