"""Find files by their key without reading all of them, as each ``add`` does.

The unique constraints begin with the storage, which is not always asked for.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index(op.f("ix_file_key"), "file", ["key"])
