"""One workflow with what rules can be beside plain: checkpoints, services, modules, odd params."""

import pytest
from snakemake_workflows import Done, Project, Records

from lamindb.storage.hashing import hash_bytes

SNAKEFILE = """
import pandas as pd

class Odd:
    def __repr__(self):
        return "odd " * 1_000_000

module other:
    snakefile: "modules/other.smk"
    prefix: "other"

use rule * from other as other_*

rule all:
    default_target: True
    input: "total.txt", "talked.txt", "other/made.txt", "again.txt", "params.txt"

checkpoint split:
    output: directory("parts")
    shell: "mkdir -p {output}; for i in 1 2; do echo $i > {output}/$i.txt; done"

rule count:
    input: "parts/{part}.txt"
    output: temp("counts/{part}.n")
    shell: "wc -c < {input} > {output}"

def counts(wildcards):
    parts = glob_wildcards(checkpoints.split.get().output[0] + "/{part,[0-9]+}.txt").part
    return expand("counts/{part}.n", part=sorted(parts))

rule total:
    input: counts
    output: "total.txt"
    shell: "cat {input} > {output}"

rule serves:
    output: service("server.id")
    shell: "echo $$ > {output}; sleep 1000"

rule talks:
    input: "server.id"
    output: "talked.txt"
    shell: "cat {input} > /dev/null; echo talked > {output}"

rule once:
    output: "once.txt"
    shell: "echo once > {output}"

use rule once as again with:
    input: "once.txt"
    output: "again.txt"

rule odd_params:
    output: "params.txt"
    params:
        "positional",
        derived=lambda wildcards, output: output[0].upper(),
        frame=pd.DataFrame({"a": [1, 2]}),
        odd=Odd(),
        many=list(range(300_000)),
        url="https://me:hidden-1@example.org",
        password="hidden-2",
        nested={"token": "hidden-3", "n": 1},
    run:
        open(output[0], "w").write("x")
"""
MODULE = """
rule makes:
    output: "made.txt"
    shell: "echo made > {output}"
"""


@pytest.fixture(scope="module")
def done(shared: Project) -> Done:
    shared.snakefile(SNAKEFILE)
    shared.write(modules__other_smk=MODULE)
    done = shared.snakemake("--force-use-threads")
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def records(shared: Project, done: Done) -> Records:
    return shared.records()


def test_a_checkpoint_adds_jobs_that_are_recorded_like_others(records: Records):
    assert records.job("split")["details"]["checkpoint"]
    assert records.linked(records.job("count part=1"), "input") == {"parts/1.txt"}
    assert records.linked(records.job("total"), "input") == {"counts/1.n", "counts/2.n"}
    for part in (1, 2):
        assert records.file(f"counts/{part}.n")["hash"] == hash_bytes(b"2\n")


def test_a_service_is_no_file_and_ends_with_those_that_use_it(records: Records):
    assert records.statuses()["serves"] == records.statuses()["talks"] == "completed"
    assert "server.id" not in {file["key"] for file in records.files}


def test_modules_and_inherited_rules_are_transforms_of_their_own(records: Records):
    keys = {each["name"]: each["key"].rpartition("/")[2] for each in records.transforms}
    assert keys["other_makes"] == "Snakefile:other_makes"
    assert keys["once"] != keys["again"]
    assert records.linked(records.job("other_makes"), "output") == {"other/made.txt"}
    assert records.linked(records.job("again"), "input") == {"once.txt"}


def test_params_of_any_kind_are_kept_bounded_and_without_secrets(records: Records):
    params = records.job("odd_params")["params"]
    assert params["0"] == "positional"
    assert params["derived"] == "PARAMS.TXT"
    assert params["frame"] == "<DataFrame 2x1>"
    assert len(params["odd"]) < 1_000
    assert len(str(params["many"])) < 1_000
    assert params["password"] == "***"
    assert params["nested"] == {"token": "***", "n": 1}
    assert "hidden" not in str(records)


def test_new_code_is_a_new_version_and_other_changes_are_none(
    shared: Project, records: Records, done: Done
):
    def versions(found: Records) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for each in found.transforms:
            names.setdefault(each["name"], []).append(each["version"])
        return {name: sorted(found) for name, found in names.items()}

    before = versions(records)
    assert set(map(tuple, before.values())) == {("0",)}
    # moved by lines, and one of them changed
    changed = SNAKEFILE.replace("echo once >", "echo once more >").replace(
        "rule all:", "# one\n# two\n\n\nrule all:"
    )
    shared.snakefile(changed)
    targets = ("again.txt", "talked.txt", "--force-use-threads", "--forcerun", "once", "talks")
    again = shared.snakemake(*targets)
    assert again.code == 0, again.err
    after = versions(shared.records())
    assert after["once"] == after["again"] == ["0", "1"]
    assert after["talks"] == after["serves"] == ["0"]
