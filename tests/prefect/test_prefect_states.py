"""How runs end, and what is recorded of it."""

from __future__ import annotations

from prefect_scripts import IMPORTS, PREFECT, Runner, attempts, names, roles, run_of, runs

import lamindb as ln

TRYING = f"""{IMPORTS}
from prefect.states import Failed, Cancelled, Completed

def tried(call, *arguments):
    try:
        return call(*arguments)
    except BaseException as error:
        return error
"""


def test_retries_are_attempts_of_one_run_with_the_files_of_the_last(run: Runner) -> None:
    run(
        """
        tries = []

        @task(retries=2)
        async def flaky(raw: Path) -> Path:
            tries.append(1)
            out = Path(f"try{len(tries)}.txt")
            out.write_text("x")
            if len(tries) < 3:
                raise ValueError(f"no luck {len(tries)}")
            return out

        @task(retries=1)
        def flaky_state():
            tries.append(1)
            return Failed(message="not yet") if len(tries) == 4 else 5

        rounds = []

        @flow(retries=1)
        async def pipeline(raw: Path):
            await flaky(raw)
            flaky_state()

        @flow(retries=2)
        async def flaky_flow():
            rounds.append(1)
            if len(rounds) == 1:
                raise KeyError("round 1")
            if len(rounds) == 2:
                return [Failed(message="round 2")]

        Path("raw.txt").write_text("raw")
        asyncio.run(pipeline(Path("raw.txt")))
        asyncio.run(flaky_flow())
        """,
        imports=TRYING,
    )
    flaky = run_of("flaky")
    assert attempts(flaky) == [
        (1, "failed", "ValueError: no luck 1"),
        (2, "failed", "ValueError: no luck 2"),
        (3, "completed", None),
    ]
    assert (flaky.status, flaky.error) == ("completed", None)
    assert names(flaky.outputs) == ["try3.txt"]
    assert names(flaky.inputs) == ["raw.txt"]
    assert attempts(run_of("flaky_state")) == [(1, "failed", "not yet"), (2, "completed", None)]
    assert attempts(run_of("pipeline")) == [(1, "completed", None)]
    first, *others = attempts(run_of("flaky-flow"))
    assert first == (1, "failed", "KeyError: 'round 1'")
    # Prefect 3.4 does not try a flow again that returns failed states
    if PREFECT > (3, 4):
        second, third = others
        assert second[:2] == (2, "failed")
        assert third == (3, "completed", None)


def test_failures_say_why_and_what_follows_is_not_completed(run: Runner) -> None:
    run(
        """
        @task
        def broken(raw: Path):
            Path("half.txt").write_text("half")
            raise OSError("cannot read https://me:secret@host/x")

        @task
        def after(value): ...

        @task
        def says_failed():
            return Failed(message="said so")

        @task
        def says_cancelled():
            return Cancelled(message="said so too")

        @flow
        async def pipeline(raw: Path):
            future = broken.submit(raw)
            tried(after.submit(future).wait)
            says_failed(return_state=True)
            says_cancelled(return_state=True)
            return future

        @flow
        async def outer(number: int):
            await checked("no number")

        @flow
        async def checked(number: int): ...

        Path("raw.txt").write_text("raw")
        tried(asyncio.run, pipeline(Path("raw.txt")))
        tried(asyncio.run, outer(1))
        tried(asyncio.run, checked(number="none"))
        """,
        imports=TRYING,
    )
    broken = run_of("broken")
    assert (broken.status, broken.error) == ("failed", "OSError: cannot read https://***@host/x")
    assert (names(broken.inputs), broken.outputs) == (["raw.txt"], [])
    assert not runs("after")
    assert (run_of("says_failed").status, run_of("says_failed").error) == ("failed", "said so")
    assert run_of("says_cancelled").status == "cancelled"
    assert run_of("pipeline").status == "failed"
    # parameters that Prefect refuses: the flow's code has never begun
    outer = run_of("outer")
    inner, alone = runs("checked")
    assert (inner.parent, inner.status, alone.status) == (outer, "failed", "failed")
    assert "number" in inner.error
    assert inner.params == {"number": "no number"}
    assert attempts(alone)[0][:2] == (1, "failed")


def test_timeouts_fail_wherever_the_code_runs(run: Runner) -> None:
    run(
        """
        @task(timeout_seconds=0.3)
        def sync_slow():
            time.sleep(20)

        @task(timeout_seconds=0.3)
        def in_thread():
            time.sleep(0.8)

        @task(timeout_seconds=0.2)
        async def async_slow():
            await asyncio.sleep(20)

        @flow
        async def tasks():
            tried(sync_slow)
            try:
                await async_slow()
            except TimeoutError:
                pass
            tried(in_thread.submit().result)

        @flow(timeout_seconds=0.5)
        async def slow_flow():
            await asyncio.sleep(30)

        tried(asyncio.run, tasks())
        tried(asyncio.run, slow_flow())
        """,
        imports=TRYING,
    )
    for name in ("sync_slow", "in_thread", "async_slow", "slow-flow"):
        found = run_of(name)
        assert (name, found.status) == (name, "failed")
        assert found.error.startswith("TimedOut: "), found.error


def test_what_is_stopped_from_within_is_failed_or_cancelled_and_nothing_stays_started(
    run: Runner,
) -> None:
    done = run(
        """
        @task
        def leaves():
            sys.exit(3)

        @task
        def interrupted():
            raise KeyboardInterrupt

        @task
        async def long():
            await asyncio.sleep(60)

        @flow
        async def leaving():
            leaves()

        @flow
        async def interrupted_flow():
            raise KeyboardInterrupt

        @flow
        async def cancelling():
            waiting = asyncio.create_task(long())
            await asyncio.sleep(0.5)
            waiting.cancel()
            try:
                await waiting
            except asyncio.CancelledError:
                print("cancelled")

        print(repr(tried(leaves)))
        print(repr(tried(interrupted)))
        print(repr(tried(asyncio.run, leaving())))
        print(repr(tried(asyncio.run, interrupted_flow())))
        asyncio.run(cancelling())
        """,
        imports=TRYING,
    )
    printed = done.out.splitlines()
    assert printed == [
        "SystemExit(3)",
        "KeyboardInterrupt()",
        "SystemExit(3)",
        "KeyboardInterrupt()",
        "cancelled",
    ]
    alone, inside = runs("leaves")
    assert (alone.status, alone.error, alone.parent) == ("failed", "SystemExit: 3", None)
    assert (inside.status, inside.parent) == ("failed", run_of("leaving"))
    assert run_of("interrupted").status == "cancelled"
    assert run_of("leaving").status == "failed"
    assert run_of("interrupted-flow").status == "cancelled"
    assert (run_of("long").status, run_of("cancelling").status) == ("cancelled", "completed")
    assert not ln.select(ln.Run, status="started").all()


def test_a_rolled_back_transaction_marks_what_it_undid(run: Runner) -> None:
    run(
        """
        from prefect.transactions import transaction

        @task
        def write() -> Path:
            Path("undone.txt").write_text("x")
            return Path("undone.txt")

        @write.on_rollback
        def undo(txn):
            Path("undone.txt").unlink()

        @task
        async def write_too() -> Path:
            Path("undone too.txt").write_text("xx")
            return Path("undone too.txt")

        @task
        def kept() -> Path:
            Path("kept.txt").write_text("xxx")
            return Path("kept.txt")

        @flow
        async def pipeline():
            kept()
            with transaction():
                write()
                await write_too()
                raise ValueError("no")

        tried(asyncio.run, pipeline())
        print(Path("undone.txt").exists())
        """,
        imports=TRYING,
    )
    assert names(run_of("kept").outputs) == ["kept.txt"]
    for name, file in (("write", "undone.txt"), ("write_too", "undone too.txt")):
        assert run_of(name).outputs == []
        assert roles(run_of(name), "retracted") == [file]
