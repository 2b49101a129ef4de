"""The door for plugin authors: mark functions with ``hookimpl`` and register by entry point.

A plugin is a module or object with functions named as in :mod:`lamindb.hooks.specs`::

    # pyproject.toml:  [project.entry-points.lamindb]  mine = "my_package.plugin"
    from lamindb.hooks import hookimpl

    @hookimpl
    def ln_loader(suffix):
        return read_fits if suffix == ".fits" else None

An engine's plugin tells what happens by :func:`emit`, from whichever thread or process::

    run = run_id("airflow", dag_run_id)
    emit(RunStarted(run=run, engine="airflow", params=describe_params(params)))
    emit(FileWritten(run=run, uri="/data/a.csv", how="declared", stat=FileStat.of("/data/a.csv")))
    emit(RunFinished(run=run, status="completed"))
"""

from __future__ import annotations

from lamindb.hooks.code import code_key, key_in_repository, source_hash
from lamindb.hooks.environments import environment
from lamindb.hooks.events import (
    EnvironmentSeen,
    Event,
    FileRead,
    FileRetracted,
    FileStat,
    FileWritten,
    InferredTransform,
    RunFinished,
    RunLinked,
    RunStarted,
)
from lamindb.hooks.manager import emit, hookimpl, plugins
from lamindb.hooks.parameters import describe_error, describe_params, mask_arguments, mask_text
from lamindb.hooks.specs import PROJECT, Caller, Loader, Serializer, Tracking
from lamindb.identifiers import derived_run_id as run_id

__all__ = [
    "PROJECT",
    "Caller",
    "EnvironmentSeen",
    "Event",
    "FileRead",
    "FileRetracted",
    "FileStat",
    "FileWritten",
    "InferredTransform",
    "Loader",
    "RunFinished",
    "RunLinked",
    "RunStarted",
    "Serializer",
    "Tracking",
    "code_key",
    "describe_error",
    "describe_params",
    "emit",
    "environment",
    "hookimpl",
    "key_in_repository",
    "mask_arguments",
    "mask_text",
    "plugins",
    "run_id",
    "source_hash",
]
