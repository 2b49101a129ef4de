"""The plugin that lamindb loads by entry point."""

from __future__ import annotations

import sys

from lamindb.hooks import hookimpl


@hookimpl
def ln_current_run() -> str | None:
    """Return the id of the Prefect run, if it is a tracked one, in which this code executes."""
    # no tracked run without this module; asked often, so nothing may be imported for the answer
    contexts = sys.modules.get("lamindb_prefect.contexts")
    return contexts.current_run() if contexts is not None else None
