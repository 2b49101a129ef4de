"""Every way to write and to call a flow or task."""

from __future__ import annotations

import re

import pytest
from prefect_scripts import IMPORTS, PREFECT, Runner, attempts, names, run_of, runs

import lamindb as ln

SHAPES = """
import functools
from dataclasses import dataclass

class Model:
    def __init__(self, scale):
        self.scale = scale

    @task
    def fit(self, x: int = 1) -> int:
        return self.scale * x

    @task
    @classmethod
    def of_class(cls, x) -> str:
        return cls.__name__ + x

    @task
    @staticmethod
    def of_nobody(x):
        return x

    @flow
    async def flow_of_it(self, x: int = 3):
        return self.scale + x

class Callable:
    def __call__(self, x):
        return x + 1

def add(x, y, z=0):
    return x + y + z

@task
def stars(first, *rest, **named):
    return [first, list(rest), named]

@task
def positional(first, /, second, *, third=3):
    return [first, second, third]

@task
def mutable(found=[], by={}):
    return [found, by]

partial_task = task(functools.partial(add, 1), name="partial")
callable_task = task(Callable(), name="callable")
lambda_task = task(lambda x: x, name="lambda")

@flow(name="Inner flow")
async def inner(number: int):
    return stars(number)

@task
async def nests(x):
    return mutable([x])[0] + [await inner(x)]

@flow
async def pipeline():
    model, other = Model(2), Model(5)
    return [
        model.fit(2), model.fit.submit(3).result(), other.fit(x=4), model.fit(),
        Model.of_class("!"), Model.of_nobody(4), await other.flow_of_it("4"),
        stars(1), stars(1, 2, 3, a=4), stars.submit(1, 2, b=[5]).result(),
        positional(1, 2), positional.submit(1, second=5, third=6).result(),
        mutable(), mutable.submit([1]).result(),
        partial_task(2), callable_task(3), lambda_task(4),
        positional.with_options(name="renamed", retries=1)(7, 8),
        model.fit.with_options(name="fitted")(9),
        await nests(3),
        [future.result() for future in positional.map([1, 2], second=[3, 4])],
    ]

print(json.dumps(asyncio.run(pipeline())))
"""


def test_all_shapes_give_the_same_results_as_without_us_and_are_recorded(run: Runner) -> None:
    plain = run(SHAPES, imports="from prefect import flow, task\n")
    assert not ln.select(ln.Run).all()
    tracked = run(SHAPES)
    assert tracked.told == plain.told
    assert [each.params["x"] for each in runs("fit")] == [2, 3, 4, 1]
    assert run_of("of_class").params == {"x": "!"}
    assert run_of("flow-of-it").params == {"x": 4}  # coerced
    assert [each.params for each in runs("stars")][1:3] == [
        {"first": 1, "rest": [2, 3], "named": {"a": 4}},
        {"first": 1, "rest": [2], "named": {"b": [5]}},
    ]
    assert run_of("partial").params == {"y": 2, "z": 0}
    assert run_of("callable").params == {"x": 3}
    assert run_of("renamed").params == {"first": 7, "second": 8, "third": 3}
    assert run_of("fitted").params == {"x": 9}

    # a task within a task, a flow within that, and a task within that
    flow, outer = run_of("pipeline"), run_of("nests")
    inner = run_of("Inner flow")
    assert (outer.parent, inner.parent) == (flow, outer)
    assert [each.parent for each in runs("stars")] == [flow, flow, flow, inner]
    assert [each.parent for each in runs("mutable")] == [flow, flow, outer]
    assert {each.status for each in ln.select(ln.Run).all()} == {"completed"}

    keys = {each.transform.name: each.transform.key for each in ln.select(ln.Run).all()}
    assert keys["fit"].endswith("/flows.py:Model.fit")
    assert keys["fitted"].endswith("/flows.py:Model.fit as fitted")
    assert keys["Inner flow"].endswith("/flows.py:inner as Inner flow")


def test_a_users_hooks_are_called_once_and_tracking_goes_on(run: Runner) -> None:
    done = run(
        """
        def told(what):
            def hook(*arguments):
                print(what)
            return hook

        @task(on_completion=[told("completed")], on_failure=[told("failed")])
        def work(fails: bool = False):
            if fails:
                raise ValueError("no")

        @work.on_completion
        def later(task, run, state):
            print("completed later")

        hooks = [told("mine")]
        variant = work.with_options(on_completion=hooks, name="variant")
        again = variant.with_options(name="again").with_options(name="and again")

        @flow(on_completion=[told("flow")])
        async def pipeline():
            work()
            variant()
            again()
            work(True, return_state=True)

        asyncio.run(pipeline.with_options(on_completion=[told("other flow")])(return_state=True))
        asyncio.run(pipeline.with_options(name="other")(return_state=True))
        print(len(hooks))
        """
    )
    assert done.out.split("\n") == [
        *("completed", "completed later", "mine", "mine", "failed"),
        "other flow",
        *("completed", "completed later", "mine", "mine", "failed"),
        "flow",
        "1",
        "",
    ]
    assert [each.status for each in runs("work")] == ["completed", "failed"] * 2
    assert len(runs("variant")) == len(runs("and again")) == 2
    assert len(runs("pipeline")) == len(runs("other")) == 1


@pytest.mark.skipif(PREFECT == (3, 4), reason="Prefect 3.4 has no with_context")
def test_code_in_a_run_knows_it_and_code_outside_does_not(run: Runner) -> None:
    done = run(
        """
        import threading
        from prefect import task as untracked_task, flow as untracked_flow
        from prefect.context import with_context

        def told(where):
            run = ln.context.run
            print(where, run.name.split("-")[0] if run else None)
            assert (ln.context.transform is None) == (run is None)

        @task
        def work():
            told("task")
            assert ln.track() == ln.context.run
            told("after track")
            ln.track(transform=ln.Transform("part", type="pipeline"))
            told("part")
            ln.finish()
            told("after part")
            ln.add(ln.File("given.txt", key="given.txt"))
            plain()

        @untracked_task
        def plain():
            told("untracked task")

        @flow
        async def pipeline():
            told("flow")
            work()
            plain()
            work.fn.__wrapped__

        @untracked_flow
        async def plain_flow():
            told("untracked flow")

        told("before")
        Path("given.txt").write_text("given")
        asyncio.run(pipeline.with_options(flow_run_name="pipe-1")())
        asyncio.run(plain_flow())
        told("after")
        """
    )
    assert done.out.splitlines() == [
        "before None",
        "flow pipe",
        "task work",
        "after track work",
        "part part",
        "after part work",
        "untracked task work",
        "untracked task pipe",
        "untracked flow None",
        "after None",
    ]
    work = run_of("work")
    assert names(work.outputs) == ["given.txt"]
    assert run_of("part").parent == work
    assert len(ln.select(ln.Run).all()) == 3


def test_the_function_of_a_task_is_the_function(run: Runner) -> None:
    """As in a unit test, or called from another task: nothing is recorded."""
    done = run(
        """
        import inspect, pickle, cloudpickle, typing

        @task
        def work(x: int, y: str = "b") -> str:
            "Work."
            return f"{x}{y}"

        @task
        async def wait(x):
            return x

        @task
        def yields():
            yield 1

        @task
        def around(depth=0):
            return work.fn(1) + (around.fn(1) if depth == 0 else "")

        @flow
        async def pipeline():
            return around()

        print(work.fn(1), asyncio.run(wait.fn(2)), list(yields.fn()))
        print(inspect.signature(work.fn), work.fn.__name__, work.fn.__doc__, work.fn.__module__)
        print(inspect.getsource(work.fn).splitlines()[1].strip(), typing.get_type_hints(work.fn))
        print(inspect.iscoroutinefunction(wait.fn), inspect.isgeneratorfunction(yields.fn))
        print(cloudpickle.loads(cloudpickle.dumps(work)).fn(3))
        print(asyncio.run(pipeline()))
        print(asyncio.run(pipeline.fn()))
        """
    )
    assert done.out.splitlines() == [
        "1b 2 [1]",
        "(x: int, y: str = 'b') -> str work Work. __main__",
        "def work(x: int, y: str = \"b\") -> str: {'x': <class 'int'>, 'y': <class 'str'>, "
        "'return': <class 'str'>}",
        "True True",
        "3b",
        "1b1b",
        "1b1b",
    ]
    assert len(runs("around")) == 2
    assert not runs("work")
    assert len(runs("pipeline")) == 1


PIPELINE = """
@task(tags={"t"})
def clean(raw: Path) -> Path:
    Path("clean.txt").write_text(raw.read_text())
    return Path("clean.txt")

@flow
async def pipeline(raw: Path = Path("raw.txt")):
    clean(raw)
"""


def test_an_unmodified_file_is_tracked_by_prefects_switch_by_activate_and_not_without(
    run: Runner,
) -> None:
    plain = "from prefect import flow, task\n"
    run(f'Path("raw.txt").write_text("a"){PIPELINE}asyncio.run(pipeline())', imports=plain)
    assert not ln.select(ln.Run).all()

    run(
        f"""
async def notebook():  # whose cells run inside an event loop
    import lamindb_prefect
    lamindb_prefect.activate()
    lamindb_prefect.activate()
    from prefect import flow, task
    names = dict(globals(), flow=flow, task=task)
    exec({PIPELINE!r}, names)
    await names["pipeline"]()

asyncio.run(notebook())
""",
        imports="",
    )
    assert (run_of("clean").parent, names(run_of("clean").outputs)) == (
        run_of("pipeline"),
        ["clean.txt"],
    )


def test_prefects_logs_have_not_one_line_more(run: Runner) -> None:
    def told(imports: str) -> list[str]:
        done = run(
            """
            import re
            from prefect import get_run_logger
            from prefect.transactions import transaction

            @task(retries=1)
            def work(fails=False):
                get_run_logger().info("mine")
                if fails:
                    raise ValueError("no")

            @task
            def undone():
                return Path("x")

            @undone.on_rollback
            def undo(txn): ...

            @work.on_completion
            def users_hook(*arguments): ...

            @flow(flow_run_name="the flow")
            async def pipeline():
                work()
                work.submit(True).wait()
                try:
                    with transaction():
                        undone()
                        raise ValueError("no")
                except ValueError:
                    pass

            asyncio.run(pipeline(return_state=True))
            """,
            imports=imports,
        )
        lines = [line for line in done.err.splitlines() if " | INFO" in line]
        return [re_masked(line) for line in lines]

    plain = told("from prefect import flow, task\n")
    assert any("Running hook 'users_hook'" in line for line in plain)
    assert told(IMPORTS) == plain
    assert attempts(runs("work")[1])[1][:2] == (2, "failed")


def re_masked(line: str) -> str:
    """Return a line without what differs each time: its time, and the ids of runs."""
    line = line.split(" | ", 1)[1]
    return re.sub(r"-[0-9a-f]{3}'|[0-9a-f-]{36}|:\d{4,5}/", "…", line)
