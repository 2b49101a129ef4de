"""``python -m lamindb``: the same as ``lamin``."""

from lamindb.cli import main

main()
