"""Names of scripts and notebooks within the instance of who called."""

from __future__ import annotations

from pathlib import Path

from lamindb.hooks import Caller, code_key


def key_of(path: Path, caller: Caller) -> str:
    return code_key(path, caller.storage_root, caller.storage_id)
