"""Records in the formats of others: RO-Crate for archives, OpenLineage for catalogues."""

from __future__ import annotations
