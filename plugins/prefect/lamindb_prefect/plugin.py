"""The plugin that lamindb loads by entry point."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from lamindb.hooks import hookimpl
from lamindb.modules import loaded


@hookimpl
def ln_current_run() -> str | None:
    """Return the id of the Prefect run, if it is a tracked one, in which this code executes."""
    # no tracked run without this module; asked often, so nothing may be imported for the answer
    current_run = loaded("lamindb_prefect.contexts", "current_run")
    return current_run() if current_run is not None else None


@hookimpl
def ln_command_environment() -> dict[str, str] | None:
    """Turn Prefect's plugins on for a command of ``lamin run``, so that plain flows are tracked."""
    if "PREFECT_PLUGINS_ENABLED" in os.environ:
        return None
    wanted = {"PREFECT_PLUGINS_ENABLED": "true"}
    if len(entry_points(group="prefect.plugins")) > 1:
        wanted["PREFECT_PLUGINS_ALLOW"] = "lamindb"  # nobody has asked for the others
    return wanted
