"""Snakemake's objects as lamindb's words: pure functions, asked by the thread that writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lamindb.hooks import describe_params, mask_text
from lamindb_snakemake.code import location_of

_EXIT_STATUS = re.compile(r"returned non-zero exit status (\d+)")
_SIGNAL = re.compile(r"died with <Signals\.(\w+): \d+>")
# the traceback that Snakemake shows where a job's own process failed, which has said itself why
_SPAWNED = "snakemake.exceptions.SpawnedJobError"
_LONGEST_ERROR = 2_000


def params_of(params: Any) -> dict[str, Any]:
    """Return the params of a job by name, those without a name by number."""
    every = getattr(params, "_allitems", None)
    named = every() if every is not None else params.items()
    return describe_params(
        {
            str(number) if name is None else str(name): value
            for number, (name, value) in enumerate(named)
        }
    )


def _items(values: Any) -> Iterable[tuple[str, Any]]:
    return [(str(name), value) for name, value in values.items()]


def resources_of(resources: Any) -> dict[str, Any]:
    found = {name: value for name, value in _items(resources) if name not in ("_cores", "_nodes")}
    return describe_params(found)


def job_details(job: Any, script: str | None, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a job beside its params and files.

    Args: said: what Snakemake's record of its start says.
    """
    rule = job.rule
    found = {
        "jobid": said["jobid"],
        "rule": rule.name,
        "wildcards": {name: str(value) for name, value in (job.wildcards_dict or {}).items()},
        "threads": said.get("threads"),
        "resources": resources_of(said.get("resources") or {}),
        "log": [str(path) for path in said.get("log") or ()],
        "benchmark": str(said["benchmark"]) if said.get("benchmark") else None,
        "shell": mask_text(said["shellcmd"])[: _LONGEST_ERROR * 5]
        if said.get("shellcmd")
        else None,
        "script": script,
        "wrapper": rule.wrapper,
        "message": said.get("rule_msg"),
        "reason": str(said.get("reason") or "")[:_LONGEST_ERROR] or None,
        "checkpoint": bool(said.get("is_checkpoint")) or None,
        "env_modules": str(rule.env_modules) if rule.env_modules else None,
        "conda": _conda_of(job),
        "container": _container_of(job),
        "group": _group_of(job),
        "snakefile": str(rule.snakefile),
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def _conda_of(job: Any) -> str | None:
    """Return a job's conda environment, as far as it is known without evaluating anything."""
    spec = getattr(job, "_conda_env_spec", None)
    if spec is not None:
        for name in ("file", "name", "directory"):
            if value := getattr(spec, name, None):
                found = getattr(value, "get_path_or_uri", None)
                return location_of(value) if found is not None else str(value)
    given = job.rule.conda_env
    return given if isinstance(given, str) else None


def _container_of(job: Any) -> str | None:
    given = getattr(job, "_container_img_url", None) or job.rule.container_img
    return given if isinstance(given, str) else None


def _group_of(job: Any) -> str | None:
    given = getattr(job, "_group", None)
    return given if isinstance(given, str) else None


def script_of(job: Any) -> str | None:
    """Return path or URL of a job's script or notebook; None if it has none."""
    given = job.rule.script or job.rule.notebook
    if not given:
        return None
    path = str(given)
    if "{" in path:
        # the job's own params: asking for them evaluates what the user wrote
        path = path.format(wildcards=job.wildcards, params=getattr(job, "_params", None))
    if "://" in path or os.path.isabs(path):  # noqa: PTH117 - also a URL
        return path
    base = job.rule.basedir
    return location_of(base.join(path)) if base is not None else path


def job_title(job: Any) -> str:
    """Return what people call a job: its rule and wildcards."""
    wildcards = job.wildcards_dict or {}
    return " ".join([job.rule.name, *(f"{name}={value}" for name, value in wildcards.items())])


def exit_details(text: str | None) -> dict[str, Any]:
    """Read exit status or signal out of Snakemake's message; it is nowhere else."""
    if text and (found := _EXIT_STATUS.search(text)):
        return {"exit_status": int(found[1])}
    if text and (found := _SIGNAL.search(text)):
        return {"signal": found[1]}
    return {}


def error_text(text: str) -> str:
    """Return a message without secrets and of bounded length."""
    if _SPAWNED in text:
        found = _EXIT_STATUS.search(text)
        how = f"returned non-zero exit status {found[1]}" if found else "failed"
        return f"the job's own process {how}: see Snakemake's output, or the job's log, for why"
    plain = mask_text(text.strip())
    return plain if len(plain) <= _LONGEST_ERROR else f"{plain[: _LONGEST_ERROR - 1]}…"


def is_flagged(file: Any, name: str) -> bool:
    return name in getattr(file, "flags", ())


def storage_query(file: Any) -> str | None:
    """Return the address of a file in a storage; None for a file of the workflow's folder."""
    if not getattr(file, "is_storage", False):
        return None
    return str(file.storage_object.query)
