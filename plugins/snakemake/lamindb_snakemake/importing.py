"""Workflows that ran before anyone thought of it: from what Snakemake left in ``.snakemake``.

Second-class: of each output file one record is there, that of the last job that wrote it. Nothing
says which workflow it belonged to, its wildcards, attempts, host, exit status or names of params,
and a job that failed has the same record as one that did not.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamindb.hooks import (
    FileRead,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunStarted,
    emit,
    mask_text,
    run_id,
    source_hash,
)
from lamindb.progress import progress
from lamindb_snakemake.code import Namer

ENGINE = "snakemake"
UNKNOWN = ["wildcards", "names of params", "attempts", "host", "exit status", "workflow run"]
CHANGED = "it was changed after its job had ended"
_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
_SAME_S = 0.01
_LIVE_S = 5.0


@dataclass
class PastJob:
    """What is left of a job: the record of one of its outputs, and the end of each.

    Attributes: ends: output → when it was last written, which is what Snakemake takes for the end.
    """

    record: dict[str, Any]
    ends: dict[str, float] = field(default_factory=dict)

    @property
    def outputs(self) -> list[str]:
        return sorted(self.ends)

    @property
    def ended_at(self) -> float:
        return max(self.ends.values())

    @property
    def began_at(self) -> float | None:
        """None where Snakemake has written down an end before the start."""
        began = self.record.get("starttime")
        return float(began) if began is not None and began <= self.ended_at else None


@dataclass
class Summary:
    """How many jobs were told of, were known already, and cannot be told apart from failures."""

    imported: int = 0
    known: int = 0
    unsure: int = 0


def import_folder(folder: Path, snakefile: Path | None = None) -> Summary:
    """Tell of the jobs that ran in a folder; telling of them again changes nothing.

    Raises: FileNotFoundError: no workflow has run there, or its Snakefile is not found.
    """
    folder = folder.resolve()
    notes = folder / ".snakemake"
    if not notes.is_dir():
        raise FileNotFoundError(f"{folder} has no .snakemake: give the folder where it ran")
    namer = Namer(str(snakefile.resolve() if snakefile else _snakefile(folder)))
    workflow = run_id(ENGINE, f"import:{notes}")
    summary = Summary()
    told: list[PastJob] = []
    jobs = jobs_of(notes)
    with progress("Importing jobs", lambda: len(jobs), "items") as advance:
        for job in jobs:
            paths = [folder / output for output in job.outputs]
            if job.record.get("incomplete") or not any(path.exists() for path in paths):
                summary.unsure += 1
            elif _is_recorded(paths, job.ended_at):
                summary.known += 1
            else:
                _tell(job, folder, workflow, namer)
                told.append(job)
            advance(1)
    summary.imported = len(told)
    if told:
        _tell_workflow(workflow, told, folder, namer)
    return summary


def jobs_of(notes: Path) -> list[PastJob]:
    """Return the jobs whose records are in a folder ``.snakemake``, in the order of their ends."""
    found: dict[Any, PastJob] = {}
    for output, record in (*_from_files(notes / "metadata"), *_from_database(notes)):
        if record.get("endtime") is None or not record.get("rule"):
            continue
        # job_hash alone comes from an address, which another process may use for another job
        same = [record.get(name) for name in ("rule", "job_hash", "shellcmd", "input", "params")]
        job = found.setdefault(json.dumps(same, default=str), PastJob(record))
        job.ends[output] = float(record["endtime"])
    return sorted(found.values(), key=lambda job: (job.ended_at, job.outputs))


def _from_files(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        try:
            # long names are cut into folders that begin with @
            name = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
            if path.is_file():
                yield base64.urlsafe_b64decode(name).decode(), json.loads(path.read_text())
        except ValueError:
            continue  # some other file


def _from_database(notes: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    path = notes / "metadata.db"
    if not path.is_file():
        return
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        query = "SELECT * FROM snakemake_metadata WHERE namespace = ?"
        for row in connection.execute(query, (str(notes),)):
            record = dict(row)
            for name in ("input", "log", "params"):
                if isinstance(record.get(name), str):
                    record[name] = json.loads(record[name])
            yield record["target"], record


def _snakefile(folder: Path) -> Path:
    for name in _SNAKEFILES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no Snakefile: give it with --snakefile")


def _is_recorded(paths: list[Path], ended_at: float) -> bool:
    """Whether the job was recorded when it ran."""
    import lamindb as ln

    ended = dt.datetime.fromtimestamp(ended_at, dt.UTC)
    for path in paths:
        for file in ln.select(ln.File, source_uri=str(path), all_versions=True).all():
            run = file.run
            if run is None or run.finished_at is None or run.engine != ENGINE:
                continue
            is_imported = ((run.details or {}).get(ENGINE) or {}).get("imported")
            if not is_imported and abs((run.finished_at - ended).total_seconds()) < _LIVE_S:
                return True
    return False


def _tell(job: PastJob, folder: Path, workflow: str, namer: Namer) -> None:
    record = job.record
    run = run_id(ENGINE, f"import:{folder}/{job.outputs[0]}/{job.ended_at}")
    ended = dt.datetime.fromtimestamp(job.ended_at, dt.UTC)
    began = None if job.began_at is None else dt.datetime.fromtimestamp(job.began_at, dt.UTC)
    details = {
        "imported": True,
        "rule": record["rule"],
        "shell": mask_text(record["shellcmd"]) if record.get("shellcmd") else None,
        "params": [mask_text(str(each))[:2000] for each in (record.get("params") or [])[:50]],
        "log": record.get("log"),
        "container": record.get("container_img_url"),
        "unknown": UNKNOWN if began is not None else [*UNKNOWN, "start"],
    }
    emit(
        RunStarted(
            run=run,
            engine=ENGINE,
            at=began or ended,
            transform=_transform(record, namer),
            parent=workflow,
            name=record["rule"],
            details={name: value for name, value in details.items() if value},
        )
    )
    for name in record.get("input") or ():
        path = folder / name
        if (status := FileStat.of(path)) is not None:
            # what it was when the job read it, nobody knows
            is_same = status.mtime_ns / 1e9 <= (job.began_at or job.ended_at)
            note = None if is_same else "it may have been changed since it was read"
            stat = (status if not path.is_dir() else None) if is_same else None
            emit(FileRead(run=run, uri=str(path), how="declared", at=began or ended, stat=stat,
                          hash_note=note))  # fmt: skip
    for name, written_at in sorted(job.ends.items()):
        path = folder / name
        status = FileStat.of(path)
        if status is None:
            continue
        is_same = path.is_dir() or abs(status.mtime_ns / 1e9 - written_at) < _SAME_S
        stat = status if is_same and not path.is_dir() else None
        emit(FileWritten(run=run, uri=str(path), how="declared", at=ended, stat=stat,
                         hash_note=None if is_same else CHANGED))  # fmt: skip
    emit(RunFinished(run=run, status="completed", at=ended))


def _transform(record: dict[str, Any], namer: Namer) -> InferredTransform:
    """A shell command is the same version as when it is recorded while it runs."""
    kind = "shellcmd" if record.get("shellcmd") else "run"
    return namer.named(record["rule"], source_hash(f"{kind}\0{record.get('code') or ''}"))


def _tell_workflow(workflow: str, jobs: list[PastJob], folder: Path, namer: Namer) -> None:
    began = min(job.began_at or job.ended_at for job in jobs)
    emit(
        RunStarted(
            run=workflow,
            engine=ENGINE,
            at=dt.datetime.fromtimestamp(began, dt.UTC),
            transform=namer.workflow([namer.snakefile]),
            name=f"imported from {folder}",
            details={"imported": True, "workdir": str(folder), "unknown": UNKNOWN},
        )
    )
    ended = dt.datetime.fromtimestamp(jobs[-1].ended_at, dt.UTC)
    emit(RunFinished(run=workflow, status="completed", at=ended))
