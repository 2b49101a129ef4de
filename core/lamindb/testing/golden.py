"""What must be recorded of the canonical workflow, in one form for all engines."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from sqlalchemy import select

from lamindb import instance
from lamindb.db import schema
from lamindb.storage.hashing import hash_bytes
from lamindb.testing import steps

Scenario = Literal["ok", "parallel", "retries", "fails", "killed", "cached", "nested"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

_STEPS = {
    "clean": (["raw.csv"], ["clean.csv"]),
    "stats": (["clean.csv"], ["stats.json"]),
    "plot": (["clean.csv"], ["plot.svg"]),
    "report": (["plot.svg", "stats.json"], ["report.html"]),
}
OUTER = "outer"
WORKFLOW = "workflow"


def golden(scenario: Scenario) -> dict[str, Any]:
    """Return what must be recorded: runs by step, and files by key.

    A run: its status, those of its attempts, whether each has an error (None: may have), the step
    that is its parent, what it read and wrote, the threshold among its parameters, and the step
    whose earlier run made the result that it took from a cache.

    A file: its hash, and the step that made it.
    """
    runs = {
        step: _run(inputs=inputs, outputs=outputs, threshold=step == "clean")
        for step, (inputs, outputs) in _STEPS.items()
    }
    workflow = _run(parent=None)
    files = _files()
    if scenario == "retries":
        runs["clean"]["attempts"] = ["failed"] * steps.FAILURES + ["completed"]
        runs["clean"]["attempt_errors"] = [True] * steps.FAILURES + [False]
    if scenario == "fails":
        runs["report"] |= {"outputs": []} | _ended("failed", error=True)
        workflow |= _ended("failed", error=None)
        del files["report.html"]
    if scenario == "killed":
        # what it had read is known where inputs are declared before it begins
        runs["stats"] |= {"inputs": None, "outputs": []} | _ended("aborted", error=None)
        workflow |= _ended("aborted", error=None)
        del runs["plot"], runs["report"]
        del files["stats.json"], files["plot.svg"], files["report.html"]
    found = {WORKFLOW: [workflow], **{step: [run] for step, run in runs.items()}}
    if scenario == "nested":
        workflow["parent"] = OUTER
        found[OUTER] = [_run(parent=None)]
    if scenario == "cached":
        found[WORKFLOW].append(dict(workflow))
        for step in _STEPS:
            found[step].append(found[step][0] | _ended("cached") | {"cached_from": step})
    return {"runs": dict(sorted(found.items())), "files": files}


def _run(
    *,
    parent: str | None = WORKFLOW,
    inputs: list[str] | None = None,
    outputs: list[str] | None = None,
    threshold: bool = False,
) -> dict[str, Any]:
    return {
        "parent": parent,
        "inputs": inputs or [],
        "outputs": outputs or [],
        "threshold": steps.THRESHOLD if threshold else None,
        "cached_from": None,
        **_ended("completed"),
    }


def _ended(status: str, *, error: bool | None = False) -> dict[str, Any]:
    return {"status": status, "attempts": [status], "attempt_errors": [error]}


def _files() -> dict[str, dict[str, Any]]:
    table = steps.cleaned(steps.RAW, steps.THRESHOLD)
    statistics, picture = steps.counted(table), steps.drawn(table)
    contents = {
        "raw.csv": (steps.RAW, None),
        "clean.csv": (table, "clean"),
        "stats.json": (statistics, "stats"),
        "plot.svg": (picture, "plot"),
        "report.html": (steps.reported(statistics, picture), "report"),
    }
    return {
        name: {"hash": hash_bytes(text.encode()), "made_by": step}
        for name, (text, step) in contents.items()
    }


def recorded() -> dict[str, Any]:
    """Return what the instance in use has recorded, in the form of :func:`golden`.

    A run is of the step that its transform is named after; one of no step is the workflow's. Of
    what the workflow itself, and whatever is around it, has read nothing is said.
    """
    tables = "run", "transform", "attempt", "file", "run_file", "run_run"
    rows = {name: _rows(schema.metadata.tables[name]) for name in tables}
    names = {(row["id"], row["version"]): row["name"] for row in rows["transform"]}
    step_of = {
        row["id"]: _step(names.get((row["transform_id"], row["transform_version"])) or row["name"])
        for row in rows["run"]
    }
    files = {row["id"]: row for row in rows["file"]}
    found: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(rows["run"], key=lambda row: (str(row["started_at"]), row["id"])):
        step = step_of[run["id"]]
        attempts = sorted(
            (row for row in rows["attempt"] if row["run_id"] == run["id"]),
            key=lambda row: int(row["number"]),
        )
        ends = [(row["status"], row["error"]) for row in attempts[:-1]]
        ends.append((run["status"], run["error"]))

        def linked(role: str, run_id: str = run["id"]) -> list[str]:
            return sorted(
                _name(files[row["file_id"]])
                for row in rows["run_file"]
                if row["run_id"] == run_id and row["role"] == role
            )

        cached_from = [
            step_of[row["other_id"]]
            for row in rows["run_run"]
            if row["run_id"] == run["id"] and row["role"] == "cached_from"
        ]
        found.setdefault(step, []).append(
            {
                "parent": step_of.get(run["parent_id"]),
                "inputs": linked("input") if step in _STEPS else [],
                "outputs": linked("output"),
                "threshold": _threshold(run["params"]) if step == "clean" else None,
                "cached_from": cached_from[0] if cached_from else None,
                "status": run["status"],
                "attempts": [status for status, _ in ends],
                "attempt_errors": [bool(error) for _, error in ends],
            }
        )
    linked_files = {row["file_id"] for row in rows["run_file"] if step_of[row["run_id"]] in _STEPS}
    linked_files |= {row["file_id"] for row in rows["run_file"] if row["role"] == "output"}
    return {
        "runs": dict(sorted(found.items())),
        "files": {
            _name(row): {"hash": row["hash"], "made_by": step_of.get(row["run_id"])}
            for row in rows["file"]
            if row["id"] in linked_files
        },
    }


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return one line for each thing that differs; None: an error or inputs may be or not."""
    lines = []
    for step in sorted({*wanted["runs"], *found["runs"]}):
        expected, actual = wanted["runs"].get(step, []), found["runs"].get(step, [])
        if len(expected) != len(actual):
            lines.append(f"{step}: {len(actual)} runs, not {len(expected)}")
        for one, other in zip(expected, actual, strict=False):
            for fact, value in one.items():
                if not _agrees(fact, value, other[fact]):
                    lines.append(f"{step}: {fact} is {other[fact]}, not {value}")
    for name in sorted({*wanted["files"], *found["files"]}):
        if wanted["files"].get(name) != found["files"].get(name):
            lines.append(f"{name}: {found['files'].get(name)}, not {wanted['files'].get(name)}")
    return lines


def _agrees(fact: str, wanted: Any, found: Any) -> bool:
    if fact == "inputs" and wanted is None:
        return True
    if isinstance(wanted, list) and isinstance(found, list) and None in wanted:
        return len(wanted) == len(found) and all(
            one is None or one == other for one, other in zip(wanted, found, strict=True)
        )
    return bool(wanted == found)


def _rows(table: Any) -> list[dict[str, Any]]:
    with instance.reading().database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def _step(name: str | None) -> str:
    last = re.split(r"[./:]", (name or "").removesuffix(".py"))[-1]
    return last if last in _STEPS or last == OUTER else WORKFLOW


def _name(file: dict[str, Any]) -> str:
    return str(file["key"] or file["name"]).rsplit("/", 1)[-1]


def _threshold(value: Any) -> int | None:
    """Find the parameter, wherever the engine keeps it among its own."""
    if isinstance(value, dict):
        if "threshold" in value:
            return int(value["threshold"])
        value = list(value.values())
    if isinstance(value, list):
        return next((each for each in map(_threshold, value) if each is not None), None)
    return None
