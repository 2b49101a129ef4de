"""Events into rows. Every event is an upsert, so that order and repetition do not matter."""

from __future__ import annotations

from lamindb.recording.files import record_files
from lamindb.recording.runs import record_runs

__all__ = ["record_files", "record_runs"]
