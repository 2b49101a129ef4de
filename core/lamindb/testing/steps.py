"""The steps of the canonical workflow, ``raw -> clean -> {stats, plot} -> report``.

Pure functions of files, so that every engine makes the same bytes. What goes wrong is said by the
environment: ``LAMINDB_TESTING_SCENARIO``, and ``LAMINDB_TESTING_STATE``, a folder outside of the
project in which attempts are counted. As commands::

    python -m lamindb.testing.steps clean raw.csv clean.csv --threshold 2
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

RAW = "name,value\na,1\nb,2\nc,3\nd,4\n"
THRESHOLD = 2
FAILURES = 2


class StepError(Exception):
    """A step failed because its scenario says so."""


def write_raw(path: str | Path = "raw.csv") -> None:
    """Write the raw data that the workflow starts from; no run makes it."""
    Path(path).write_text(RAW)


def clean(raw: str | Path, out: str | Path, threshold: int) -> Path:
    """Keep the rows above a threshold; in ``retries``, only the third time."""
    if _scenario() == "retries" and _attempt("clean") <= FAILURES:
        raise StepError("clean failed")
    return _write(out, cleaned(Path(raw).read_text(), threshold))


def stats(table: str | Path, out: str | Path) -> Path:
    """Count and sum; in ``killed``, all is over before it has written."""
    text = Path(table).read_text()
    if _scenario() == "killed":
        _kill()
    return _write(out, counted(text))


def plot(table: str | Path, out: str | Path) -> Path:
    """Draw bars."""
    return _write(out, drawn(Path(table).read_text()))


def report(statistics: str | Path, picture: str | Path, out: str | Path) -> Path:
    """Put both into a page; in ``fails``, half of it."""
    page = reported(Path(statistics).read_text(), Path(picture).read_text())
    if _scenario() == "fails":
        _write(out, page[: len(page) // 2])
        raise StepError("report failed")
    return _write(out, page)


def cleaned(raw: str, threshold: int) -> str:
    header, *rows = raw.splitlines()
    kept = [row for row in rows if int(row.split(",")[1]) > threshold]
    return "\n".join([header, *kept]) + "\n"


def counted(table: str) -> str:
    values = _values(table)
    return json.dumps({"count": len(values), "sum": sum(values)}) + "\n"


def drawn(table: str) -> str:
    bars = "".join(
        f'<rect x="{10 * place}" width="8" height="{value}"/>'
        for place, value in enumerate(_values(table))
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg">{bars}</svg>\n'


def reported(statistics: str, picture: str) -> str:
    return f"<pre>{statistics}</pre>{picture}"


def _values(table: str) -> list[int]:
    return [int(row.split(",")[1]) for row in table.splitlines()[1:]]


def _write(out: str | Path, text: str) -> Path:
    path = Path(out)
    path.write_text(text)
    return path


def _scenario() -> str:
    return os.environ.get("LAMINDB_TESTING_SCENARIO", "ok")


def _attempt(step: str) -> int:
    state = Path(os.environ["LAMINDB_TESTING_STATE"]) / step
    with state.open("a") as stream:
        stream.write("x")
    return state.stat().st_size


def _kill() -> None:
    """End the engine as a power cut would: whoever it is that ``LAMINDB_TESTING_KILL`` names."""
    os.kill(int(os.environ.get("LAMINDB_TESTING_KILL") or os.getpid()), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description="One step of the canonical workflow.")
    parser.add_argument("step", choices=["clean", "stats", "plot", "report"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--threshold", type=int, default=THRESHOLD)
    given = parser.parse_args()
    match [given.step, *given.paths]:
        case ["clean", raw, out]:
            clean(raw, out, given.threshold)
        case ["stats", table, out]:
            stats(table, out)
        case ["plot", table, out]:
            plot(table, out)
        case ["report", statistics, picture, out]:
            report(statistics, picture, out)
        case _:
            parser.error(f"{given.step} takes other paths than {given.paths}")


if __name__ == "__main__":
    main()
