"""One workflow with a shell, a run and a script rule: what is recorded of it."""

import pytest
from snakemake_workflows import Project, Records, md5, wait

SNAKEFILE = '''
configfile: "config.yaml"

rule all:
    input: "out/b.txt", "out/c.txt"

rule by_shell:
    'Echo a wildcard.'
    output: "out/{letter}.raw"
    params: k=3, api_token="hidden-1"
    log: "logs/{letter}.log"
    benchmark: "bench/{letter}.tsv"
    threads: 2
    resources: mem_mb=100
    shell:
        """
        echo {wildcards.letter} $LAMINDB_RUN > {output} 2> {log}
        echo --token=hidden-2 > /dev/null
        """

rule by_run:
    input: "out/a.raw"
    output: "out/b.txt"
    run:
        import lamindb as ln
        with open(output[0], "w") as stream:
            stream.write(f"{ln.context.run.id} ")
        shell("echo $LAMINDB_RUN >> {output}")

rule by_script:
    input: raw="out/a.raw"
    output: "out/c.txt"
    params: doubled=lambda wildcards: [1, 2]
    script: "scripts/make.py"
'''
SCRIPT = """
import lamindb as ln
run = ln.track()
ln.add(ln.File(snakemake.input.raw, key="copies/a.raw"))
with open(snakemake.output[0], "w") as stream:
    stream.write(run.id)
"""


@pytest.fixture(scope="module")
def done(shared: Project):
    shared.snakefile(SNAKEFILE)
    shared.write(config_yaml="colour: blue\npassword: hidden-3\n", scripts__make_py=SCRIPT)
    # the one that is run as a user does, and not in a process that has imported everything
    done = wait(shared.start())
    assert done.code == 0, done.err
    return done


@pytest.fixture
def records(shared: Project, done) -> Records:
    return shared.records()


def test_the_workflow_is_a_run_and_each_job_is_a_run_beneath_it(records: Records):
    workflow = records.workflow
    assert (workflow["status"], workflow["engine"], workflow["error"]) == (
        "completed",
        "snakemake",
        None,
    )
    assert workflow["params"] == {"colour": "blue", "password": "***"}
    assert records.statuses() == {
        "by_shell letter=a": "completed",
        "by_run": "completed",
        "by_script": "completed",
    }
    assert {run["parent_id"] for run in records.jobs} == {workflow["id"]}
    assert all(run["started_at"] and run["finished_at"] for run in records.runs)


def test_a_run_is_named_after_the_workflow_and_the_job(records: Records):
    from lamindb.hooks import run_id

    workflow_id = records.workflow["reference"]
    assert records.workflow["id"] == run_id("snakemake", workflow_id)
    for run in records.jobs:
        assert run["reference"] == f"{workflow_id}/{run['details']['jobid']}"
        assert run["id"] == run_id("snakemake", run["reference"])


def test_files_are_linked_and_have_the_hashes_of_what_is_there(shared: Project, records: Records):
    shell, run, script = (records.job(name) for name in ("by_shell", "by_run", "by_script"))
    assert records.linked(shell, "output") == {"out/a.raw"}
    assert records.linked(shell, "input") == set()
    assert records.linked(run, "input") == records.linked(script, "input") == {"out/a.raw"}
    assert records.linked(run, "output") == {"out/b.txt"}
    assert records.linked(script, "output") == {"out/c.txt", "copies/a.raw"}
    for key in ("out/a.raw", "out/b.txt", "out/c.txt"):
        assert records.file(key)["hash"] == md5(shared.folder / key)
    assert {link["how"] for link in records.links if link["role"] == "input"} == {"declared"}


def test_what_snakemake_knows_of_a_job_is_kept_without_its_secrets(records: Records):
    run = records.job("by_shell")
    details = run["details"]
    assert run["params"] == {"k": 3, "api_token": "***"}
    assert records.job("by_script")["params"] == {"doubled": [1, 2]}
    assert details["wildcards"] == {"letter": "a"}
    assert details["threads"] == 2
    assert details["resources"]["mem_mb"] == 100
    assert details["log"] == ["logs/a.log"]
    assert details["benchmark"] == "bench/a.tsv"
    assert "echo a $LAMINDB_RUN > out/a.raw" in details["shell"]
    assert "out/a.raw" in details["reason"]
    assert records.job("by_script")["details"]["script"].endswith("scripts/make.py")
    assert "hidden-" not in str(records)


def test_a_rule_is_a_transform(records: Records):
    transforms = {transform["name"]: transform for transform in records.transforms}
    assert set(transforms) == {"study", "by_shell", "by_run", "by_script"}
    assert transforms["by_shell"]["title"] == "Echo a wildcard."
    assert transforms["by_shell"]["key"].endswith("/Snakefile:by_shell")
    assert transforms["by_script"]["type"] == "script"
    assert {transform["version"] for transform in transforms.values()} == {"0"}


def test_the_code_of_a_job_knows_its_run(shared: Project, records: Records):
    read = {
        name: (shared.folder / f"out/{name}").read_text() for name in ("a.raw", "b.txt", "c.txt")
    }
    assert read["a.raw"] == f"a {records.job('by_shell')['id']}\n"
    assert read["b.txt"].split() == [records.job("by_run")["id"]] * 2
    assert read["c.txt"] == records.job("by_script")["id"]
