"""Flows with tasks and runs in other processes: PostgreSQL, S3 and environment variables alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from prefect_scripts import Runner, linked, run_of, runs

import lamindb as ln

FLOWS = """
from prefect_dask import DaskTaskRunner

CLUSTER = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)

@task
def make(number: int):
    time.sleep(0.3)  # or one worker does it all
    path = Path(f"part{number}.txt")
    path.write_text(f"{number} {os.getpid()}\\n")
    return ln.add(ln.File(path, key=f"parts/{path.name}"))

@task
def use(part) -> str:
    time.sleep(0.3)
    return f"{part.load().split()[1]} {os.getpid()}"

@task
def merge(parts, told):
    path = Path("all.txt")
    path.write_text("".join(part.load() for part in parts))
    return ln.add(ln.File(path, key="all.txt"))

@flow(task_runner=DaskTaskRunner(cluster_kwargs=CLUSTER))
def pipeline(count: int = 4):
    parts = make.map(list(range(count)))
    told = use.map(parts)
    merged = merge.submit(parts, told)
    merged.wait()
    print("workers", *sorted({pid for each in told.result() for pid in each.split()}), flush=True)
    return merged.result()
"""


@pytest.fixture
def shared(postgres: Any, bucket: str, run: Runner, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that is told of an instance by nothing else."""
    url = postgres.database()
    ln.setup.close()
    ln.setup.init(storage=bucket, db=url)
    empty = tmp_path / "no-configuration"
    empty.mkdir()
    told = {"LAMINDB_STORAGE": bucket, "LAMINDB_DB": url, "LAMINDB_CONFIG_DIR": str(empty)}
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return told | aws | {"LAMINDB_CACHE_DIR": str(tmp_path / "cache")}


def check(workers: str, count: int = 4) -> None:
    assert len(workers.split()) == 2
    flow = run_of("pipeline")
    assert (flow.status, flow.params) == ("completed", {"count": count})
    made = {each.params["number"]: each for each in runs("make")}
    assert sorted(made) == list(range(count))
    for number, each in made.items():
        assert (each.status, each.parent) == ("completed", flow)
        [part] = each.outputs
        assert part.key == f"parts/part{number}.txt"
        assert part.path().read_text().split()[1] in workers
    used = runs("use")
    assert {each.status for each in used} == {"completed"}
    assert sorted(file.key for each in used for file in each.inputs) == [
        f"parts/part{number}.txt" for number in range(count)
    ]
    assert {other for each in used for _, other in linked(each)} == {
        each.id for each in made.values()
    }
    merge = run_of("merge")
    [merged] = merge.outputs
    assert len(merge.inputs) == count
    upstream = ln.lineage(merged).upstream()
    assert {merge.id, *(each.id for each in made.values())} <= set(upstream["run_id"])
    assert {file.storage.root for file in ln.select(ln.File).all() if file.key == "all.txt"} == {
        ln.setup.settings.storage.root_as_str
    }
    assert {run.status for run in ln.select(ln.Run).all()} == {"completed"}


@pytest.mark.full
@pytest.mark.timeout(150, func_only=True)
def test_tasks_on_two_dask_workers_with_postgres_and_s3(
    run: Runner, shared: dict[str, str]
) -> None:
    script = run.start(FLOWS + '\nif __name__ == "__main__":\n    pipeline()\n', **shared)
    assert script.wait(timeout_s=120) == 0, script.out + script.err
    check(script.out.partition("workers")[2])


@pytest.mark.full
@pytest.mark.timeout(300, func_only=True)
def test_a_deployment_that_a_worker_process_serves(run: Runner, shared: dict[str, str]) -> None:
    served = run.process(
        FLOWS + '\nif __name__ == "__main__":\n    pipeline.serve(name="worker", limit=2)\n',
        **shared,
    )
    found = wait(
        lambda: run.server.ask("deployments/filter", deployments={"name": {"any_": ["worker"]}})
    )
    path = f"deployments/{found[0]['id']}/create_flow_run"
    flow_run = run.server.ask(path, parameters={"count": 3})["id"]

    def ended() -> bool:
        state = run.server.ask(f"flow_runs/{flow_run}")["state"]["type"]
        assert state not in ("FAILED", "CRASHED"), served.out
        return bool(state == "COMPLETED")

    wait(ended)
    # its process closes the cluster, and is not to be ended while it does
    wait(lambda: "Finished in state Completed" in served.out.rpartition("workers")[2])
    wait(lambda: run_of("pipeline").status != "started")
    time.sleep(2)
    served.stop()
    workers = served.out.partition("workers")[2].splitlines()[0]
    assert ln.select(ln.Run).count() == 1 + 3 + 3 + 1
    check(workers, 3)
    assert flow_run in str(run_of("pipeline").reference)


POOLED = """
import subprocess

@task
def make(number: int) -> Path:
    path = Path("pooled.txt")
    path.write_text(f"{number}\\n")
    return path.resolve()

@flow
def pooled(number: int) -> Path:
    return make(number)

if __name__ == "__main__":
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    subprocess.run([*prefect, "work-pool", "create", "lab", "--type", "process"], check=True)
    here = Path(__file__).resolve()
    loaded = flow.from_source(str(here.parent), f"{here.name}:pooled")
    loaded.deploy("nightly", work_pool_name="lab")
    os.execv(sys.executable, [*prefect, "worker", "start", "--pool", "lab"])
"""


@pytest.mark.full
@pytest.mark.timeout(300, func_only=True)
def test_a_worker_of_a_pool_runs_a_deployment(run: Runner, shared: dict[str, str]) -> None:
    worker = run.process(POOLED, **shared)
    found = wait(
        lambda: run.server.ask("deployments/filter", deployments={"name": {"any_": ["nightly"]}})
    )
    flow_run = run.server.ask(
        f"deployments/{found[0]['id']}/create_flow_run", parameters={"number": 7}
    )["id"]
    wait(lambda: (made := runs("pooled")) and made[0].status != "started")
    worker.stop()
    flow, task = run_of("pooled"), run_of("make")
    assert (flow.status, flow.params) == ("completed", {"number": 7}), worker.out
    assert flow.reference == flow_run
    assert flow.details["prefect"]["deployment"] == found[0]["id"]
    assert flow.details["prefect"]["work_pool"] == "lab"
    assert task.parent == flow
    assert [file.name for file in task.outputs] == ["pooled.txt"]


def wait(ask: Any, timeout_s: float = 120) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found
