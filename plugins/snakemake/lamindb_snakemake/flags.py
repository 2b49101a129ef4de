"""Keys and descriptions of outputs, said in the Snakefile."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lamindb_snakemake.frames import LOGGER, workflow_here

FLAG = "lamindb"


@dataclass(frozen=True)
class Wish:
    """What a Snakefile asks for one output: a key in the instance's storage, a description."""

    key: str | None = None
    description: str | None = None


def tracked(value: Any, *, key: str | None = None, description: str | None = None) -> Any:
    """Say under which key an output is kept in the instance's storage, and what it is.

    Takes what Snakemake's own flags take, inside or around them, and is one itself: ``outputflags:
    tracked``. A rule whose outputs become tracked need not run again for that.

    Args:
        value: a path, a list of them, or what ``temp()``, ``directory()``, ``expand()`` … return.
        key: with the rule's wildcards, ``{name}`` for the file's name, ``{ext}`` for what follows
            its last dot; the output is copied there. Two outputs of a workflow with one key are an
            error before the first job.
        description: of the file, with the same placeholders.
    """
    from snakemake.io import flag, get_flag_value

    if key is None and description is None and not isinstance(value, list):
        former = get_flag_value(value, FLAG)  # as a default for all rules it takes nothing back
        if former is not None:
            return value
    workflow = workflow_here()
    if workflow is not None:
        from lamindb_snakemake import remote

        remote.attach_to_child(workflow)
    if key is not None:
        _check_keys_once()
    return flag(value, FLAG, {"key": key, "description": description})


def wish_of(file: Any, wildcards: Mapping[str, Any] | None) -> Wish | None:
    """Return what is asked for an output, its wildcards filled in; raises WildcardError."""
    given = getattr(file, "flags", {}).get(FLAG)
    if not isinstance(given, dict) or not any(given.values()):
        return None
    from snakemake.io import apply_wildcards

    name = posixpath.basename(str(file))
    values = {"name": name, "ext": name.rpartition(".")[2], **(wildcards or {})}
    return Wish(
        *(
            apply_wildcards(given[part], values) if given.get(part) else None
            for part in ("key", "description")
        )
    )


class _KeyCheck(logging.Handler):
    """Refuses a workflow in which two outputs have one key, before its first job."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) != "run_info":
            return
        workflow = workflow_here()
        if workflow is None:
            return
        message = next(_conflicts(workflow.dag.needrun_jobs()), None)
        if message is not None:
            from snakemake.exceptions import WorkflowError

            raise WorkflowError(message)


def _check_keys_once() -> None:
    snakemake = logging.getLogger(LOGGER)
    if not any(isinstance(handler, _KeyCheck) for handler in snakemake.handlers):
        snakemake.addHandler(_KeyCheck())


def _conflicts(jobs: Any) -> Iterator[str]:
    taken: dict[str, str] = {}
    for job in jobs:
        for file in job.output:
            try:
                wish = wish_of(file, job.wildcards_dict)
            except Exception as error:  # Snakemake's own WildcardError, whose name is all it says
                yield f"rule {job.rule.name} has no wildcard {error} for the key of {file}"
                continue
            if wish is None or wish.key is None:
                continue
            other = taken.setdefault(wish.key, str(file))
            if other != str(file):
                yield (
                    f"two outputs have the lamindb key {wish.key!r}: {other} and {file}; give "
                    "tracked() a key that tells them apart, by a wildcard, {name} or {ext}"
                )
