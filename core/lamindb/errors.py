"""Every error the package raises on purpose.

Each also is the builtin that a caller would expect, so ``except FileNotFoundError`` works::

    LaminError
    ├── SetupError (RuntimeError)            an instance cannot be made, found or loaded
    │   └── NoInstanceError                  nothing says which instance to use
    ├── DatabaseError (RuntimeError)
    │   ├── DatabaseMissingError (FileNotFoundError)
    │   ├── DatabaseUnreachableError (ConnectionError)   locked, down, read-only
    │   │   └── DatabaseConflictError        others changed the same at once
    │   ├── DatabaseCorruptError
    │   ├── DatabaseOutdatedError            older than this version of the package
    │   ├── DatabaseTooNewError              written by a newer version of the package
    │   └── DatabaseUnfinishedError          not filled by ``lamin migrate`` to its end
    ├── StorageError (OSError)
    │   ├── StorageMissingError (FileNotFoundError)
    │   ├── StorageReadOnlyError (PermissionError)
    │   ├── StorageUnreachableError (ConnectionError)    no network, no answer, or too busy
    │   ├── StorageFullError
    │   ├── ObjectMissingError (FileNotFoundError)       a record's object is gone
    │   └── ObjectChangedError               a record's object has other bytes than recorded
    ├── CredentialsError (ValueError)        a URL carries a password or a key
    ├── KeyInvalidError (ValueError)
    ├── KeyConflictError (ValueError)        the key, or the path it leads to, is taken
    ├── DataError
    │   ├── DataTypeError (TypeError)        not a path, a directory or a DataFrame
    │   ├── DataMissingError (FileNotFoundError)
    │   ├── DataUnreadableError (PermissionError)
    │   ├── DataNotRegularError (ValueError) a FIFO, socket or device
    │   ├── LinkRefusedError (ValueError)    a link that loops or leaves its directory
    │   ├── DataChangedError (RuntimeError)  the source changed while it was added
    │   ├── NameRequiredError (ValueError)   data in memory without a name or key
    │   └── FormatError (ValueError)         no writer or reader for this suffix
    ├── AddError (RuntimeError)              some of many records could not be added
    ├── DeleteError (RuntimeError)
    │   └── HasDependentsError (ValueError)  other records need this one
    ├── RecordError (ValueError)             a record that cannot be used like that
    ├── BusyError (TimeoutError)             another process holds the key for too long
    ├── LeaseLostError (RuntimeError)        another process took this operation for dead
    ├── FieldUnknownError (AttributeError)
    ├── TransformUnknownError (ValueError)   ``track()`` cannot tell what is running
    ├── PackageMissingError (ImportError)    an optional package is not installed
    └── PluginError (RuntimeError)           a plugin failed, and strict mode is on
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class LaminError(Exception):
    """Root of the tree: catch this for anything raised on purpose."""


class SetupError(LaminError, RuntimeError):
    """An instance cannot be made, found or loaded."""


class NoInstanceError(SetupError):
    """Nothing says which instance to use."""


class DatabaseError(LaminError, RuntimeError):
    """The database does not do what it should."""


class DatabaseMissingError(DatabaseError, FileNotFoundError):
    """The instance's database is not where its configuration says."""


class DatabaseUnreachableError(DatabaseError, ConnectionError):
    """The database is locked, down or read-only."""


class DatabaseConflictError(DatabaseUnreachableError):
    """Others changed the same at once, more often than it was tried again."""


class DatabaseCorruptError(DatabaseError):
    """The database file is damaged, or is no database."""


class DatabaseOutdatedError(DatabaseError):
    """The database is older than this version of the package."""


class DatabaseTooNewError(DatabaseError):
    """The database was written by a newer version of the package."""


class DatabaseUnfinishedError(DatabaseError):
    """``lamin migrate`` has not filled the database to its end."""


class StorageError(LaminError, OSError):
    """A storage location does not do what it should."""


class StorageMissingError(StorageError, FileNotFoundError):
    """The storage root is gone, or another storage lies in its place."""


class StorageReadOnlyError(StorageError, PermissionError):
    """The storage refuses writes."""


class StorageUnreachableError(StorageError, ConnectionError):
    """The storage does not answer, or answers that it is too busy: another time it may."""


class StorageFullError(StorageError):
    """No space is left in the storage."""


class ObjectMissingError(StorageError, FileNotFoundError):
    """The object of a record is gone."""


class ObjectChangedError(StorageError):
    """The object of a record has other bytes than were recorded."""


class CredentialsError(LaminError, ValueError):
    """A URL carries a password or an access key."""


class KeyInvalidError(LaminError, ValueError):
    """A storage key that cannot be used; ``.key`` holds it."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class KeyConflictError(LaminError, ValueError):
    """The key, or the path it leads to, is taken by something else."""


class DataError(LaminError):
    """The data given to ``ln.File`` cannot be used."""


class DataTypeError(DataError, TypeError):
    """Neither a path, a directory nor a DataFrame."""


class DataMissingError(DataError, FileNotFoundError):
    """Nothing lies at the given path."""


class DataUnreadableError(DataError, PermissionError):
    """The given path may not be read."""


class DataNotRegularError(DataError, ValueError):
    """The given path is a FIFO, a socket or a device."""


class LinkRefusedError(DataError, ValueError):
    """A symbolic link in a directory loops, or leaves the directory."""


class DataChangedError(DataError, RuntimeError):
    """The source changed while it was added."""


class NameRequiredError(DataError, ValueError):
    """Data in memory came without a name or a key."""


class FormatError(DataError, ValueError):
    """No reader or writer is known for this suffix."""


class AddError(LaminError, RuntimeError):
    """Some of many records could not be added, so none was.

    ``.failures`` holds ``(record, exception)`` pairs in the order given.
    """

    def __init__(self, failures: Sequence[tuple[Any, Exception]], total: int) -> None:
        self.failures = list(failures)
        lines = "".join(f"\n  - {record!r}: {error}" for record, error in self.failures)
        super().__init__(
            f"none of {total} records was added, because {len(self.failures)} failed: "
            f"mend or leave out these and add again{lines}"
        )


class DeleteError(LaminError, RuntimeError):
    """A record could not be deleted; nothing was."""


class HasDependentsError(DeleteError, ValueError):
    """Other records need this one; ``.dependents`` names them."""

    def __init__(self, message: str, dependents: Sequence[str]) -> None:
        super().__init__(message)
        self.dependents = list(dependents)


class RecordError(LaminError, ValueError):
    """A record cannot be used like that."""


class BusyError(LaminError, TimeoutError):
    """Another process holds a storage key for longer than the time allowed."""


class LeaseLostError(LaminError, RuntimeError):
    """Another process took this operation for dead and undid it."""


class FieldUnknownError(LaminError, AttributeError):
    """A field that the record does not have."""


class TransformUnknownError(LaminError, ValueError):
    """``track()`` cannot tell what is running."""


class PackageMissingError(LaminError, ImportError):
    """An optional package is needed, and not installed."""


class PluginError(LaminError, RuntimeError):
    """A plugin failed, and strict mode is on."""
