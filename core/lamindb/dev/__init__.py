"""What examples and guides work with: ``ln.dev.datasets``."""

from lamindb.dev import datasets

__all__ = ["datasets"]
