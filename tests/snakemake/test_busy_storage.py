"""An instance on S3 that does not answer while a workflow runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_workflows import Project

import lamindb as ln
from fault_proxy import faulty
from lamindb.storage.hashing import hash_bytes

LAMIN = [sys.executable, "-m", "lamindb"]
SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"

rule makes:
    output: "a.txt"
    shell: "echo a > {output}"

rule uses:
    input: "a.txt"
    output: "b.txt"
    shell: "cat {input} {input} > {output}"
"""


@pytest.mark.full
def test_copies_wait_for_a_storage_that_does_not_answer(
    project: Project, bucket: str, s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import s3fs

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with faulty(s3) as proxy:
        project.environment["AWS_ENDPOINT_URL"] = proxy.url
        project.environment["AWS_MAX_ATTEMPTS"] = "1"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            project.environment[name] = os.environ[name]
        made = subprocess.run(
            [*LAMIN, "init", "--storage", bucket, "--db", f"sqlite:///{tmp_path}/records.sqlite"],
            cwd=project.folder,
            env=project.environment,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        project.snakefile(SNAKEFILE)
        proxy.fault("busy", times=None)
        done = project.snakemake("--logger-lamindb-copy")
        assert done.code == 0, done.err
        assert (project.folder / "b.txt").read_text() == "a\na\n"
        assert "cannot be reached, or its server is too busy" in done.err
    s3fs.S3FileSystem.clear_instance_cache()
    ln.setup.init(storage=bucket, db=f"sqlite:///{tmp_path / 'records.sqlite'}")
    files = {file.name: file for file in ln.select(ln.File).all()}
    assert files.keys() == {"a.txt", "b.txt"}
    for name, content in {"a.txt": b"a\n", "b.txt": b"a\na\n"}.items():
        assert files[name].hash == hash_bytes(content)
        assert files[name].path().read_bytes() == content
    assert files["b.txt"].run.inputs == [files["a.txt"]]
