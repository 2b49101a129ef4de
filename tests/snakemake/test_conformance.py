"""The canonical workflow in Snakemake: the same lineage as in every other engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from snakemake_workflows import BIN

import lamindb as ln
from lamindb.testing import Conformance, Scenario, steps

SNAKEFILE = """
rule report:
    input: "stats.json", "plot.svg"
    output: "report.html"
    cache: True
    shell: "python STEPS report {input} {output}"

rule clean:
    input: "raw.csv"
    output: "clean.csv"
    params: threshold=2
    retries: RETRIES
    cache: True
    shell: "python STEPS clean {input} {output} --threshold {params.threshold}"

rule stats:
    input: "clean.csv"
    output: "stats.json"
    cache: True
    shell: "python STEPS stats {input} {output}"

rule plot:
    input: "clean.csv"
    output: "plot.svg"
    cache: True
    shell: "python STEPS plot {input} {output}"
"""
# the process that is killed with its job
START = """
import os, sys
os.environ["LAMINDB_TESTING_KILL"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""


class TestSnakemake(Conformance):
    def run(self, scenario: Scenario, folder: Path) -> None:
        text = SNAKEFILE.replace("RETRIES", "2" if scenario == "retries" else "0")
        # as a file, it imports nothing beside
        text = text.replace("STEPS", steps.__file__)
        if scenario != "cached":
            text = text.replace("    cache: True\n", "")
        (folder / "Snakefile").write_text(text)
        cores = "2" if scenario == "parallel" else "1"
        command = [str(BIN / "snakemake"), "--cores", cores, "--logger", "lamindb"]
        command += ["--scheduler", "greedy", *(["--cache"] if scenario == "cached" else [])]
        # of two jobs that are ready, either may come first
        command[1:1] = ["stats.json"] if scenario == "killed" else []
        cache = folder.parent / "cache"
        cache.mkdir()
        environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "SNAKEMAKE_OUTPUT_CACHE": str(cache),
        }
        if scenario == "nested":
            ln.track(ln.Transform("outer", type="pipeline"))
            environment["LAMINDB_RUN"] = ln.context.run.id
        for number in range(2 if scenario == "cached" else 1):
            for name in ("clean.csv", "stats.json", "plot.svg", "report.html"):
                (folder / name).unlink(missing_ok=True)
            done = subprocess.run(
                [sys.executable, "-c", START, *command],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=55,
            )
            failing = scenario in ("fails", "killed")
            assert bool(done.returncode) == failing, (number, done.stderr)
            shutil.rmtree(folder / ".snakemake")
        if scenario == "nested":
            ln.finish()
