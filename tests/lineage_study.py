"""A study across three engines, told by events as their plugins tell it, with real files."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamindb import recorder
from lamindb.hooks import (
    FileRead,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
    emit,
    environment,
    run_id,
)

BEGIN = dt.datetime(2026, 11, 2, 8, 0, tzinfo=dt.UTC)


@dataclass
class Clock:
    """Time that goes on by seconds, so that nothing depends on how fast a test runs."""

    now: dt.datetime = BEGIN

    def tick(self, seconds: float = 1.0) -> dt.datetime:
        self.now += dt.timedelta(seconds=seconds)
        return self.now


@dataclass
class Teller:
    """Tells of runs as an engine's plugin does."""

    folder: Path
    clock: Clock = field(default_factory=Clock)

    def start(self, engine: str, engine_id: str, name: str, **values: Any) -> str:
        run = run_id(engine, engine_id)
        kind = values.pop("type", "pipeline" if engine == "snakemake" else "function")
        code, script = values.pop("code", "1"), values.pop("script", None)
        emit(
            RunStarted(
                run=run,
                engine=engine,
                at=self.clock.tick(),
                name=values.pop("name", name),
                transform=InferredTransform(
                    name, f"study/{name}", kind, source_hash=code, reference=script
                ),
                reference=engine_id,
                reference_type=f"{engine} id",
                **values,
            )
        )
        return run

    def finish(self, run: str, status: Any = "completed", **values: Any) -> None:
        emit(RunFinished(run=run, status=status, at=self.clock.tick(2.5), **values))

    def read(self, run: str, *names: str) -> None:
        for name in names:
            path = str(self.folder / name)
            emit(
                FileRead(
                    run=run,
                    uri=path,
                    how="declared",
                    stat=FileStat.of(path),
                    at=self.clock.tick(0.1),
                )
            )

    def write(self, run: str, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        emit(
            FileWritten(
                run=run,
                uri=str(path),
                how="declared",
                stat=FileStat.of(path),
                at=self.clock.tick(0.1),
            )
        )
        # the next one may overwrite it: let its bytes be read first
        assert recorder.flush()

    def step(
        self,
        engine: str,
        engine_id: str,
        name: str,
        inputs: Iterable[str] = (),
        outputs: Iterable[str] = (),
        status: Any = "completed",
        text: str = "",
        **values: Any,
    ) -> str:
        """Tell of a run from its start to its end; ``text`` goes into what it writes."""
        error = values.pop("error", None)
        run = self.start(engine, engine_id, name, **values)
        self.read(run, *inputs)
        for output in outputs:
            self.write(run, output, f"{output} by {name} {text}\n")
        self.finish(run, status, error=error)
        return run


def tell_study(folder: Path, samples: int = 6, models: int = 5) -> Teller:
    """Tell of plates (plain), counts (Snakemake), models (Prefect) and a report (plain).

    ``results/report.html`` comes from everything; one plot has failed, after a retry.
    """
    tell = Teller(folder)
    raw = [f"raw/s{n}.csv" for n in range(samples)]
    tell.step("plain", "acquire", "acquire.py", (), raw, type="script", params={"samples": samples})

    snakefile = folder / "Snakefile"
    snakefile.write_text("rule all: input: 'counts.tsv'\n")
    os.utime(snakefile, (BEGIN.timestamp(), BEGIN.timestamp()))
    workflow = tell.start(
        "snakemake", "wf-1", "Snakefile", params={"genome": "GRCh38"}, script=str(snakefile)
    )
    counts = []
    for n, source in enumerate(raw):
        trimmed, counted = f"trimmed/s{n}.csv", f"counts/s{n}.tsv"
        sample = {"parent": workflow, "params": {"sample": f"s{n}"}}
        tell.step("snakemake", f"wf-1/trim{n}", "trim", [source], [trimmed], **sample)
        tell.step("snakemake", f"wf-1/count{n}", "count", [trimmed], [counted], **sample)
        counts.append(counted)
    tell.step("snakemake", "wf-1/merge", "merge", counts, ["counts.tsv"], parent=workflow)
    plot = tell.start("snakemake", "wf-1/plot", "plot", parent=workflow)
    tell.read(plot, "counts.tsv")
    tell.finish(plot, "failed", error="no display")
    tell.start("snakemake", "wf-1/plot", "plot", parent=workflow, attempt=2)
    tell.finish(plot, "failed", error="no display, again", attempt=2)
    tell.finish(workflow)

    flow = tell.start("prefect", "flow-1", "model", params={"k": models}, environment=environment())
    load = tell.step("prefect", "task-load", "load", ["counts.tsv"], parent=flow)
    best = run_id("prefect", "task-best")
    fits = []
    for k in range(models):
        fit = tell.step(
            "prefect",
            f"task-fit{k}",
            "fit",
            [],
            [f"models/k{k}.json"],
            parent=flow,
            params={"k": k},
        )
        emit(RunLinked(run=fit, other=load, role="informed_by", at=tell.clock.tick()))
        fits.append(f"models/k{k}.json")
    assert best == tell.step("prefect", "task-best", "best", fits, ["best.json"], parent=flow)
    tell.finish(flow)

    tell.step(
        "plain",
        "report",
        "report.py",
        ["counts.tsv", "best.json"],
        ["results/report.html"],
        type="script",
        params={"title": "Counts & models"},
    )
    assert recorder.flush()
    return tell
