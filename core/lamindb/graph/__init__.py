"""Lineage: what a file or run comes from and what came of it, as tables, graphs and pictures."""

from __future__ import annotations

from lamindb.graph.view import Lineage, lineage

__all__ = ["Lineage", "lineage"]
