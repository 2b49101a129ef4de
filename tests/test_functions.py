"""``flow`` and ``step``: calls of functions as runs, which change nothing of the functions."""

import asyncio
import inspect
import json
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import lamindb as ln
from lamindb.cli import main
from lamindb_plain import flow, step

pytestmark = [pytest.mark.observing, pytest.mark.databases("full")]


@pytest.fixture(autouse=True)
def project() -> Path:
    """An instance with ./mydata in the working directory, and one file."""
    ln.setup.init("./mydata")
    Path("raw.csv").write_text("1,2\n")
    return Path.cwd()


def runs() -> dict[str, ln.Run]:
    return {str(run.name): run for run in ln.select(ln.Run).all()}


def keys(files: list[ln.File]) -> list[str | None]:
    return [file.key for file in files]


@step
def clean(raw: Path, scale: int = 2, *, api_token: str = "secret") -> Path:
    """Make it clean."""
    target = Path(f"clean{scale}.csv")
    target.write_text(raw.read_text() * scale)
    return target


@step(name="statistics")
def stats(path: str) -> dict[str, Any]:
    Path("stats.json").write_text(str(len(Path(path).read_text())))
    return {"nested": [{"file": "stats.json"}], "n": 1}


@flow
def analysis(scale: int = 3) -> dict[str, Any]:
    return stats(str(clean(Path("raw.csv"), scale)))


def test_calls_are_nested_runs_with_parameters_and_files() -> None:
    assert analysis() == {"nested": [{"file": "stats.json"}], "n": 1}
    found = runs()
    whole, first, second = found["analysis"], found["clean"], found["statistics"]
    assert {run.status for run in found.values()} == {"completed"}
    assert (whole.transform.type, first.transform.type) == ("pipeline", "function")
    assert first.transform.key.endswith("test_functions.py:clean")
    assert (whole.parent, first.parent, second.parent) == (None, whole, whole)
    assert whole.params == {"scale": 3}
    assert first.params == {"raw": "raw.csv", "scale": 3, "api_token": "***"}
    assert (keys(first.inputs), keys(first.outputs)) == (["raw.csv"], ["clean3.csv"])
    assert (keys(second.inputs), keys(second.outputs)) == (["clean3.csv"], ["stats.json"])
    assert (whole.inputs, whole.outputs) == ([], [])
    assert second.inputs == first.outputs
    assert first.environment_id is not None


def test_runs_are_shown_below_those_that_started_them() -> None:
    analysis()
    lines = CliRunner().invoke(main, ["runs", "--tree"]).output.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["analysis", "├── clean", "└── statistics"]
    assert "completed" in lines[1]
    assert "1 in, 1 out" in lines[1]
    (found,) = json.loads(CliRunner().invoke(main, ["runs", "--tree", "--json"]).output)
    assert (found["name"], [run["name"] for run in found["children"]]) == (
        "analysis", ["clean", "statistics"],
    )  # fmt: skip
    part = CliRunner().invoke(main, ["runs", "--tree", "--transform", "clean"]).output
    assert part.startswith("clean  completed")


def test_a_function_looks_as_it_did() -> None:
    assert (clean.__name__, clean.__doc__) == ("clean", "Make it clean.")
    assert list(inspect.signature(clean).parameters) == ["raw", "scale", "api_token"]
    assert inspect.iscoroutinefunction(step(_coroutine))
    assert inspect.isgeneratorfunction(step(_generator))
    assert inspect.isasyncgenfunction(step(_async_generator))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        clean()  # type: ignore[call-arg]
    assert runs()["clean"].status == "failed"


async def _coroutine() -> None: ...


async def _async_generator() -> AsyncIterator[int]:
    yield 1


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("bad input"), "failed", "ValueError: bad input"),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt"),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (SystemExit(0), "completed", None),
    ],
)
def test_an_exception_passes_and_ends_the_run(
    error: BaseException, status: str, text: str | None
) -> None:
    @step
    def failing() -> None:
        Path("partial.txt").write_text("x")
        raise error

    with pytest.raises(type(error)) as raised:
        failing()
    assert raised.value is error
    (run,) = runs().values()
    # as in every engine, what a call had written when it failed is nobody's output
    made = ["partial.txt"] if status == "completed" else []
    assert (run.status, run.error, keys(run.outputs)) == (status, text, made)


STEPS = """
from lamindb_plain import step
@step
def f():
    {}
"""


def test_changed_code_of_a_function_is_a_new_version_of_its_transform() -> None:
    for text in ("return 1", "return 1", "return 2"):
        Path("steps.py").write_text(STEPS.format(text))
        sys.modules.pop("steps", None)
        sys.path.insert(0, str(Path.cwd()))
        sys.dont_write_bytecode, former = True, sys.dont_write_bytecode
        try:
            import linecache

            import steps

            linecache.checkcache()
            steps.f()
        finally:
            sys.path.pop(0)
            sys.dont_write_bytecode = former
    sys.modules.pop("steps", None)
    versions = [
        run.transform.version for run in ln.select(ln.Run).order_by(ln.Run.started_at).all()
    ]
    assert versions == ["0", "0", "1"]
    assert ln.select(ln.Transform).count() == 2


def test_coroutines_beside_each_other_are_children_of_the_flow() -> None:
    @step
    async def part(number: int) -> int:
        await asyncio.sleep(0.01)
        Path(f"{number}.txt").write_text(str(number))
        await asyncio.sleep(0.01)
        return number

    @flow
    async def whole() -> list[int]:
        return await asyncio.gather(*(part(number) for number in range(3)))

    assert asyncio.run(whole()) == [0, 1, 2]
    parts = {run.params["number"]: run for run in ln.select(ln.Run).all() if run.params}
    (outer,) = {run.parent for run in parts.values()}
    assert outer.name.endswith("whole")
    assert {n: keys(run.outputs) for n, run in parts.items()} == {n: [f"{n}.txt"] for n in range(3)}


def test_a_cancelled_coroutine_is_a_cancelled_run() -> None:
    @step
    async def waiting() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (run,) = runs().values()
    assert (run.status, run.error) == ("cancelled", "CancelledError")


def test_a_generator_is_one_run_and_what_happens_between_its_items_is_not_its_own() -> None:
    @step
    def making(count: int) -> Iterator[Path]:
        for number in range(count):
            path = Path(f"made{number}.txt")
            path.write_text(str(number))
            got = yield path
            assert got is None
        return "end"

    @flow
    def whole() -> None:
        for path in making(2):
            Path(f"{path.stem}-used.txt").write_text(path.read_text())

    whole()
    found = {run.transform.type: run for run in ln.select(ln.Run).all()}
    assert keys(found["function"].outputs) == ["made0.txt", "made1.txt"]
    assert keys(found["pipeline"].outputs) == ["made0-used.txt", "made1-used.txt"]
    assert found["function"].parent == found["pipeline"]


def test_a_generator_is_sent_thrown_and_closed_as_without_us() -> None:
    @step
    def echo() -> Iterator[Any]:
        given = yield "first"
        try:
            yield given
        except ValueError as error:
            yield f"caught {error}"
        return "result"

    def using(generator: Any) -> Any:
        return (yield from generator)

    generator = using(echo())
    assert next(generator) == "first"
    assert generator.send("sent") == "sent"
    assert generator.throw(ValueError("it")) == "caught it"
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "result"
    early = echo()
    next(early)
    early.close()
    assert [run.status for run in ln.select(ln.Run).all()] == ["completed", "completed"]


def test_an_async_generator_is_a_run() -> None:
    @step
    async def making() -> AsyncIterator[int]:
        for number in range(2):
            Path(f"{number}.txt").write_text("x")
            yield number

    async def main() -> list[int]:
        return [each async for each in making()]

    assert asyncio.run(main()) == [0, 1]
    (run,) = runs().values()
    assert (run.status, keys(run.outputs)) == ("completed", ["0.txt", "1.txt"])


def test_methods_keep_their_object_out_of_the_parameters() -> None:
    class Model:
        @step
        def fit(self, n: int) -> int:
            return n

        @staticmethod
        @step
        def static(n: int) -> int:
            return n

        @step
        @classmethod
        def of_class(cls, n: int) -> tuple[str, int]:
            return cls.__name__, n

    assert (Model().fit(1), Model.static(2), Model.of_class(3)) == (1, 2, ("Model", 3))
    assert [run.params for run in ln.select(ln.Run).order_by(ln.Run.started_at).all()] == [
        {"n": 1}, {"n": 2}, {"n": 3},
    ]  # fmt: skip


def test_threads_of_a_pool_belong_to_the_flow_of_the_main_thread() -> None:
    barrier = threading.Barrier(2)

    @step
    def part(number: int) -> None:
        barrier.wait()
        Path(f"{number}.txt").write_text("x")

    @flow
    def whole() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(part, range(2)))

    whole()
    parts = {run.params["number"]: run for run in ln.select(ln.Run).all() if run.params}
    assert {run.parent.transform.type for run in parts.values()} == {"pipeline"}
    assert [keys(parts[n].outputs) for n in (0, 1)] == [["0.txt"], ["1.txt"]]


POOLS = """
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from lamindb_plain import flow, step

@step
def part(how):
    path = Path(f"{how}.txt")
    path.write_text(Path("raw.csv").read_text())
    return path

@flow
def whole():
    for how in ("fork", "spawn"):
        with ProcessPoolExecutor(1, mp_context=mp.get_context(how)) as pool:
            assert list(pool.map(part, [how])) == [Path(f"{how}.txt")]

if __name__ == "__main__":
    whole()
"""


def test_steps_in_process_pools_belong_to_the_flow() -> None:
    Path("pools.py").write_text(POOLS)
    subprocess.run([sys.executable, "pools.py"], check=True)
    parts = {run.params["how"]: run for run in ln.select(ln.Run).all() if run.params}
    (whole,) = {run.parent for run in parts.values()}
    assert whole.name == "whole"
    assert {how: (keys(run.inputs), keys(run.outputs)) for how, run in parts.items()} == {
        how: (["raw.csv"], [f"{how}.txt"]) for how in ("fork", "spawn")
    }
    assert (whole.inputs, whole.outputs) == ([], [])
    assert len({run.pid for run in [whole, *parts.values()]}) == 3


def test_what_is_tracked_and_added_inside_belongs_to_the_step() -> None:
    seen: dict[str, Any] = {}

    @step
    def part() -> None:
        seen["adopted"] = ln.track()
        Path("x.txt").write_text("x")
        seen["file"] = ln.add(ln.File("x.txt", key="x.txt"))
        seen["child"] = ln.track(ln.Transform("child"))
        ln.finish()

    ln.track(ln.Transform("outer"))
    outer = ln.context.run
    part()
    run = next(run for run in ln.select(ln.Run).all() if run.transform.type == "function")
    assert seen["adopted"] == run
    assert ln.select(ln.File, key="x.txt").one().run == run
    assert seen["child"].parent == run
    assert run.parent == outer
    assert ln.context.run == outer


def test_a_path_that_is_passed_on_is_no_output_and_a_changed_argument_is() -> None:
    @step
    def passing(path: Path) -> Path:
        return path

    @step
    def changing(path: Path) -> None:
        with path.open("a") as stream:
            stream.write("more")

    passing(Path("raw.csv"))
    changing(Path("raw.csv"))
    first, second = ln.select(ln.Run).order_by(ln.Run.started_at).all()
    assert (keys(first.inputs), first.outputs) == (["raw.csv"], [])
    assert (second.inputs, keys(second.outputs)) == ([], ["raw.csv"])


def test_files_as_arguments_and_results_are_inputs_and_outputs() -> None:
    given = ln.add(ln.File("raw.csv", key="raw.csv"))

    @step
    def using(files: list[ln.File]) -> ln.File:
        assert files[0].load() is not None
        Path("new.txt").write_text("new")
        return ln.add(ln.File("new.txt", key="results/new.txt"))

    made = using([given])
    (run,) = runs().values()
    assert (run.inputs, run.outputs) == ([given], [made])


def test_a_call_while_another_thread_loads_the_records_is_recorded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as half_loaded:
        name = "lamindb.records.file"
        half_loaded.setitem(sys.modules, name, types.ModuleType(name))
        clean(Path("raw.csv"))
    assert caplog.text == ""
    assert keys(runs()["clean"].outputs) == ["clean2.csv"]


def test_a_call_is_not_disturbed_by_what_cannot_be_recorded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        __str__ = __repr__

    @step
    def part(value: Any, big: list[int]) -> Any:
        return value

    hostile = Hostile()
    assert part(hostile, list(range(100_000))) is hostile
    assert runs()[next(iter(runs()))].status == "completed"
    monkeypatch.setattr("lamindb_plain.calls.emit", lambda event: 1 / 0)
    assert part(1, []) == 1
    assert part(2, []) == 2
    assert caplog.text.count("ZeroDivisionError") <= 2
