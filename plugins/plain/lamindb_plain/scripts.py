"""Scripts: the file that Python was started with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lamindb.hooks import Caller, InferredTransform, source_hash
from lamindb_plain.code import key_of


def infer(caller: Caller) -> InferredTransform | None:
    """Describe the script of this process; None in a console, or for ``python -c``."""
    path = _script_path(caller.frame.f_globals)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return InferredTransform(
        name=path.name,
        key=key_of(path, caller),
        type="script",
        source_hash=source_hash(text.encode(errors="surrogateescape").decode(errors="replace")),
        reference=str(path),
    )


def _script_path(names: dict[str, Any]) -> Path | None:
    name = getattr(sys.modules.get("__main__"), "__file__", None)
    if names.get("__name__") == "__mp_main__":
        name = names.get("__file__")  # in a spawned child, whose own main is not there yet
    path = Path(name).resolve() if name else None
    return path if path is not None and path.is_file() else None
