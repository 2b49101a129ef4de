"""Tasks in threads, processes and clusters, and flows on workers: nothing is lost."""

from __future__ import annotations

import socket

import psutil
import pytest
from prefect_scripts import PREFECT, Runner, linked, names, run_of, runs

import lamindb as ln

WORK = """
@task
def work(number: int) -> Path:
    ln.add(ln.File(write(f"added{number}.txt"), key=f"added/{number}.txt"))
    return write(f"{number}.txt")

def write(name):
    Path(name).write_text(name)
    return Path(name)

@task
def use(made: Path, big: bool = False) -> int:
    return os.getpid()

@flow(task_runner=RUNNER)
async def pipeline():
    made = work.map(list(range(4)))
    pids = use.map(made)
    use(made[0])
    print(len({os.getpid(), *pids.result()}))
    return made

if __name__ == "__main__":
    asyncio.run(pipeline())
"""


def check_work(*, knows_upstream: bool = True) -> None:
    flow = run_of("pipeline")
    assert flow.status == "completed"
    made = {each.params["number"]: each for each in runs("work")}
    assert sorted(made) == [0, 1, 2, 3]
    for number, each in made.items():
        assert (each.status, each.parent) == ("completed", flow)
        assert {file.key for file in each.outputs} == {f"{number}.txt", f"added/{number}.txt"}
    used = runs("use")
    assert sorted(name for each in used for name in names(each.inputs)) == [
        "0.txt",
        *(f"{number}.txt" for number in range(4)),
    ]
    assert {each.status for each in used} == {"completed"}
    informed_by = {other for each in used for _, other in linked(each)}
    assert informed_by == {made[number].id for number in (made if knows_upstream else [0])}
    keys = {each.transform.key for each in ln.select(ln.Run).all()}
    assert {key.rsplit("/", 1)[1] for key in keys} == {
        "flows.py:pipeline",
        "flows.py:work",
        "flows.py:use",
    }
    assert ln.select(ln.Transform).count() == 3
    for number in range(4):
        assert ln.select(ln.File, key=f"{number}.txt").one().run == made[number]


@pytest.mark.full
@pytest.mark.skipif(PREFECT == (3, 4), reason="Prefect 3.4 sends no futures to its pools")
def test_tasks_in_a_pool_of_processes(run: Runner) -> None:
    done = run(
        "from prefect.task_runners import ProcessPoolTaskRunner\n"
        "RUNNER = ProcessPoolTaskRunner(max_workers=2)\n" + WORK
    )
    assert int(done.out) >= 2
    # Prefect itself does not tell the pool from which future an item of a map comes
    check_work(knows_upstream=False)


def test_tasks_on_a_dask_cluster(run: Runner) -> None:
    done = run(
        "from prefect_dask import DaskTaskRunner\n"
        "RUNNER = DaskTaskRunner(cluster_kwargs=dict(n_workers=1, threads_per_worker=2,"
        " processes=True, dashboard_address=None))\n" + WORK
    )
    assert int(done.out) == 2
    check_work()


@pytest.mark.full
@pytest.mark.timeout(400, func_only=True)
def test_tasks_on_a_ray_cluster(run: Runner) -> None:
    pytest.importorskip("prefect_ray", reason="Ray comes with the extra 'test-full'")
    own = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET
    ]
    script = run.start(
        # a loaded machine takes longer than Ray's own 30 s
        "import os\n"
        "os.environ['RAY_raylet_start_wait_time_s'] = '300'\n"
        "from prefect_ray import RayTaskRunner\n"
        "RUNNER = RayTaskRunner(init_kwargs=dict(num_cpus=2, include_dashboard=False))\n" + WORK,
        # its processes talk to each other by the host's address, whatever they are told
        TEST_OWN_ADDRESSES=",".join(own),
    )
    assert script.wait(timeout_s=300) == 0, script.err
    assert int(script.out) >= 2
    check_work()


@pytest.mark.parametrize("count", [60, pytest.param(400, marks=pytest.mark.full)])
@pytest.mark.timeout(400, func_only=True)
def test_many_threads_and_one_sqlite_lose_nothing(run: Runner, count: int) -> None:
    script = run.start(
        """
        from prefect.task_runners import ThreadPoolTaskRunner

        @task
        def work(number: int) -> Path:
            path = Path("out") / f"{number}.txt"
            path.write_text(str(number))
            return path

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=32))
        def pipeline():
            work.map(list(range(COUNT))).wait()

        Path("out").mkdir()
        pipeline()
        """.replace("COUNT", str(count))
    )
    assert script.wait(timeout_s=380) == 0, script.err
    found = runs("work")
    assert sorted(each.params["number"] for each in found) == list(range(count))
    assert {each.status for each in found} == {"completed"}
    files = ln.select(ln.File).all()
    assert {file.name: file.run_id for file in files} == {
        f"{each.params['number']}.txt": each.id for each in found
    }
    assert len(files) == count
