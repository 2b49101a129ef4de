"""Prefect's caches and keys: left as they are, and what a hit records."""

from __future__ import annotations

import pytest
from prefect_scripts import Runner, linked, names, run_of, runs

import lamindb as ln

CACHED = """
from prefect.cache_policies import INPUTS, TASK_SOURCE

@task(persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
def clean(raw: Path, out: Path) -> Path:
    print("cleaned")
    out.write_text(raw.read_text().upper())
    return out

@task(persist_result=True, cache_policy=INPUTS)
def count(clean: Path) -> int:
    print("counted")
    return len(clean.read_text())

@flow
async def pipeline():
    cleaned = clean(Path("raw.csv"), Path("clean.csv"))
    return count.submit(cleaned).result()

print(asyncio.run(pipeline()))
"""


def test_a_cache_hit_is_a_run_that_reuses_the_files_of_the_one_that_made_them(
    run: Runner,
) -> None:
    run('Path("raw.csv").write_text("a")')
    assert run(CACHED).out.split() == ["cleaned", "counted", "1"]
    again = run(CACHED)
    assert again.out.split() == ["1"]
    # whatever Prefect itself says on a busy machine, nothing is said by us
    assert "record" not in again.err and "on disk" not in again.err

    first, second = runs("clean")
    assert (first.status, second.status) == ("completed", "cached")
    assert linked(second) == {("cached_from", first.id)}
    assert second.parent == runs("pipeline")[1]
    assert second.params == first.params == {"raw": "raw.csv", "out": "clean.csv"}
    for each in (first, second):
        assert (names(each.inputs), names(each.outputs)) == (["raw.csv"], ["clean.csv"])
    (file,) = ln.select(ln.File, name="clean.csv", all_versions=True).all()
    assert file.run == first
    counted, reused = runs("count")
    assert reused.status == "cached"
    assert linked(reused) == {("cached_from", counted.id), ("informed_by", second.id)}
    assert (names(reused.inputs), reused.params) == (["clean.csv"], {"clean": "clean.csv"})


def test_a_cache_hit_whose_file_is_gone_or_changed_says_so(run: Runner) -> None:
    run('Path("other.csv").write_text("a")')
    only_clean = CACHED.replace("return count.submit(cleaned).result()", "")
    only_clean = only_clean.replace("raw.csv", "other.csv")
    run(only_clean)
    run('Path("clean.csv").write_text("something else")')
    after_change = run(only_clean)
    run('Path("clean.csv").unlink()')
    after_loss = run(only_clean)

    first, second, third = runs("clean")
    assert [each.status for each in (first, second, third)] == ["completed", "cached", "cached"]
    assert (second.outputs, third.outputs) == ([], [])
    assert third.error is not None
    assert "clean.csv" in third.error
    assert "is gone" in third.error
    for done in (after_change, after_loss):
        assert done.err.count("clean.csv") == 1, done.err
        assert "changed or is gone" in done.err
    assert ln.select(ln.File, name="clean.csv").one().run == first


KEYS = """
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.tasks import task_input_hash

def make(number, **options):
    if number == 1:
        @task(name="same", persist_result=True, **options)
        def same(x):
            return "one"
    else:
        @task(name="same", persist_result=True, **options)
        def same(x):
            return "two"
    return same

def copies(each):
    return [each, each.with_options(name="other"), each.with_options(retries=1).with_options()]

def told():
    for options in ({"cache_key_fn": task_input_hash}, {"cache_policy": TASK_SOURCE + INPUTS}):
        one, two = make(1, **options), make(2, **options)
        yield [[copy.task_key for copy in copies(each)] for each in (one, two)]
        yield [[copy(5, return_state=True).name for copy in copies(each)] for each in (one, two)]
        yield [[copy(5) for copy in copies(each)] for each in (one, two)]

@flow
async def pipeline():
    return list(told())

print(json.dumps(asyncio.run(pipeline())))
"""


def test_keys_and_caches_are_the_same_with_and_without_tracking(run: Runner) -> None:
    plain = run(KEYS, imports="from prefect import flow, task\n").told
    tracked = run(KEYS).told
    activated = run(
        KEYS,
        imports="import lamindb_prefect; lamindb_prefect.activate(); "
        "from prefect import flow, task\n",
    ).told
    for names_of_states, values in ((plain[1], plain[2]), (plain[4], plain[5])):
        assert names_of_states == [["Completed", "Cached", "Cached"]] * 2
        assert values == [["one"] * 3, ["two"] * 3]
    one, two = plain[0]
    assert len(set(one)) == len(set(two)) == 1
    assert one[0] != two[0]
    for again in (tracked, activated):
        assert [again[0], again[3]] == [plain[0], plain[3]]
        # the caches that the untracked flow has filled are still valid
        assert [again[1], again[4]] == [[["Cached"] * 3] * 2] * 2
        assert [again[2], again[5]] == [plain[2], plain[5]]


@pytest.mark.full
def test_background_tasks_of_one_name_keep_apart(run: Runner) -> None:
    run(
        """
        from prefect.task_worker import TaskWorker

        def make(number):
            if number == 1:
                @task(name="same")
                def same(x):
                    Path(f"one{x}.txt").write_text("one")
                    return Path(f"one{x}.txt")
            else:
                @task(name="same")
                def same(x):
                    Path(f"two{x}.txt").write_text("two")
                    return Path(f"two{x}.txt")
            return same

        one, two = make(1), make(2)
        sent = []

        @flow
        async def sender():
            sent.extend([one.delay(1), two.delay(2)])

        async def ended(future):
            while True:
                try:
                    return await asyncio.to_thread(future.wait, 40)
                except RuntimeError:  # Prefect's server does not know yet that it has begun
                    await asyncio.sleep(0.2)

        async def main():
            await sender()
            worker = TaskWorker(one, two)
            serving = asyncio.create_task(worker.start())
            for future in sent:
                await ended(future)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

        asyncio.run(main())
        """
    )
    found = runs("same")
    assert [each.status for each in found] == ["completed", "completed"]
    assert {each.params["x"]: names(each.outputs) for each in found} == {
        1: ["one1.txt"],
        2: ["two2.txt"],
    }
    assert {each.parent for each in found} == {run_of("sender")}
