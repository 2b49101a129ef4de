"""Jobs on nodes that share nothing with the submitting host but the code: their files are in S3."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from snakemake_workflows import BIN, Project

import lamindb as ln
from lamindb.storage.hashing import hash_bytes

SNAKEFILE = """
rule all:
    input: "last.txt"

rule first:
    input: "source.txt"
    output: "first.txt", temp("gone.txt")
    shell: "cat {input} > {output[0]}; echo gone > {output[1]}"

rule last:
    input: "first.txt", "gone.txt"
    output: "last.txt"
    script: "last.py"
"""
SCRIPT = """
import os
import lamindb as ln
assert ln.track().id
with open(snakemake.output[0], "w") as out:
    out.write(open(snakemake.input[0]).read() + os.environ["NODE"] + " " + ln.context.run.id)
"""
SUBMIT = """#!/bin/sh
id=job$$
cp "$1" "queue/$id.tmp" && mv "queue/$id.tmp" "queue/$id.job" && echo $id
"""
STATUS = """#!/bin/sh
if [ -e "queue/$1.0" ]; then echo success
elif ls "queue/$1."[1-9]* > /dev/null 2>&1; then echo failed
else echo running; fi
"""
OPTIONS = (
    *("--executor", "cluster-generic", "--jobs", "2", "--seconds-between-status-checks", "1"),
    *("--cluster-generic-submit-cmd", "./submit.sh", "--cluster-generic-status-cmd", "./status.sh"),
    *("--default-storage-provider", "s3", "--latency-wait", "5"),
    *("--shared-fs-usage", "persistence", "sources", "source-cache", "software-deployment"),
)


class Scheduler:
    """Starts each job that is queued, in the environment of a node."""

    def __init__(self, queue: Path, environment: dict[str, str]) -> None:
        self._queue, self._environment = queue, environment
        self._is_over = False
        self.started: list[str] = []
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        running: dict[str, subprocess.Popen[bytes]] = {}
        while not self._is_over or running:
            for job in self._queue.glob("*.job"):
                script = job.rename(job.with_suffix(".sh"))
                self.started.append(script.stem)
                with job.with_suffix(".log").open("wb") as log:
                    running[script.stem] = subprocess.Popen(
                        ["sh", str(script)],
                        env=self._environment,
                        cwd="/",
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
            for name, process in list(running.items()):
                if process.poll() is not None:
                    (self._queue / f"{name}.{process.returncode}").touch()
                    del running[name]
            time.sleep(0.05)

    def stop(self) -> None:
        self._is_over = True
        self.thread.join()

    @property
    def logs(self) -> str:
        return "".join(log.read_text() for log in sorted(self._queue.glob("*.log")))


@contextmanager
def scheduler(project: Project, node: Path, **told: str) -> Iterator[Scheduler]:
    node.mkdir()
    (project.folder / "queue").mkdir()
    project.write(submit_sh=SUBMIT, status_sh=STATUS)
    for name in ("submit.sh", "status.sh"):
        (project.folder / name).chmod(0o755)
    environment = {
        "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "HOME": str(node),
        "TMPDIR": str(node),
        "NODE": "node7",
        "LAMINDB_HOST": "node7",
        "LAMINDB_USER": "testuser",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        **told,
    }
    running = Scheduler(project.folder / "queue", environment)
    running.thread.start()
    try:
        yield running
    finally:
        running.stop()


def run_on_nodes(project: Project, bucket: str, node: Path, **told: str) -> None:
    """Run the workflow with what ``told`` says in the environment of all hosts."""
    name = bucket.removeprefix("s3://")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=name, Key="wf/source.txt", Body=b"source\n")
    project.snakefile(SNAKEFILE)
    project.write(last_py=SCRIPT)
    with scheduler(project, node, **told) as nodes:
        done = project.snakemake(
            *OPTIONS,
            *("--default-storage-prefix", f"{bucket}/wf"),
            *("--remote-job-local-storage-prefix", str(node / "local")),
            SNAKEMAKE_STORAGE_S3_ENDPOINT_URL=os.environ["AWS_ENDPOINT_URL"],
            SNAKEMAKE_STORAGE_S3_ACCESS_KEY="testing",
            SNAKEMAKE_STORAGE_S3_SECRET_KEY="testing",
            **told,
        )
        assert done.code == 0, done.err + nodes.logs
    assert len(nodes.started) == 2
    # the submitting host has never had them
    assert not list(project.folder.rglob("first.txt"))
    body = client.get_object(Bucket=name, Key="wf/last.txt")["Body"].read().decode()
    assert body.startswith("source\nnode7 ")
    check(bucket, body)


def check(bucket: str, body: str) -> None:
    runs = {run.name: run for run in ln.select(ln.Run).all()}
    first, last = runs["first"], runs["last"]
    assert {run.status for run in runs.values()} == {"completed"}
    assert last.id == body.split()[-1]
    found = {file.source_uri: (file.hash, file.hash_note) for file in ln.select(ln.File).all()}
    assert found == {
        f"{bucket}/wf/source.txt": (hash_bytes(b"source\n"), None),
        f"{bucket}/wf/first.txt": (hash_bytes(b"source\n"), None),
        f"{bucket}/wf/gone.txt": (hash_bytes(b"gone\n"), None),
        f"{bucket}/wf/last.txt": (hash_bytes(body.encode()), None),
    }

    def names(files: Any) -> list[str]:
        return sorted(file.name for file in files)

    assert (names(first.inputs), names(first.outputs)) == (
        ["source.txt"],
        ["first.txt", "gone.txt"],
    )
    assert (names(last.inputs), names(last.outputs)) == (["first.txt", "gone.txt"], ["last.txt"])
    [result] = last.outputs
    assert {first.id, last.id} <= set(ln.lineage(result).upstream()["run_id"])


@pytest.mark.full
def test_files_of_jobs_that_only_s3_and_the_nodes_have(
    project: Project, bucket: str, tmp_path: Path
):
    ln.setup.load(str(project.folder))
    run_on_nodes(project, bucket, tmp_path / "node")


@pytest.mark.full
@pytest.mark.timeout(200, func_only=True)
def test_nodes_that_are_told_of_postgres_and_s3_by_their_environment(
    project: Project, bucket: str, tmp_path: Path, postgres: Any
):
    url = postgres.database()
    ln.setup.init(storage=f"{bucket}/records", db=url)
    told = {"LAMINDB_STORAGE": f"{bucket}/records", "LAMINDB_DB": url}
    run_on_nodes(project, bucket, tmp_path / "node", **told)
