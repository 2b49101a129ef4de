"""Runs that reuse a result: linked to the run that made it, and to files that are as then."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from sqlalchemy import select

import lamindb as ln
from lamindb import instance
from lamindb.db import schema
from lamindb.hooks import (
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
    emit,
)

pytestmark = pytest.mark.databases("full")


@pytest.fixture
def fit(tmp_path: Path) -> InferredTransform:
    ln.setup.init(storage="./mydata")
    return InferredTransform("fit", "fit.py:fit", "pipeline")


def made(run: str, transform: InferredTransform, path: Path, result: str) -> None:
    path = path.absolute()
    path.write_text(run)
    emit(RunStarted(run=run, engine="test", transform=transform))
    emit(FileWritten(run=run, uri=str(path), stat=FileStat.of(path)))
    emit(RunFinished(run=run, status="completed", result=result))


def reused(run: str, transform: InferredTransform, path: Path, result: str) -> None:
    emit(RunStarted(run=run, engine="test", transform=transform))
    path = path.absolute()
    emit(RunLinked(run=run, role="cached_from", result=result))
    emit(FileWritten(run=run, uri=str(path), stat=FileStat.of(path), reused=True))
    emit(RunFinished(run=run, status="cached"))


def links() -> set[tuple[str, str]]:
    table = schema.run_run
    with instance.reading().database.read() as connection:
        query = select(table.c.run_id, table.c.other_id).where(table.c.role == "cached_from")
        return {(row.run_id, row.other_id) for row in connection.execute(query)}


def test_a_reused_result_is_linked_to_the_latest_run_that_made_it(fit: InferredTransform) -> None:
    other = InferredTransform("plot", "fit.py:plot", "pipeline")
    made("first", fit, Path("a.txt"), "results/1")
    made("of another", other, Path("b.txt"), "results/1")
    made("second", fit, Path("a.txt"), "results/1")
    made("third", fit, Path("c.txt"), "results/2")
    reused("again", fit, Path("a.txt"), "results/1")
    reused("unknown", fit, Path("a.txt"), "results/3")

    assert links() == {("again", "second")}
    again = ln.select(ln.Run, id="again").one()
    assert [file.run.id for file in again.outputs] == ["second"]
    assert ln.select(ln.Run, id="unknown").one().status == "cached"


def test_a_changed_file_of_a_reused_result_is_not_linked_and_said(
    fit: InferredTransform, caplog: pytest.LogCaptureFixture
) -> None:
    made("first", fit, Path("a.txt"), "results/1")
    assert links() == set()
    Path("a.txt").write_text("overwritten")
    Path("b.txt").write_text("never recorded")
    with caplog.at_level(logging.WARNING, "lamindb"):
        reused("again", fit, Path("a.txt"), "results/1")
        reused("and again", fit, Path("b.txt"), "results/1")
        assert links() == {("again", "first"), ("and again", "first")}

    assert ln.select(ln.Run, id="again").one().outputs == []
    (file,) = ln.select(ln.File).all()
    assert (file.name, file.size, file.run.id) == ("a.txt", len("first"), "first")
    (warning,) = [record.message for record in caplog.records]
    assert "a.txt has changed or is gone since a run made it" in warning
