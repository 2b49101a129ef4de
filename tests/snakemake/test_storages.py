"""Files in a storage of Snakemake's: a folder, and S3."""

import os
import shutil
from importlib.metadata import version

import boto3
import pytest
from snakemake_workflows import Project

from lamindb.storage.hashing import hash_bytes

SNAKEFILE = """
storage:
    provider="fs",

rule all:
    input: storage.fs("far/kept.txt"), "here.txt"

rule makes:
    input: storage.fs("far/source.txt")
    output: storage.fs("far/unneeded.txt"), storage.fs("far/kept.txt")
    shell: "cp {input} {output[0]}; echo kept > {output[1]}"

rule reads:
    input: storage.fs("far/source.txt")
    output: "here.txt"
    shell: "cp {input} {output}"
"""
S3 = """
rule all:
    input: storage.s3("s3://BUCKET/kept.txt")

rule makes:
    input: storage.s3("s3://BUCKET/source.txt")
    output: storage.s3("s3://BUCKET/unneeded.txt"), storage.s3("s3://BUCKET/kept.txt")
    shell: "cp {input} {output[0]}; echo kept > {output[1]}"
"""


def check(records, key_of) -> None:
    hashes = {file["key"]: (file["hash"], file["hash_note"]) for file in records.files}
    source, kept = hash_bytes(b"source\n"), hash_bytes(b"kept\n")
    assert hashes[key_of("source.txt")] == (source, None)
    assert hashes[key_of("unneeded.txt")] == (source, None)
    assert hashes[key_of("kept.txt")] == (kept, None)
    run = records.job("makes")
    assert records.linked(run, "input") == {key_of("source.txt")}
    assert records.linked(run, "output") == {key_of("unneeded.txt"), key_of("kept.txt")}


# the storage plugin calls rsync, which is not on every machine: all that it asks for is a copy
RSYNC = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec cp -p "$1" "$2"
"""


@pytest.mark.skipif(
    version("snakemake-storage-plugin-fs") < "1.1" and shutil.which("rsync") is None,
    reason="this version of Snakemake's fs storage needs rsync",
)
def test_files_in_a_folder_that_is_a_storage_are_known_by_their_place_there(project: Project):
    project.snakefile(SNAKEFILE)
    project.write(far__source_txt="source\n")
    if shutil.which("rsync") is None:
        project.write(tools__rsync=RSYNC)
        (project.folder / "tools/rsync").chmod(0o755)
        project.environment["PATH"] += f"{os.pathsep}{project.folder / 'tools'}"
    done = project.snakemake()
    assert done.code == 0, done.err
    records = project.records()
    check(records, lambda name: f"far/{name}")
    assert not [file["key"] for file in records.files if ".snakemake" in file["key"]]
    assert records.linked(records.job("reads"), "input") == {"far/source.txt"}


def test_files_in_s3_are_known_by_their_url_and_hashed_here(
    project: Project, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    name = bucket.removeprefix("s3://")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=name, Key="source.txt", Body=b"source\n")
    project.snakefile(S3.replace("BUCKET", name))
    done = project.snakemake(
        SNAKEMAKE_STORAGE_S3_ENDPOINT_URL=os.environ["AWS_ENDPOINT_URL"],
        SNAKEMAKE_STORAGE_S3_ACCESS_KEY="testing",
        SNAKEMAKE_STORAGE_S3_SECRET_KEY="testing",
    )
    assert done.code == 0, done.err
    records = project.records()
    check(records, lambda key: key)
    assert {file["source_uri"] for file in records.files} == {
        f"s3://{name}/{key}" for key in ("source.txt", "unneeded.txt", "kept.txt")
    }
    assert "testing" not in str(records.runs) + str(records.files)
