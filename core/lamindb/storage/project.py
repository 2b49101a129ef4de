"""To which project code belongs, which its keys begin with."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lamindb import config
from lamindb.errors import LaminError
from lamindb.hooks.code import code_key, project_of
from lamindb.storage.store import Store


@dataclass(frozen=True)
class Project:
    """The default storage of an instance, beside which a project's code lies.

    Attributes: storage_root, storage_id: None where it is remote, or cannot be reached.
    """

    storage_root: Path | None
    storage_id: str | None

    @classmethod
    def unopened(cls) -> Project:
        """Find it without asking the database: the storage's marker names its id."""
        with suppress(LaminError, OSError):
            store = Store(config.configuration().storage)
            if store.is_local and (storage_id := store.read_marker()) is not None:
                return cls(Path(store.root), storage_id)
        return cls(None, None)

    def key_of(self, path: Path) -> str:
        """See :func:`lamindb.hooks.code_key`."""
        return code_key(path, self.storage_root, self.storage_id)

    def start_of(self, folder: Path) -> str | None:
        """See :func:`lamindb.hooks.code.project_of`."""
        return project_of(folder, self.storage_root, self.storage_id)
