"""Notebooks: which one this kernel runs, as far as that can be known."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from lamindb.config import given_notebook, notebook_path
from lamindb.hooks import Caller, InferredTransform, source_hash
from lamindb.modules import loaded
from lamindb_plain.code import key_of

_told: set[str] = set()


class NotebookUnknownWarning(UserWarning):
    """The kernel does not know its notebook, so the transform has a made-up name."""


def infer(caller: Caller) -> InferredTransform | None:
    """Describe the notebook whose kernel this is; None outside of a kernel.

    The environment says it (Jupyter, papermill), or VS Code's own variable, or the only notebook of
    the working directory that holds the cell being executed.
    """
    shell = _kernel_shell()
    if shell is None:
        return None
    path = notebook_path() or _from_vscode(shell) or _of_session()
    given = given_notebook()
    if given and (path is None or path != Path(given).expanduser().resolve()):
        _warn(caller, f"LAMINDB_NOTEBOOK={given!r} is no notebook: give the path of an .ipynb file")
    if path is None:
        folder = Path.cwd()
        _warn(
            caller,
            f"this kernel does not know its notebook: it is recorded as {folder.name!r}, after the "
            "folder. Name it by the environment variable LAMINDB_NOTEBOOK=path/to/it.ipynb, or "
            "pass ln.track(transform=ln.Transform('My notebook', type='notebook'))",
        )
        key = key_of(folder / "*.ipynb", caller)
        return InferredTransform(folder.name, key, "notebook", new_run=False)
    cells = read_cells(path) or []
    return InferredTransform(
        name=path.name,
        key=key_of(path, caller),
        type="notebook",
        source_hash=source_hash("\n\n".join(text for kind, text in cells if kind == "code")),
        reference=str(path),
        title=_title(cells),
        new_run=False,
    )


def read_cells(path: Path) -> list[tuple[str, str]] | None:
    """Return (type, source) of each cell; None for a file that is no notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _warn(caller: Caller, message: str) -> None:
    """Warn once a session, at the line that called; kernels forget what they have shown."""
    if message not in _told:
        _told.add(message)
        frame = caller.frame
        warnings.warn_explicit(
            message, NotebookUnknownWarning, frame.f_code.co_filename, frame.f_lineno
        )


@cache
def _of_session() -> Path | None:
    """Return the notebook that holds the cell which asked first: one session is one run."""
    return _holding_cell(Path.cwd(), _running_cell(_kernel_shell()))


def is_notebook() -> bool:
    return _kernel_shell() is not None


def _kernel_shell() -> Any:
    get_ipython = loaded("IPython", "get_ipython")
    shell = get_ipython() if get_ipython is not None else None
    return shell if hasattr(shell, "kernel") else None


def _from_vscode(shell: Any) -> Path | None:
    name = shell.user_ns.get("__vsc_ipynb_file__")
    path = Path(name) if isinstance(name, str) else None
    return path if path is not None and path.is_file() else None


def _running_cell(shell: Any) -> str | None:
    # as it was written: In holds it with its magics already translated
    executed = shell.history_manager.input_hist_raw
    return executed[-1] if executed else None


def _holding_cell(folder: Path, cell: str | None) -> Path | None:
    if not cell or not cell.strip():
        return None
    holding = [
        path
        for path in sorted(folder.glob("*.ipynb"))
        if any(text.strip() == cell.strip() for _, text in read_cells(path) or [])
    ]
    return holding[0] if len(holding) == 1 else None


def _title(cells: list[tuple[str, str]]) -> str | None:
    for kind, text in cells:
        for line in text.splitlines() if kind == "markdown" else ():
            if line.startswith("# "):
                return line.removeprefix("# ").strip()
    return None
