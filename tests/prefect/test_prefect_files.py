"""Which files a run is linked to, and how that is known."""

from __future__ import annotations

from pathlib import Path

from prefect_scripts import Runner, how_known, names, roles, run_of, runs

import lamindb as ln


def test_outputs_are_what_is_returned_named_declared_or_changed(run: Runner) -> None:
    run(
        """
        from dataclasses import dataclass

        @dataclass
        class Found:
            table: Path
            note: str

        def put(name, text="x"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text + name)
            return Path(name)

        @task
        async def containers():
            put("text.txt")
            return {"a": [put("a.txt"), (put("b.txt"),)], "d": Found(put("c.txt"), "text.txt"),
                    "not there": "no/such.txt", "old": "old.txt", "n": 3}

        @task
        async def convert(src: Path, dst: Path, log: str) -> None:
            put(str(dst), src.read_text())
            put(log)

        @task
        async def in_place(path: Path) -> None:
            put(str(path), path.read_text())

        @task(outputs=["results/*.csv", "{name}.json"], exclude="*/b.csv")
        async def declares(name: str) -> None:
            put("results/a.csv"), put("results/b.csv"), put(f"{name}.json"), put("other.json")

        @materialize(f"file://{os.getcwd()}/asset.bin", "snowflake://db/table")
        async def materializes():
            put("asset.bin")

        @task
        async def hands_through(path: Path) -> Path:
            return path

        @task
        async def finds() -> Path:
            return Path("very_old.txt")

        @task
        async def adds() -> ln.File:
            file = ln.File(put("added.txt"), key="in/added.txt")
            ln.add(file)
            return file

        @task
        async def makes_folder(out: Path) -> Path:
            put(f"{out}/one.txt"), put(f"{out}/sub/two.txt")
            return out

        @task
        async def into_folder(out: Path) -> None:
            put(f"{out}/new.txt"), put(f"{out}/changed.txt", "y")

        @task
        async def reads_folder(folder: Path) -> None: ...

        @flow
        async def pipeline():
            await containers()
            await convert(Path("src.txt"), Path("dst.txt"), "run.log")
            await in_place(await hands_through(Path("dst.txt")))
            await declares("report")
            await materializes()
            await finds()
            await adds()
            await reads_folder(await makes_folder(Path("model")))
            await into_folder(Path("there"))
            put("by_flow.txt")
            return Path("by_flow.txt"), Path("dst.txt")

        put("src.txt"), put("old.txt"), put("very_old.txt"), put("results/old.csv")
        put("there/changed.txt"), put("there/kept.txt")
        os.utime("very_old.txt", (1, 1))
        import lamindb_prefect.files as files
        time.sleep(0.1)
        files._SERVER_NS = 50_000_000  # the file is old, its change of time is not
        asyncio.run(pipeline())
        """
    )
    assert names(run_of("containers").outputs) == ["a.txt", "b.txt", "c.txt", "text.txt"]
    convert = run_of("convert")
    assert (names(convert.inputs), names(convert.outputs)) == (["src.txt"], ["dst.txt", "run.log"])
    edited = run_of("in_place")
    assert (names(edited.inputs), names(edited.outputs)) == (["dst.txt"], ["dst.txt"])
    assert edited.inputs[0].hash != edited.outputs[0].hash
    assert edited.inputs[0].run == convert
    assert names(run_of("declares").outputs) == ["a.csv", "report.json"]
    assert names(run_of("materializes").outputs) == ["asset.bin", "table"]
    assert run_of("hands_through").outputs == []
    assert names(run_of("hands_through").inputs) == ["dst.txt"]
    assert (run_of("finds").outputs, names(run_of("finds").inputs)) == ([], ["very_old.txt"])
    assert names(run_of("adds").outputs) == ["added.txt"]
    assert run_of("adds").outputs[0].key == "in/added.txt"
    folder = run_of("makes_folder")
    assert names(folder.outputs) == ["model"]
    assert names(run_of("reads_folder").inputs) == ["model"]
    assert run_of("reads_folder").inputs[0].run == folder
    assert names(run_of("into_folder").outputs) == ["changed.txt", "new.txt"]
    assert names(run_of("pipeline").outputs) == ["by_flow.txt"]
    assert how_known(convert) == {
        ("src.txt", "input"): "declared",
        ("dst.txt", "output"): "observed",
        ("run.log", "output"): "observed",
    }
    assert how_known(run_of("declares")) == {
        ("a.csv", "output"): "declared",
        ("report.json", "output"): "declared",
    }


def test_an_argument_that_is_used_up_is_an_input(run: Runner) -> None:
    run(
        """
        @task
        async def unpacks(archive: Path) -> Path:
            out = archive.with_suffix(".txt")
            out.write_bytes(archive.read_bytes())
            archive.unlink()
            return out

        @task
        async def moves(folder: Path) -> Path:
            return folder.rename("moved")

        @task
        async def makes(out: Path) -> None:
            Path("scratch").write_text("x")
            Path("scratch").replace(out)

        @flow
        async def pipeline():
            await unpacks(Path("a.pack"))
            await moves(Path("folder"))
            await makes(Path("made.txt"))

        Path("a.pack").write_text("x")
        Path("folder").mkdir()
        Path("folder/one.txt").write_text("x")
        asyncio.run(pipeline())
        """
    )
    unpacked = run_of("unpacks")
    assert (names(unpacked.inputs), names(unpacked.outputs)) == (["a.pack"], ["a.txt"])
    moved = run_of("moves")
    assert (names(moved.inputs), names(moved.outputs)) == (["folder"], ["moved"])
    assert (run_of("makes").inputs, names(run_of("makes").outputs)) == ([], ["made.txt"])


def test_what_a_returned_state_holds_is_returned(run: Runner) -> None:
    run(
        """
        from prefect.states import Completed, Failed

        def put(name):
            Path(name).write_text(name)
            return Path(name)

        @task
        async def succeeds():
            return Completed(data={"table": put("table.csv")})

        @task
        async def fails():
            return Failed(message="too few rows", data=put("broken.csv"))

        @flow
        async def hands_on():
            return await succeeds(return_state=True)

        @flow
        async def pipeline():
            await hands_on()
            await fails(return_state=True)
            return Completed(data=[put("report.md")])

        asyncio.run(pipeline())
        """
    )
    assert names(run_of("succeeds").outputs) == ["table.csv"]
    assert run_of("hands-on").outputs == []
    assert (run_of("fails").status, run_of("fails").outputs) == ("failed", [])
    assert names(run_of("pipeline").outputs) == ["report.md"]


def test_tasks_that_fill_one_folder_at_once_claim_nothing_of_each_other(run: Runner) -> None:
    run(
        """
        @task
        async def fill(out: Path, number: int):
            (out / f"{number}.txt").write_text(str(number))
            await asyncio.sleep(0.3)

        @task
        async def fill_and_say(out: Path, number: int) -> Path:
            await fill.fn(out, number)
            return out / f"{number}.txt"

        @flow
        async def pipeline():
            await asyncio.gather(fill(Path("out"), 1), fill(Path("out"), 2))
            await asyncio.gather(fill_and_say(Path("out"), 3), fill_and_say(Path("out"), 4))
            await fill(Path("out"), 5)

        Path("out").mkdir()
        asyncio.run(pipeline())
        """
    )
    filled = {each.params["number"]: names(each.outputs) for each in runs("fill")}
    assert filled == {1: [], 2: [], 5: ["5.txt"]}
    said = {each.params["number"]: names(each.outputs) for each in runs("fill_and_say")}
    assert said == {3: ["3.txt"], 4: ["4.txt"]}


def test_secrets_are_masked_and_rules_leave_files_out(run: Runner, tmp_path: Path) -> None:
    run(
        f"""
        @task(exclude=["*.tmp", "private/"])
        async def work(api_key: str, url: str, text: str, path: Path) -> list:
            for name in ("a.tmp", "private/b.txt", "__pycache__/c.txt", "d.txt"):
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).write_text(name)
            Path({str(tmp_path)!r}, "outside.txt").write_text("out")
            Path({str(tmp_path)!r}, "text.txt").write_text("text")
            names = [Path("a.tmp"), Path("private/b.txt"), Path("d.txt"), "__pycache__/c.txt"]
            return names + [Path({str(tmp_path)!r}, "outside.txt"), {str(tmp_path / "text.txt")!r}]

        @flow
        async def pipeline():
            await work("s3cret", "https://me:s3cret@host/x", "token=s3cret", Path("x"))

        asyncio.run(pipeline())
        """
    )
    work = run_of("work")
    assert names(work.outputs) == ["d.txt", "outside.txt"]
    assert work.params == {
        "api_key": "***",
        "url": "https://***@host/x",
        "text": "token=***",
        "path": "x",
    }
    assert b"s3cret" not in Path("mydata/.lamindb/lamindb.sqlite").read_bytes()


def test_a_flow_started_by_a_tracked_script_or_run_is_inside_of_it(run: Runner) -> None:
    code = """
    @task
    async def work(): ...

    @flow
    async def pipeline():
        await work()

    {before}
    asyncio.run(pipeline())
    """
    run(code.format(before='ln.track(transform=ln.Transform("script", type="script"))'))
    script = run_of("script")
    run(code.format(before=""), LAMINDB_RUN=script.id)
    assert [each.parent for each in runs("pipeline")] == [script, script]
    assert [each.parent for each in runs("work")] == runs("pipeline")
    assert not roles(script, "output")


def test_what_prefect_knows_of_a_run_is_kept(run: Runner) -> None:
    run(
        '''
        import prefect

        @task(tags={"b", "a"}, task_run_name="clean {n}")
        async def clean(n: int):
            """Clean the data.

            With care.
            """

        @flow(name="My pipeline")
        async def pipeline():
            await clean(1)

        with prefect.tags("x"):
            asyncio.run(pipeline())
        '''
    )
    flow, clean = run_of("My pipeline"), run_of("clean")
    url = run.server.api.removesuffix("/api")
    assert clean.name == "clean 1"
    assert clean.reference_type == "prefect task run"
    assert clean.details["prefect"] == {
        "url": f"{url}/runs/task-run/{clean.reference}",
        "tags": ["a", "b", "x"],
        "flow_run": flow.reference,
    }
    assert flow.details["prefect"]["url"] == f"{url}/runs/flow-run/{flow.reference}"
    transform = clean.transform
    assert (transform.name, transform.type, transform.title) == (
        "clean",
        "pipeline",
        "Clean the data.",
    )
    assert transform.source_hash
    assert transform.reference.endswith("flows.py")
    assert clean.environment_id
    assert ln.select(ln.Transform).count() == 2
