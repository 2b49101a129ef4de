"""With and without us, a workflow ends with the same exit code and leaves the same files.

Many small workflows, each with one feature; a dozen of them in the ordinary run.
"""

import shutil
from pathlib import Path

import pytest
from snakemake_workflows import Project, new_project

MAKE = "rule make:\n    output: 'a.txt'\n    shell: 'echo a > {output}'\n"

WORKFLOWS: dict[str, str | tuple[str, str]] = {
    # --- a dozen in the ordinary run
    "script and run": """
rule one:
    output: "a.txt"
    script: "s.py"
rule two:
    input: "a.txt"
    output: "b.txt"
    run:
        shell("cp {input} {output}")
rule all:
    default_target: True
    input: "b.txt"
""",
    "failing": "rule make:\n    output: 'a.txt'\n    shell: 'echo a > {output}; exit 3'\n",
    "temp": """
rule all:
    input: "b.txt"
rule one:
    output: temp("a.tmp"), temp(directory("d"))
    shell: "echo > {output[0]}; mkdir -p {output[1]}; echo > {output[1]}/x"
rule two:
    input: "a.tmp", "d"
    output: "b.txt", temp("unneeded.tmp")
    shell: "touch {output}"
""",
    "checkpoint": """
rule all:
    input: "total.txt"
checkpoint split:
    output: directory("parts")
    shell: "mkdir -p {output}; touch {output}/1.txt {output}/2.txt"
def parts(wildcards):
    return expand("n/{i}", i=glob_wildcards(checkpoints.split.get().output[0] + "/{i}.txt").i)
rule count:
    input: "parts/{i}.txt"
    output: "n/{i}"
    shell: "cp {input} {output}"
rule total:
    input: parts
    output: "total.txt"
    shell: "ls {input} > {output}"
""",
    "shadow": "rule make:\n    output: 'a.txt'\n    shadow: 'minimal'\n"
    "    shell: 'touch rest; echo a > {output}'\n",
    "error in the Snakefile": "rule make:\n    output: 'a.txt'\n    shel: 'true'\n",
    "exception in params": "def bad(wildcards):\n    raise ValueError('no')\n"
    "rule make:\n    output: 'a.txt'\n    params: x=bad\n    shell: 'echo {params.x} > {output}'\n",
    "plain": MAKE,
    "dry run": (MAKE, "-n"),
    "touch": (MAKE, "--touch"),
    "unlock": (MAKE, "--unlock"),
    "lint": (MAKE, "--lint"),
    # --- the rest in the full run
    "missing output": ("rule make:\n    output: 'a.txt'\n    shell: 'true'\n", "--latency-wait 0"),
    "pipe": """
rule all:
    input: "b.txt"
rule one:
    output: pipe("a.fifo")
    shell: "echo 1 > {output}"
rule two:
    input: "a.fifo"
    output: "b.txt"
    shell: "cat {input} > {output}"
""",
    "retries": "rule make:\n    output: 'a.txt'\n    retries: 2\n"
    "    shell: 'echo x >> n.count; [ $(wc -l < n.count) = 3 ] && touch {output}'\n",
    "keep going": (
        "rule all:\n    input: 'a', 'b', 'c'\nrule a:\n    output: 'a'\n    shell: 'exit 1'\n"
        "rule b:\n    output: 'b'\n    shell: 'touch {output}'\n"
        "rule c:\n    input: 'a'\n    output: 'c'\n    shell: 'touch {output}'\n",
        "-k",
    ),
    "protected, touch, ensure": """
rule all:
    input: "p", "t", "e"
rule p:
    output: protected("p")
    shell: "echo > {output}"
rule t:
    output: touch("t")
rule e:
    output: ensure("e", non_empty=True)
    shell: "echo 1 > {output}"
""",
    "force all": (MAKE, "--forceall"),
    "quiet": (MAKE, "-q"),
    "print shell commands": (MAKE, "-p"),
    "list rules": (MAKE, "--list-rules"),
    "summary": (MAKE, "--summary"),
    "dag": (MAKE, "--dag"),
    "delete all output": (MAKE, "--delete-all-output"),
    "keep incomplete": (
        "rule make:\n    output: 'a.txt'\n    shell: 'echo half > {output}; exit 1'\n",
        "--keep-incomplete",
    ),
    "ensure mismatch": "rule make:\n    output: ensure('a.txt', sha256='0' * 64)\n"
    "    shell: 'echo a > {output}'\n",
    "no temp": (
        "rule all:\n    input: 'b'\nrule a:\n    output: temp('a')\n    shell: 'touch {output}'\n"
        "rule b:\n    input: 'a'\n    output: 'b'\n    shell: 'touch {output}'\n",
        "--notemp",
    ),
    "all temp": (
        "rule all:\n    input: 'b'\nrule a:\n    output: 'a'\n    shell: 'touch {output}'\n"
        "rule b:\n    input: 'a'\n    output: 'b'\n    shell: 'touch {output}'\n",
        "--all-temp",
    ),
    "until": (
        "rule b:\n    input: 'a'\n    output: 'b'\n    shell: 'touch {output}'\n"
        "rule a:\n    output: 'a'\n    shell: 'touch {output}'\n",
        "--until a",
    ),
    "omit from": (
        "rule all:\n    input: 'b'\nrule a:\n    output: 'a'\n    shell: 'touch {output}'\n"
        "rule b:\n    input: 'a'\n    output: 'b'\n    shell: 'touch {output}'\n",
        "--omit-from b",
    ),
    "service": """
rule all:
    input: "b"
rule serve:
    output: service("sock")
    shell: "touch {output}; sleep 1000"
rule use:
    input: "sock"
    output: "b"
    shell: "touch {output}"
""",
    "failing run": "rule make:\n    output: 'a'\n    run:\n        raise ValueError('no')\n",
    "failing script": "rule make:\n    output: 'a.txt'\n    script: 'bad.py'\n",
    "threads for run": (
        "rule make:\n    output: 'a'\n    run:\n        open(output[0], 'w').write('x')\n",
        "--force-use-threads",
    ),
    "missing input": "rule make:\n    input: 'nowhere'\n    output: 'a'\n"
    "    shell: 'touch {output}'\n",
    "ambiguous rules": "rule a:\n    output: '{x}.txt'\n    shell: 'touch {output}'\n"
    "rule b:\n    output: '{y}.txt'\n    shell: 'touch {output}'\nrule all:\n"
    "    default_target: True\n    input: 'q.txt'\n",
    "cyclic": "rule a:\n    input: 'b'\n    output: 'a'\n    shell: 'touch {output}'\n"
    "rule b:\n    input: 'a'\n    output: 'b'\n    shell: 'touch {output}'\n",
    "update": "rule make:\n    output: update('a.txt')\n    shell: 'echo more >> {output}'\n",
    "multiext": "rule make:\n    output: multiext('a', '.x', '.y')\n    shell: 'touch {output}'\n",
    "expand": "rule make:\n    output: expand('{i}.txt', i=[1, 2])\n    shell: 'touch {output}'\n",
    "directory": "rule make:\n    output: directory('d')\n"
    "    shell: 'mkdir {output}; touch {output}/a'\n",
    "log and benchmark": "rule make:\n    output: 'a'\n    log: 'l/a.log'\n"
    "    benchmark: 'b/a.tsv'\n    shell: 'echo 1 > {output} 2> {log}'\n",
    "config": (
        "rule make:\n    output: config['o']\n    shell: 'touch {output}'\n",
        "--config o=x",
    ),
    "handlers": "onstart:\n    shell('touch started')\nonsuccess:\n    shell('touch well')\n"
    "onerror:\n    shell('touch badly')\n" + MAKE,
    "failing handler": "onsuccess:\n    raise ValueError('no')\n" + MAKE,
    "error handler": "onerror:\n    shell('touch badly')\n"
    "rule make:\n    output: 'a.txt'\n    shell: 'exit 1'\n",
    "group": "rule make:\n    output: 'a.txt'\n    group: 'g'\n    shell: 'touch {output}'\n",
    "resources": (
        "rule make:\n    output: 'a'\n    resources: mem_mb=5\n"
        "    shell: 'echo {resources.mem_mb} > {output}'\n",
        "--resources mem_mb=10",
    ),
    "symbolic link": "rule make:\n    output: 'a'\n    shell: 'ln -s Snakefile {output}'\n",
    "blanks": "rule make:\n    output: 'a b.txt'\n    shell: 'touch {output:q}'\n",
    "working folder": "workdir: 'sub'\n" + MAKE,
    "solver": (MAKE, "--scheduler ilp"),
    "environment": "rule make:\n    output: 'a.txt'\n    shell: 'env | grep -v LAMINDB_ | grep "
    "-v RANDOM | cut -d= -f1 | sort > {output}'\n",
    "killed job": "rule make:\n    output: 'a.txt'\n    shell: 'kill -9 $$'\n",
    "tracked": "from lamindb_snakemake import tracked\nrule make:\n"
    "    output: tracked('a.txt', key='k.txt')\n    shell: 'touch {output}'\n",
    "nothing to do": "rule all:\n    input: 's.py'\n",
    "many": "rule all:\n    input: expand('n/{i}', i=range(30))\n"
    "rule make:\n    output: 'n/{i}'\n    shell: 'touch {output}'\n",
}
ORDINARY = 12


def test_there_are_enough_of_them():
    assert len(WORKFLOWS) >= 40


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new_project(tmp_path_factory.mktemp("differential") / "study")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.full] if number >= ORDINARY else [])
        for number, name in enumerate(WORKFLOWS)
    ],
)
def test_exit_code_and_files_are_those_without_us(instance: Project, name: str):
    given = WORKFLOWS[name]
    text, options = given if isinstance(given, tuple) else (given, "")
    left = []
    for plugin in (False, True):
        project = Project(instance.folder / f"{plugin}", dict(instance.environment))
        shutil.rmtree(project.folder, ignore_errors=True)
        project.folder.mkdir()
        project.snakefile(text)
        project.write(s_py="open(snakemake.output[0], 'w').write('s')\n", bad_py="1 / 0\n")
        done = project.snakemake(*options.split(), plugin=plugin)
        left.append((done.code, files(project.folder)))
    assert left[0] == left[1]


def files(folder: Path) -> dict[str, object]:
    """Everything but Snakemake's own notes: path → content, target of a link, or mode."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if ".snakemake" in name.split("/") or name.endswith((".tsv", "_timestamp")):
            continue
        mode = path.lstat().st_mode
        if path.is_symlink():
            found[name] = (mode, str(path.readlink()))
        else:
            found[name] = (mode, path.read_bytes() if path.is_file() else None)
    return found
