"""Every chore of this repository: ``python dev.py demo | test | lint | docs``.

The first start makes ``.venv`` beside this file and installs the project into it; later
ones do so only when pyproject.toml has changed. The chore then runs with that Python.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - whichever Python is at hand reads this file
    sys.exit(f"dev.py needs Python 3.11 or newer, not {sys.version.split()[0]}: python3.11 dev.py")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.sha256"
# where PYTHONDONTWRITEBYTECODE is set, each of a thousand processes would compile all it imports
UV_INSTALL = (PYTHON, "-m", "uv", "pip", "install", "--compile-bytecode")
# what `test --full` also runs with: name → arguments of `uv pip install`
MATRIX = {
    # what is not asked for directly is the newest: of these, older ones that fit
    "lowest": [
        "--resolution",
        "lowest-direct",
        "pyparsing>=3.1,<3.3",
        "pydantic-settings>=2.5,<2.11",
    ],
    # from 9.17 on, Snakemake needs SQLAlchemy 2.0
    "snakemake-newest": ["snakemake>=9.17", "sqlalchemy<2.1", "pandas<3"],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py", description="The chores of this repository.")
    chores = parser.add_subparsers(dest="chore", metavar="CHORE")
    chores.add_parser("demo", help="run the example study in a fresh temporary folder")
    tests = chores.add_parser(
        "test",
        help="run the tests; what dev.py does not know goes to pytest",
        usage="dev.py test [--full] [-h] [pytest's arguments ...]",
        allow_abbrev=False,
    )
    tests.add_argument("--full", action="store_true", help="the long and heavy tests too")
    chores.add_parser("lint", help="check style, format and types")
    chores.add_parser("docs", help="write the generated pages of docs/")
    chosen, rest = parser.parse_known_args()
    if rest and chosen.chore != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if chosen.chore is None:
        parser.print_help()
        return 0
    install()
    if chosen.chore == "demo":
        return demo()
    if chosen.chore == "test":
        return test(rest, full=chosen.full)
    if chosen.chore == "lint":
        return lint()
    return run("docs/generate.py") or run("docs/lineage_guide.py")


def demo() -> int:
    folder = tempfile.mkdtemp(prefix="lamindb-demo-")
    print(f"the demo's files stay in {folder}", flush=True)
    return run(ROOT / "examples" / "dose_response" / "demo.py", folder=folder)


def test(arguments: list[str], *, full: bool) -> int:
    # some files of tests, or some tests, take no longer than it takes to start more processes
    is_whole = all(each.startswith("-") and each[:2] not in ("-k", "-n") for each in arguments)
    if is_whole:
        # one more than there are cores: tests wait for servers and processes a third of their time
        arguments = ["-n", str(min((os.cpu_count() or 1) + 1, 8)), *arguments]
    quietly(PYTHON, "-m", "compileall", "-q", "core", "plugins")
    if not full:
        return run("-m", "pytest", "-m", "not full", *arguments)
    quietly(*UV_INSTALL, "--python", PYTHON, "-e", ".[test-full]")
    codes = [run("-m", "pytest", *arguments, LAMINDB_TEST_FULL="1")]
    for name, wanted in MATRIX.items():
        python = install_with(name, wanted)
        print(f"\ndev.py: the tests with the {name} versions of what we need", flush=True)
        # style is of the source, not of what it runs with
        skipped = ["-m", "not full", "--ignore", "tests/test_style.py"]
        codes.append(run("-m", "pytest", *skipped, *arguments, python=python))
    return next((code for code in codes if code), 0)


def lint() -> int:
    """Run every check, also after one has failed, and return the first failure's code."""
    checks = ["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]
    codes = [run("-m", *check) for check in checks]
    return next((code for code in codes if code), 0)


def install() -> None:
    """Bring ``.venv`` up to the present pyproject.toml; exit with pip's output if that fails."""
    # The folder is part of it: a copied tree's .venv still points at the tree it came from.
    wanted = hashlib.sha256(bytes(ROOT) + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return
    print("dev.py: installing into .venv, the first time takes minutes", file=sys.stderr)
    STAMP.unlink(missing_ok=True)  # whatever fails from here on is tried again next time
    if not PYTHON.exists():
        quietly(sys.executable, "-m", "venv", "--clear", VENV)
    elif run("-c", "import importlib.util as u, sys; sys.exit(u.find_spec('pip') is None)"):
        quietly(PYTHON, "-m", "ensurepip")  # venv was interrupted, or made without pip
    # uv: pip takes minutes to choose among the versions of two engines and what they need
    quietly(PYTHON, "-m", "pip", "install", "--no-input", "uv")
    quietly(*UV_INSTALL, "--python", PYTHON, "--editable", ".[test]")
    STAMP.write_text(wanted)


def install_with(name: str, wanted: list[str]) -> Path:
    """Make an environment of other versions; pip cannot ask for the lowest."""
    folder = VENV / "matrix" / name
    python = folder / PYTHON.relative_to(VENV)
    quietly(PYTHON, "-m", "uv", "venv", "--clear", "--python", PYTHON, folder)
    quietly(*UV_INSTALL, "--python", python, "-e", ".[test]", *wanted)
    return python


def quietly(*command: str | Path) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        sys.exit(done.returncode)


def run(
    *arguments: str | Path,
    folder: str | Path = ROOT,
    python: Path = PYTHON,
    **environment: str,
) -> int:
    """Run the venv's Python, or another, and return its exit code."""
    process = subprocess.Popen([python, *arguments], cwd=folder, env=os.environ | environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the child got it too, and ends in its own way


if __name__ == "__main__":
    sys.exit(main())
