"""Indexes for lists of files and runs that show the newest first, page by page."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index(op.f("ix_file_created_at_id"), "file", ["created_at", "id"])
    op.create_index(op.f("ix_run_created_at_id"), "run", ["created_at", "id"])
