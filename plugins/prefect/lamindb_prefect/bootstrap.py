"""What Prefect loads by its own plugin switch, ``PREFECT_PLUGINS_ENABLED``, when it is imported."""

from __future__ import annotations

from typing import Any

import pluggy

# the name that Prefect's manager has kept; prefect.plugins.register_hook is this marker
_hookimpl = pluggy.HookimplMarker("prefect-experimental")


@_hookimpl
def setup_environment(*, ctx: Any) -> None:
    """Track what is defined from now on."""
    from lamindb_prefect.activation import activate

    activate()
