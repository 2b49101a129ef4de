"""Attaches to Snakemake's logger, which tells of everything that happens, in the thread it does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lamindb_snakemake import remote
from lamindb_snakemake.frames import LOGGER
from lamindb_snakemake.options import Options
from lamindb_snakemake.tap import Tap


def attach(settings: Any, *, is_dryrun: bool = False) -> Tap:
    """Have the workflows of this process recorded from now on."""
    return _attach(Options.of(settings), is_dryrun=is_dryrun)


def track(
    workflow: Any,
    *,
    instance: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    copy: bool = False,
) -> None:
    """Record this workflow, as ``--logger lamindb`` does; for the top of a Snakefile.

    Args: workflow: Snakemake's global of this name; the others are options of ``snakemake --help``.
    """
    snakemake = logging.getLogger(LOGGER)
    if not getattr(workflow, "is_main_process", True):
        remote.attach_to_child(workflow)
    elif not any(isinstance(handler, Tap) for handler in snakemake.handlers):
        _attach(Options(instance, tuple(include), tuple(exclude), copy), is_dryrun=False)


def _attach(options: Options, *, is_dryrun: bool) -> Tap:
    tap = Tap(options, is_dryrun=is_dryrun)
    logging.getLogger(LOGGER).addHandler(tap)
    return tap


def require_database(settings: Any) -> None:
    """Raise LaminError where nothing can be recorded."""
    from lamindb import config, instance

    if settings.instance:
        config.choose(config.config_named(settings.instance))
    instance.current()
