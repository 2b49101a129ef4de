"""Which files are recorded: the one place that asks the rules."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lamindb import config
from lamindb.errors import LaminError
from lamindb.rules import Rules, compiled
from lamindb_prefect.definitions import Options


def is_wanted(uri: str, options: Options, *, is_named: bool) -> bool:
    """Whether a file is recorded.

    What the code names by a path counts wherever it is, unless an ``exclude`` of its task or flow
    says no; what a mere text means, or a folder holds, has to pass all rules.
    """
    if not is_named and "://" not in uri:
        return _rules(options, str(Path.cwd()), _project()).decide(uri).counts
    for pattern in reversed(options.exclude):
        if compiled(pattern.removeprefix("!"), str(Path.cwd()))(uri):
            return pattern.startswith("!")
    return True


@lru_cache(maxsize=256)
def _rules(options: Options, folder: str, project: str | None) -> Rules:
    folders = [each for each in (project, folder) if each is not None and each != str(Path.home())]
    own = (config.state_dir(), config.cache_dir(), config.config_dir())
    return Rules(folders, options.include, options.exclude, base=folder, never=own)


def _project() -> str | None:
    try:
        project = config.configuration().project_folder
    except LaminError:
        return None
    return str(project) if project is not None else None
