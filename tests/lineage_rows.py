"""Many rows at once, as a recorder would have written them, for what is only slow to record."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Table, insert

from lamindb import instance
from lamindb.db import schema
from lamindb.hooks import run_id

AT = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


class Rows:
    """Rows of runs and files, to be written in one transaction."""

    def __init__(self) -> None:
        self._here = instance.current()
        self._common = {"created_by_id": self._here.user_id, "created_at": AT}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._transforms: dict[str, str] = {}

    def run(self, name: str, number: int = 0, engine: str = "snakemake", **values: Any) -> str:
        row = {
            "id": run_id(engine, f"{name}/{number}"),
            "name": name,
            "engine": engine,
            "status": "completed",
            "transform_id": self._transform(name),
            "transform_version": "0",
            "started_at": AT + dt.timedelta(seconds=number),
            "finished_at": AT + dt.timedelta(seconds=number + 2),
            "parent_id": None,
            "params": {"n": number},
            **self._common,
            **values,
        }
        self._add(schema.run, row)
        return str(row["id"])

    def file(self, key: str, run: str | None, **values: Any) -> str:
        row = {
            "id": run_id("file", key),
            "name": key.rsplit("/", 1)[-1],
            "key": key,
            "suffix": ".csv",
            "size": 100,
            "hash": run_id("hash", key),
            "hash_type": "md5",
            "run_id": run,
            "storage_id": self._here.default_storage_id,
            "updated_at": AT,
            **self._common,
            **values,
        }
        self._add(schema.file, row)
        if run is not None:
            self.link(run, str(row["id"]), "output")
        return str(row["id"])

    def link(self, run: str, file: str, role: str = "input") -> None:
        row = {"run_id": run, "file_id": file, "role": role, "how": "declared", "created_at": AT}
        self._add(schema.run_file, row)

    def write(self) -> None:
        with self._here.database.begin() as connection:
            for table in (schema.transform, schema.run, schema.file, schema.run_file):
                if self._rows.get(table.name):
                    connection.execute(insert(table), self._rows[table.name])

    def _transform(self, name: str) -> str:
        if name not in self._transforms:
            self._transforms[name] = run_id("transform", name)[:12]
            row = {
                "id": self._transforms[name],
                "version": "0",
                "name": name,
                "type": "pipeline",
                "updated_at": AT,
                **self._common,
            }
            self._add(schema.transform, row)
        return self._transforms[name]

    def _add(self, table: Table, row: dict[str, Any]) -> None:
        self._rows.setdefault(table.name, []).append(row)


def fan(lanes: int, stages: int) -> str:
    """Write a flow of lanes side by side, each a run a stage, and a merge; returns its file."""
    rows = Rows()
    flow = rows.run("flow", engine="prefect")
    ends = []
    for lane in range(lanes):
        file = None
        for stage in range(stages):
            run = rows.run(f"stage {stage}", lane, "prefect", parent_id=flow)
            if file is not None:
                rows.link(run, file)
            file = rows.file(f"stage{stage}/{lane}.csv", run)
        ends.append(file)
    merge = rows.run("merge", engine="prefect", parent_id=flow)
    for end in ends:
        assert end is not None
        rows.link(merge, end)
    merged = rows.file("merged.csv", merge)
    rows.write()
    return merged


def long_chain(length: int) -> str:
    """Write a chain of files, each made from the one before; returns the last."""
    rows = Rows()
    file = ""
    for number in range(length):
        run = rows.run("step", number)
        if file:
            rows.link(run, file)
        file = rows.file(f"{number}.csv", run)
    rows.write()
    return file
