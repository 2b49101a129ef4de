"""What the runs of tasks record, one kind of task after the other."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prefect_scripts import Runner, linked, names, run_of, runs

import lamindb as ln


def test_a_task_that_returns_a_path_is_one_run_with_one_file_inside_its_flow(run: Runner) -> None:
    run(
        """
        @task
        def clean(raw: Path) -> Path:
            "Make it loud.  And more."
            out = Path("clean.csv")
            out.write_text(raw.read_text().upper())
            return out

        @flow
        async def pipeline(raw: Path = Path("raw.csv"), token: str = "abc"):
            clean(raw)

        Path("raw.csv").write_text("a")
        asyncio.run(pipeline())
        """
    )
    flow, task = run_of("pipeline"), run_of("clean")
    assert task.parent == flow
    assert (flow.status, task.status) == ("completed", "completed")
    assert names(task.inputs) == ["raw.csv"]
    assert names(task.outputs) == ["clean.csv"]
    assert flow.outputs == []
    (file,) = ln.select(ln.File, name="clean.csv").all()
    assert file.run == task
    assert (file.size, file.hash) == (1, "f8VicOenD6gaWTW3Lqy-KQ")


def test_concurrent_tasks_each_have_their_own_files(run: Runner) -> None:
    done = run(
        """
        @task
        async def write(number: int) -> Path:
            out = Path(f"{number}.txt")
            await asyncio.sleep(0.01 * (5 - number))
            out.write_text(str(number))
            ln.add(ln.File(out, key=f"kept/{number}.txt"))
            print(ln.context.run.id)
            return out

        @flow
        async def pipeline():
            await asyncio.gather(*(write(number) for number in range(5)))

        asyncio.run(pipeline())
        """
    )
    found = runs("write")
    assert {each.id for each in found} == set(done.out.split())
    assert len(found) == 5
    for each in found:
        number = each.params["number"]
        # the returned path is the file that the code has added itself
        (file,) = each.outputs
        assert (file.key, each.inputs) == (f"kept/{number}.txt", [])
    assert {each.parent for each in found} == {run_of("pipeline")}


def test_nothing_of_ours_but_a_line_in_a_file_runs_on_the_event_loop(run: Runner) -> None:
    """A database that does not answer, and a big file to hash, must not stop the loop."""
    done = run(
        """
        import sqlite3, threading

        @task
        async def write() -> Path:
            out = Path("big.bin")
            with out.open("wb") as stream:
                stream.truncate(400_000_000)
            return out

        opened = set()

        def watch(event, arguments):
            if threading.current_thread() is not threading.main_thread():
                return
            if event == "open":
                opened.add(str(arguments[0]))
            elif event in ("sqlite3.connect", "subprocess.Popen"):
                opened.add(event)

        @flow
        async def pipeline():
            sys.addaudithook(watch)
            await write()
            print(json.dumps(sorted(opened)))

        locked = sqlite3.connect("mydata/.lamindb/lamindb.sqlite", isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        asyncio.run(pipeline())
        locked.rollback()
        """
    )
    touched = [each for each in json.loads(done.out.splitlines()[0]) if "site-packages" not in each]
    assert {"sqlite3.connect", "subprocess.Popen"}.isdisjoint(touched)
    assert [each for each in touched if each.endswith("big.bin")] == ["big.bin"]  # by the task
    assert names(run_of("write").outputs) == ["big.bin"]


def test_generators_keep_the_file_of_every_yield(run: Runner) -> None:
    run(
        """
        def touch(name):
            Path(name).write_text(name)
            return Path(name)

        @task
        def pages():
            for number in range(3):
                yield touch(f"page{number}.txt")
            return touch("index.txt")

        @task
        async def async_pages():
            for number in range(2):
                yield touch(f"async{number}.txt")

        @task
        def closed_early():
            yield touch("early0.txt")
            yield touch("early1.txt")

        @task
        def submitted():
            yield touch("sub0.txt")
            yield touch("sub1.txt")

        @task
        def use(page: Path): ...

        @flow
        async def pipeline():
            for page in pages():
                touch("by_flow.txt")
                ln.add(ln.File("by_flow.txt", key="by_flow.txt"))
                use(page)
            async for page in async_pages():
                pass
            generator = closed_early()
            next(generator)
            generator.close()
            print(json.dumps([str(page) for page in submitted.submit().result()]))

        asyncio.run(pipeline())
        """
    )
    flow = run_of("pipeline")
    expected = {
        "pages": ["index.txt", "page0.txt", "page1.txt", "page2.txt"],
        "async_pages": ["async0.txt", "async1.txt"],
        "closed_early": ["early0.txt"],
        "submitted": ["sub0.txt", "sub1.txt"],
    }
    for name, files in expected.items():
        found = run_of(name)
        assert (name, found.status, names(found.outputs)) == (name, "completed", files)
        assert found.parent == flow
    assert names(flow.outputs) == ["by_flow.txt"]
    used = runs("use")
    assert [names(each.inputs) for each in used] == [[f"page{number}.txt"] for number in range(3)]
    assert {each.parent for each in used} == {flow}


def test_submitted_and_mapped_tasks_know_their_inputs_and_each_other(run: Runner) -> None:
    run(
        """
        @task
        def measure(number: int) -> Path:
            Path(f"raw{number}.txt").write_text(str(number))
            return Path(f"raw{number}.txt")

        @task
        def double(raw: Path, factor: int = 2) -> Path:
            out = raw.with_name(f"double{raw.stem[-1]}.txt")
            out.write_text(str(int(raw.read_text()) * factor))
            return out

        @task
        def count(values: list) -> int:
            return len(values) * 1000

        @task
        def announce(number: int): ...

        @flow
        async def pipeline():
            raws = measure.map([1, 2, 3])
            doubled = double.map(raws)
            total = count.submit(doubled)
            announce.submit(total).wait()

        asyncio.run(pipeline())
        """
    )
    measured = {each.params["number"]: each for each in runs("measure")}
    assert sorted(measured) == [1, 2, 3]
    doubled = runs("double")
    for each in doubled:
        number = int(each.params["raw"][-5])
        assert names(each.inputs) == [f"raw{number}.txt"]
        assert names(each.outputs) == [f"double{number}.txt"]
        assert each.params["factor"] == 2
        assert linked(each) == {("informed_by", measured[number].id)}
    counted = run_of("count")
    assert linked(counted) == {("informed_by", each.id) for each in doubled}
    assert names(counted.inputs) == [f"double{number}.txt" for number in (1, 2, 3)]
    assert linked(run_of("announce")) == {("informed_by", counted.id)}
    assert run_of("announce").params == {"number": 3000}


def test_a_fresh_value_is_not_taken_for_a_result_that_is_gone(run: Runner) -> None:
    run(
        """
        @task
        async def report(options):
            return {"of": [options["number"] * 1000]}

        @task
        async def stream():
            for number in range(5):
                yield {"at": number}

        @task
        async def mixed(options):
            return [[options["number"]], {"hidden": object()}]

        @task
        async def uses(value): ...

        @flow
        async def pipeline():
            for number in range(10):
                await report({"number": number})
            async for item in stream():
                del item
                await report({"number": 7})
            await uses([(await report({"number": 8}))["of"]])
            for number in range(10):
                await mixed({"number": number})
                await uses([number])

        asyncio.run(pipeline())
        from lamindb_prefect import kept
        assert not kept._by_flow
        """
    )
    assert [each.params for each in runs("report") if linked(each)] == []
    handed, *fresh = runs("uses")
    assert [each.params for each in fresh if linked(each)] == []
    assert linked(handed) == {("informed_by", runs("report")[-1].id)}


def test_results_that_share_keys_and_words_are_not_taken_for_each_other(run: Runner) -> None:
    run(
        """
        from dataclasses import dataclass

        @dataclass
        class Settings:
            of: dict

        @task
        def report(number: int):
            return {"state": "good", "table": f"{number}.csv", "hidden": object()}

        @task
        def count(number: int):
            return ["good", (number + 1) * 1000]

        @task
        def uses(number: int, value): ...

        @flow
        def pipeline():
            reports = [report(number) for number in range(3)]
            counts = [count(number) for number in range(3)]
            for number in range(3):
                uses(number, counts[number])
                uses(number, reports[number]["table"])
                uses(number, [counts[number][1]])
                uses(number, Settings(reports[number]))
                uses.submit(number, {"two": [count.submit(number), {"state": 1}]}).wait()
            reports[0]["state"] = "seen"
            uses(0, reports[0]["hidden"])

        pipeline()
        """
    )
    makers = {each.id: each for each in [*runs("report"), *runs("count")]}
    found = [(each, [makers[other] for _, other in linked(each)]) for each in runs("uses")]
    wrong = [(one.params, [each.params for each in others]) for one, others in found]
    assert [each for each in wrong if each[1] != [{"number": each[0]["number"]}]] == []


def test_a_task_that_begins_while_another_thread_loads_our_parts_is_recorded(run: Runner) -> None:
    run(
        """
        import importlib, threading
        from importlib.machinery import SourceFileLoader

        began, go_on = threading.Event(), threading.Event()
        exec_module, part = SourceFileLoader.exec_module, "lamindb.records.file"
        assert part not in sys.modules

        def slowly(self, module):
            if self.name == part:
                began.set()
                go_on.wait(20)
            exec_module(self, module)

        SourceFileLoader.exec_module = slowly

        @task
        def make(number: int):
            return [number]

        @task
        def use(value): ...

        @flow
        def pipeline():
            made = make(1000)
            # or the recorder has begun to load it
            loading = threading.Thread(target=importlib.import_module, args=[part])
            loading.start()
            assert began.wait(20)
            use(made)
            go_on.set()
            loading.join()

        pipeline()
        """
    )
    assert linked(run_of("use")) == {("informed_by", run_of("make").id)}


def test_the_blocks_of_the_documentation_do_what_it_says(run: Runner) -> None:
    page = Path(__file__).parents[2] / "docs" / "prefect.md"
    first, example = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    run(f"{example}\nraw = Path('raw.csv')\nraw.write_text('a')\npipeline()\n", imports=first)
    task = run_of("clean")
    assert (task.parent, names(task.inputs), names(task.outputs)) == (
        run_of("pipeline"),
        ["raw.csv"],
        ["clean.csv"],
    )
