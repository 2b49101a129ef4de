"""What is worth knowing of a process that runs something."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from lamindb.hooks import mask_arguments, mask_text
from lamindb.hooks.code import git_state


def of_process() -> dict[str, Any]:
    """Return the command line without secrets, where it was started, and the state of git there."""
    arguments = [str(each) for each in getattr(sys, "argv", [])]
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = Path(script).resolve().parent if script else Path.cwd()
    found: dict[str, Any] = {
        "argv": mask_arguments(arguments),
        "directory": mask_text(os.getcwd()),
        "python": sys.executable,
    }
    git = git_state(folder)
    if git is not None:
        found["git"] = git
    return found
