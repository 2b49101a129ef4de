"""The plugin that lamindb loads by entry point."""

from __future__ import annotations

from lamindb.hooks import Caller, InferredTransform, hookimpl
from lamindb_plain import notebooks, scripts


@hookimpl(trylast=True)
def ln_transform(caller: Caller) -> InferredTransform | None:
    """Say which notebook, else which script, called ``ln.track()``."""
    return notebooks.infer(caller) or scripts.infer(caller)
