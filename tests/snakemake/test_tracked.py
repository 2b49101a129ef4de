"""``tracked()`` in a Snakefile: keys and descriptions of outputs."""

import pytest
from snakemake_workflows import Done, Project, Records, md5

SNAKEFILE = """
from lamindb_snakemake import tracked

outputflags: tracked

rule all:
    input:
        expand("plots/{sample}.svg", sample=["a", "b"]), "made", "inner.txt", "touched.txt",
        "protected.txt", "sure.txt", "r.one", "r.two", "1.list", "2.list", "updated.txt",
        "plain.txt"

rule plot:
    output: tracked("plots/{sample}.svg", key="figures/{sample}.svg", description="QC of {sample}")
    shell: "echo {wildcards.sample} > {output}"

rule folder:
    output: tracked(directory("made"), key="folders/{name}")
    shell: "mkdir -p {output}; echo 1 > {output}/a"

rule inner:
    output: temp(tracked("inner.tmp", description="inner")), "inner.txt"
    shell: "echo i > {output[0]}; cp {output[0]} {output[1]}"

rule touched:
    output: touch(tracked("touched.txt", description="touched"))

rule is_protected:
    output: tracked(protected("protected.txt"), description="protected")
    shell: "echo p > {output}"

rule sure:
    output: tracked(ensure("sure.txt", non_empty=True), description="sure")
    shell: "echo s > {output}"

rule several:
    output: tracked(multiext("r", ".one", ".two"), key="several/{name}", description="a {ext}")
    shell: "echo 1 > {output[0]}; echo 2 > {output[1]}"

rule listed:
    output: tracked(expand("{n}.list", n=[1, 2]), description="{name} of a list")
    shell: "for each in {output}; do echo $each > $each; done"

rule updates:
    output: update(tracked("updated.txt", description="updated"))
    shell: "echo u >> {output}"

rule plain:
    input: "inner.tmp"
    output: report("plain.txt")
    shell: "cp {input} {output}"
"""


@pytest.fixture(scope="module")
def done(shared: Project) -> Done:
    shared.snakefile(SNAKEFILE)
    done = shared.snakemake()
    assert done.code == 0, done.err
    return done


@pytest.fixture
def records(shared: Project, done: Done) -> Records:
    return shared.records()


def test_an_output_with_a_key_is_copied_to_it(shared: Project, records: Records):
    for sample in "ab":
        file = records.file(f"figures/{sample}.svg")
        assert file["hash"] == md5(shared.folder / f"plots/{sample}.svg")
        assert file["description"] == f"QC of {sample}"
        assert (shared.folder / f"mydata/figures/{sample}.svg").exists()
        assert records.linked(records.job(f"plot sample={sample}"), "output") == {file["key"]}
    assert (shared.folder / "mydata/folders/made/a").exists()
    assert (shared.folder / "mydata/several/r.one").read_text() == "1\n"
    assert records.file("several/r.two")["description"] == "a two"


@pytest.mark.parametrize(
    ("key", "description"),
    [
        ("inner.tmp", "inner"),
        ("touched.txt", "touched"),
        ("protected.txt", "protected"),
        ("sure.txt", "sure"),
        ("updated.txt", "updated"),
        ("1.list", "1.list of a list"),
        ("inner.txt", None),
    ],
)
def test_other_flags_keep_their_meaning(records: Records, key: str, description: str | None):
    file = records.file(key)
    assert file["description"] == description
    assert file["hash"]


def test_adding_and_changing_it_makes_nothing_run_again(project: Project):
    plain = "rule one:\n    output: 'a.txt'\n    shell: 'echo a > {output}'\n"
    project.snakefile(plain)
    assert project.snakemake().code == 0
    added = "from lamindb_snakemake import tracked\n\n" + plain.replace(
        "'a.txt'", "tracked('a.txt', key='k.txt', description='d')"
    )
    for text in (added, added.replace("k.txt", "other.txt")):
        project.snakefile(text)
        again = project.snakemake("-n", plugin=False)
        assert again.code == 0, again.err
        assert "Nothing to be done" in again.out + again.err


@pytest.mark.parametrize("plugin", [True, pytest.param(False, marks=pytest.mark.full)])
def test_two_outputs_with_one_key_are_an_error_before_the_first_job(project: Project, plugin: bool):
    project.snakefile(
        "from lamindb_snakemake import tracked\n"
        "rule all:\n    input: 'a.txt', 'b.txt'\n"
        "rule one:\n    output: tracked('{n}.txt', key='same.txt')\n    shell: 'touch {output}'\n"
    )
    done = project.snakemake(plugin=plugin)
    assert done.code == 1
    assert "two outputs have the lamindb key 'same.txt'" in done.err
    assert not (project.folder / "a.txt").exists()
    assert project.records().runs == []


def test_a_snakefile_can_ask_to_be_recorded_itself(project: Project):
    project.snakefile(
        "from lamindb_snakemake import track\n"
        "track(workflow, exclude=['*.log'])\n"
        "rule one:\n    output: 'a.txt', 'a.log'\n    shell: 'touch {output}'\n"
    )
    for plugin in (False, True):
        done = project.snakemake("--forceall", plugin=plugin)
        assert done.code == 0, done.err
    records = project.records()
    assert len(records.jobs) == 2
    assert {run["status"] for run in records.runs} == {"completed"}
