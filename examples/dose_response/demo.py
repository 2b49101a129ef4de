"""Run the dose-response analysis in the current folder, and look at what was recorded.

mkdir demo && cd demo && python path/to/examples/dose_response/demo.py
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lamindb as ln

ANALYSIS = str(Path(sys.argv[0]).with_name("analysis.py"))
HERE = Path.cwd()
# your own Prefect, its server and its settings, stay out of it
PREFECT = {
    "PREFECT_HOME": str(HERE / "work" / "prefect-home"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def main() -> None:
    print("Dose response: from three plates to a report, every step recorded.")
    print(f"Made in {HERE}: ./mydata (records and files) and ./work (scratch).\n")

    heading("1  An instance in this folder")
    set_up()

    heading("2  The analysis: five steps, each a tracked run")
    run(python(ANALYSIS))

    heading("3  What was recorded")
    for table in ("files", "runs", "transforms"):
        run(lamin(table))

    heading("4  Where the report comes from, back to the raw plates")
    run(lamin("show", "assay/report.html"))

    if importlib.util.find_spec("snakemake"):
        heading("5  The same analysis in Snakemake, which records itself")
        run(snakemake())
        run(lamin("show", "snakemake/report.html"))

    if importlib.util.find_spec("prefect"):
        heading("6  The same analysis in Prefect, with a server of its own for this folder")
        run(python(str(Path(ANALYSIS).with_name("flow.py"))))
        run(lamin("runs", "--tree", "--limit", "6"))

    heading("Next, in this folder")
    tries = {
        "its lineage as a page for the browser, which can be mailed": lamin(
            "lineage", "assay/report.html", "--html", "lineage.html"
        ),
        "leave out more wells, then ask again where the report comes from": python(
            ANALYSIS, "--max-z", "2.5"
        ),
        "files, runs and their lineage in the browser": lamin("serve"),
    }
    for why, command in tries.items():
        print(f"  {shown(command)}\n      {why}")


def set_up() -> None:
    print('>>> ln.setup.init(storage="./mydata")\n', flush=True)
    before = os.environ.get("LAMINDB_CONFIG_DIR")
    # Your own list of instances stays as it is: commands find this one by its folder
    with tempfile.TemporaryDirectory() as nowhere:
        os.environ["LAMINDB_CONFIG_DIR"] = nowhere
        ln.setup.init(storage="./mydata")
    del os.environ["LAMINDB_CONFIG_DIR"]
    if before is not None:
        os.environ["LAMINDB_CONFIG_DIR"] = before


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def snakemake() -> list[str]:
    # in threads: a process for each of four short jobs would take longer than they do
    options = ["--cores", "2", "--force-use-threads", "--quiet", "all", "--logger", "lamindb"]
    return python("-m", "snakemake", "-s", str(Path(ANALYSIS).with_name("Snakefile")), *options)


def lamin(*arguments: str) -> list[str]:
    return python("-m", "lamindb", *arguments)


def shown(command: list[str]) -> str:
    """Return a command as one would type it here: by its short name if that finds the same."""
    short = {"lamin": command[3:]} if command[1:3] == ["-m", "lamindb"] else {}
    short |= {"python": command[1:], "python3": command[1:]}
    for name, rest in short.items():
        found = shutil.which(name)
        if found and Path(found).parent == Path(sys.executable).parent:
            return shlex.join([name, *rest])
    return shlex.join(command)


def run(command: list[str]) -> None:
    print(f"$ {shown(command)}", flush=True)
    own = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(command, check=False, env={**own, **PREFECT})
    print(flush=True)
    if done.returncode:
        sys.exit(f"the demo stops here: that command ended with code {done.returncode}")


def heading(text: str) -> None:
    print(f"{text}\n{'-' * len(text)}")


if __name__ == "__main__":
    main()
