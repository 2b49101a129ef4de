"""The five records: File, Transform, Run, Storage and User."""

from __future__ import annotations

from lamindb.records.file import File
from lamindb.records.run import Run
from lamindb.records.storage import Storage
from lamindb.records.transform import Transform
from lamindb.records.user import User

__all__ = ["File", "Run", "Storage", "Transform", "User"]
