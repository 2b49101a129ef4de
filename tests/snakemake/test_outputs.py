"""One workflow with outputs of every kind: which become files, and with which hash."""

import hashlib

import pytest
from snakemake_workflows import Done, Project, Records, md5

from lamindb.storage.hashing import ManifestLine, hash_bytes, manifest_digest

LONG = "/".join(["d" * 60] * 4) + "/" + "f" * 60
SNAKEFILE = f'''
LONG = "{LONG}"

rule all:
    input:
        "kept.txt", "used.txt", "folder", "from_folder.txt", "touched.txt", "protected.txt",
        "m.one", "m.two", "link.txt", "empty.txt", "with blank.txt", "größe/ünï.txt", LONG,
        "through.txt", "updated.done", "source.done", "part.txt"

rule consumed:
    output: temp("consumed.tmp")
    shell: "echo consumed > {{output}}"

rule uses:
    input: "consumed.tmp"
    output: "used.txt", temp("unconsumed.tmp")
    shell: "cat {{input}} > {{output[0]}}; echo unconsumed > {{output[1]}}"

rule temporary_folder:
    output: temp(directory("scratch"))
    shell: "mkdir -p {{output}}/deep; echo 1 > {{output}}/a; echo 2 > {{output}}/deep/b"

rule from_folder:
    input: "scratch"
    output: "from_folder.txt"
    shell: "cat {{input}}/a {{input}}/deep/b > {{output}}"

rule folder:
    output: directory("folder")
    shell: "mkdir -p {{output}}; echo 1 > {{output}}/a"

rule kept:
    output: "kept.txt"
    shell: "echo kept > {{output}}"

rule touched:
    output: touch("touched.txt")

rule is_protected:
    output: protected("protected.txt")
    shell: "echo p > {{output}}"

rule several:
    output: multiext("m", ".one", ".two")
    shell: "echo 1 > {{output[0]}}; echo 2 > {{output[1]}}"

rule linked:
    input: "kept.txt"
    output: "link.txt"
    shell: "ln -s kept.txt {{output}}"

rule empty:
    output: "empty.txt"
    shell: ": > {{output}}"

rule blank:
    output: "with blank.txt"
    shell: "echo blank > {{output:q}}"

rule unicode:
    output: "größe/ünï.txt"
    shell: "echo ü > {{output:q}}"

rule long:
    output: LONG
    shell: "echo long > {{output}}"

rule writes_pipe:
    output: pipe("stream.fifo")
    shell: "echo through > {{output}}"

rule reads_pipe:
    input: "stream.fifo"
    output: "through.txt"
    shell: "cat {{input}} > {{output}}"

rule reads_before:
    input: before_update("updated.txt")
    output: "part.txt"
    shell: "cp {{input}} {{output}}"

rule update_once:
    input: "part.txt"
    output: update("updated.txt")
    shell: "echo more >> {{output}}"

rule after_update:
    input: "updated.txt"
    output: touch("updated.done")

rule from_source:
    input: "source.dat"
    output: touch("source.done")
'''


# Snakemake puts it into each folder that is an output
STAMP = ".snakemake_timestamp"


def folder_hash(files: dict[str, bytes]) -> str:
    lines = [
        ManifestLine(name, len(content), hashlib.md5(content).hexdigest())
        for name, content in files.items()
    ]
    return manifest_digest(lines).hash


@pytest.fixture(scope="module")
def done(shared: Project) -> Done:
    shared.snakefile(SNAKEFILE)
    (shared.folder / "updated.txt").write_text("before\n")
    (shared.folder / "source.dat").write_text("raw")
    done = shared.snakemake("--quiet")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def records(shared: Project, done: Done) -> Records:
    return shared.records()


def test_a_temporary_file_is_known_by_its_hash_though_it_is_gone(shared: Project, records: Records):
    for name in ("consumed", "unconsumed"):
        assert not (shared.folder / f"{name}.tmp").exists()
        file = records.file(f"{name}.tmp")
        assert file["hash"] == hash_bytes(f"{name}\n".encode())
        assert file["size"] == len(name) + 1
    assert records.linked(records.job("uses"), "input") == {"consumed.tmp"}


def test_a_temporary_folder_is_known_by_the_hash_of_its_files(shared: Project, records: Records):
    assert not (shared.folder / "scratch").exists()
    file = records.file("scratch")
    wanted = folder_hash({STAMP: b"", "a": b"1\n", "deep/b": b"2\n"})
    assert (file["hash"], file["hash_type"]) == (wanted, "md5-d")
    assert records.linked(records.job("from_folder"), "input") == {"scratch"}


@pytest.mark.parametrize(
    "name",
    [
        *("kept.txt", "touched.txt", "protected.txt", "m.one", "m.two", "link.txt", "empty.txt"),
        *("with blank.txt", "größe/ünï.txt", LONG, "through.txt", "updated.txt"),
    ],
)
def test_an_output_has_the_hash_of_what_is_there(shared: Project, records: Records, name: str):
    assert len(LONG) > 300
    file = records.file(name)
    assert file["hash"] == md5(shared.folder / name)
    assert file["hash_note"] is None


def test_a_folder_has_the_hash_of_its_files(records: Records):
    assert records.file("folder")["hash"] == folder_hash({STAMP: b"", "a": b"1\n"})


def test_a_pipe_is_no_file(records: Records):
    assert "stream.fifo" not in {file["key"] for file in records.files}
    assert records.statuses()["writes_pipe"] == records.statuses()["reads_pipe"] == "completed"
    assert records.linked(records.job("reads_pipe"), "input") == set()
    assert records.linked(records.job("reads_pipe"), "output") == {"through.txt"}


def test_a_file_that_a_later_rule_updates_has_two_versions(records: Records):
    versions = {file["hash"]: file for file in records.files if file["key"] == "updated.txt"}
    old, new = hash_bytes(b"before\n"), hash_bytes(b"before\nmore\n")
    assert {hash: file["is_latest"] for hash, file in versions.items()} == {old: 0, new: 1}
    read = {link["file_id"]: link["run_id"] for link in records.links if link["role"] == "input"}
    assert read[versions[old]["id"]] == records.job("reads_before")["id"]
    assert read[versions[new]["id"]] == records.job("after_update")["id"]


def test_an_input_that_no_job_made_is_a_source(records: Records):
    file = records.file("source.dat")
    assert (file["run_id"], file["hash"]) == (None, hash_bytes(b"raw"))
    assert records.linked(records.job("from_source"), "input") == {"source.dat"}


def test_all_jobs_have_ended_and_the_target_rule_is_none(records: Records):
    assert set(records.statuses().values()) == {"completed"}
    assert "all" not in records.statuses()
    assert len(records.jobs) == 20
    assert not [file["key"] for file in records.files if file["hash"] is None]
