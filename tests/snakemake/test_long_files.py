"""Temporary files that are gone long before they can be read, and code in notebooks."""

import hashlib
import os
import threading
from base64 import urlsafe_b64encode
from pathlib import Path

import nbformat
import pytest
from snakemake_workflows import Project, md5, wait

from lamindb.hooks import FileStat
from lamindb.storage.hashing import hash_bytes
from lamindb_snakemake import contents
from lamindb_snakemake.contents import Content, Held, Holder, read_unchanged

NOTEBOOK = """
rule make:
    output: "out.txt"
    notebook: "make.ipynb"
"""
LARGE = """
rule all:
    input: "used.txt"

rule makes:
    output: temp("large.bin"), temp("unneeded.bin")
    shell: "head -c {size} /dev/zero > {{output[0]}}; head -c {size} /dev/zero > {{output[1]}}"

rule uses:
    input: "large.bin"
    output: "used.txt"
    shell: "wc -c < {{input}} > {{output}}"
"""
# every read of our thread takes as long as on a slow disk
SLOW = """
import os, sys, time
from lamindb_snakemake import contents
real = contents.os.pread
class Slow:
    def __getattr__(self, name):
        return getattr(os, name)
    def pread(self, *arguments):
        time.sleep(SECONDS)
        return real(*arguments)
contents.os = Slow()
from snakemake.cli import main
main([*sys.argv[1:], "--cores", "1", "--logger", "lamindb"])
"""


def zeros(size: int) -> str:
    return urlsafe_b64encode(hashlib.md5(bytes(size)).digest()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("size", "pause"),
    [
        (4 << 20, 0.02),
        pytest.param(600 << 20, 0.001, marks=[pytest.mark.full, pytest.mark.timeout(300)]),
    ],
)
def test_a_large_temporary_file_on_a_slow_disk_has_its_hash(
    project: Project, size: int, pause: float
):
    project.snakefile(LARGE.format(size=size))
    done = project.python(SLOW.replace("SECONDS", str(pause)), timeout_s=280)
    assert done.code == 0, done.err
    records = project.records()
    for name in ("large.bin", "unneeded.bin"):
        assert not (project.folder / name).exists()
        file = records.file(name)
        assert (file["hash"], file["size"]) == (zeros(size), size)
    assert records.linked(records.job("uses"), "input") == {"large.bin"}


def test_a_file_that_changes_while_it_is_read_is_marked(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(1 << 20))
    held = Holder().hold(str(path))
    assert isinstance(held, Held)
    reads, real = [], os.pread

    def pread(descriptor: int, count: int, offset: int) -> bytes:
        reads.append(offset)
        if len(reads) == 2:
            with path.open("r+b") as stream:
                stream.write(b"other")
            os.utime(path, ns=(1, 1))
        return real(descriptor, count, offset)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(contents.os, "pread", pread)
        content = held.read()
    assert (content.hash, content.note) == (None, contents.CHANGED)


def test_a_file_that_the_next_job_links_or_guards_before_it_is_read_has_its_hash(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("left by a job")
    seen = FileStat.of(path)
    assert seen is not None
    (tmp_path / "link.txt").hardlink_to(path)
    path.chmod(0o440)
    content = read_unchanged(str(path), seen)
    assert content is not None
    assert content.hash == md5(path)
    path.chmod(0o640)
    path.write_text("of a later job")
    assert read_unchanged(str(path), seen) is None


def test_beyond_a_number_of_held_files_they_are_read_at_once(tmp_path: Path):
    holder = Holder(most=2)
    found = []
    for number in range(4):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes([number]))
        found.append(holder.hold(str(path)))
        path.unlink()
    assert [isinstance(each, Held) for each in found] == [True, True, False, False]
    contents_ = [each.read() if isinstance(each, Held) else each for each in found]
    assert [each.hash for each in contents_] == [hash_bytes(bytes([n])) for n in range(4)]
    # what was let go makes room again
    path = tmp_path / "next"
    path.write_bytes(b"x")
    again = holder.hold(str(path))
    assert isinstance(again, Held)
    again.close()


def test_holding_in_threads_loses_no_descriptor(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    holder, found = Holder(), []

    def work() -> None:
        for _ in range(50):
            held = holder.hold(str(path))
            found.append(held.read() if isinstance(held, Held) else held)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Content(hash_bytes(b"a"), "md5", 1)] * 200
    assert holder._count == 0


@pytest.mark.full
def test_a_notebook_knows_the_run_of_its_job(project: Project):
    cell = "import lamindb as ln\nrun = ln.track()\nopen(snakemake.output[0], 'w').write(run.id)\n"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "p"}
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, project.folder / "make.ipynb")
    project.snakefile(NOTEBOOK)
    done = wait(project.start())
    assert done.code == 0, done.err
    records = project.records()
    assert (project.folder / "out.txt").read_text() == records.job("make")["id"]
    assert {each["type"] for each in records.transforms} == {"pipeline", "notebook"}
    assert len(records.runs) == 2


def test_the_past_of_a_file_goes_from_one_engine_to_the_next(project: Project):
    plain = project.python(
        "import lamindb as ln\n"
        "ln.track(ln.Transform('measure', type='script'))\n"
        "open('raw.txt', 'w').write('raw')\n"
        "ln.add(ln.File('raw.txt', key='raw.txt'))\n"
        "ln.finish()\n"
    )
    assert plain.code == 0, plain.err
    project.snakefile(
        "rule report:\n    input: 'raw.txt'\n    output: 'report.txt'\n"
        "    shell: 'cp {input} {output}'\n"
    )
    assert project.snakemake().code == 0
    shown = project.python("import sys\nfrom lamindb.cli import main\nmain(['show', 'report.txt'])")
    tree = shown.out[shown.out.index("comes from") :]
    assert tree.index("by report") < tree.index("raw.txt") < tree.index("by measure")
