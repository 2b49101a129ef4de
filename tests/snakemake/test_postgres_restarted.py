"""A workflow that is recorded in a PostgreSQL database, which is restarted in the middle of it."""

import time
from collections.abc import Iterator

import pytest
from snakemake_workflows import Project, md5, wait

import lamindb as ln
from lamindb import config, instance, spool
from postgres import Server

SNAKEFILE = """
rule all:
    input: "joined.txt"

rule make:
    output: "{number}.txt"
    shell: "echo {wildcards.number} > {output}"

rule pause:
    input: expand("{number}.txt", number=range(3))
    output: touch("paused.flag")
    shell: "touch restart; while [ ! -e restarted ]; do sleep 0.05; done"

rule join:
    input: expand("{number}.txt", number=range(3)), "paused.flag"
    output: "joined.txt"
    shell: "cat {input} > {output}"
"""


@pytest.fixture
def shared(project: Project, own_postgres: Server) -> Iterator[Server]:
    code = f"import lamindb as ln; ln.setup.init('./shared', 'shared', {own_postgres.url()!r})"
    done = project.python(code)
    assert done.code == 0, done.err
    yield own_postgres
    instance.reset()


@pytest.mark.full
def test_a_server_restarted_in_the_middle_of_a_workflow_loses_nothing(
    project: Project, shared: Server
) -> None:
    project.snakefile(SNAKEFILE)
    process = project.start()
    deadline = time.monotonic() + 45
    while not (project.folder / "restart").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    shared.restart()
    (project.folder / "restarted").touch()
    done = wait(process)
    assert done.code == 0, done.err
    ln.setup.load(str(project.folder))
    assert {each.status for each in ln.select(ln.Run).all()} == {"completed"}
    joined = ln.select(ln.File, name="joined.txt").one()
    assert joined.hash == md5(project.folder / "joined.txt")
    assert {each.name for each in joined.run.inputs} == {
        "0.txt", "1.txt", "2.txt", "paused.flag",
    }  # fmt: skip
    assert ln.select(ln.Run).count() == 6  # the workflow, and five jobs that execute something
    assert {each.parent_id for each in ln.select(ln.Run).all()} == {None, joined.run.parent_id}
    assert not spool.waiting(config.configuration())
