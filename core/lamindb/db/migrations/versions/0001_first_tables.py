"""The first tables.

A migration is history: it spells its tables out and imports nothing that may change later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "environment",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("python", sa.String(length=64), nullable=False),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
    )
    op.create_table(
        "journal",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("owner", sa.JSON(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("handle", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("handle", name=op.f("uq_user_handle")),
    )
    op.create_table(
        "storage",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=True),
        sa.Column("managed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by_id", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["user.id"], name=op.f("fk_storage_created_by_id_user")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage")),
        sa.UniqueConstraint("root", "host", name=op.f("uq_storage_root_host")),
    )
    op.create_table(
        "transform",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("reference_type", sa.String(length=64), nullable=True),
        sa.Column("source_hash", sa.String(length=64), nullable=True),
        sa.Column("created_by_id", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["user.id"], name=op.f("fk_transform_created_by_id_user")
        ),
        sa.PrimaryKeyConstraint("id", "version", name=op.f("pk_transform")),
        sa.UniqueConstraint("key", "version", name=op.f("uq_transform_key_version")),
    )
    op.create_index(op.f("ix_transform_name_type"), "transform", ["name", "type"], unique=False)
    op.create_table(
        "claim",
        sa.Column("storage_id", sa.String(length=8), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("journal_id", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(
            ["journal_id"],
            ["journal.id"],
            name=op.f("fk_claim_journal_id_journal"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["storage_id"], ["storage.id"], name=op.f("fk_claim_storage_id_storage")
        ),
        sa.PrimaryKeyConstraint("storage_id", "key", name=op.f("pk_claim")),
    )
    op.create_index(op.f("ix_claim_journal_id"), "claim", ["journal_id"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("transform_id", sa.String(length=12), nullable=True),
        sa.Column("transform_version", sa.String(length=64), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("engine", sa.String(length=32), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("reference_type", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parent_id", sa.String(length=20), nullable=True),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("environment_id", sa.String(length=22), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("process_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by_id", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["user.id"], name=op.f("fk_run_created_by_id_user")
        ),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environment.id"], name=op.f("fk_run_environment_id_environment")
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["run.id"], name=op.f("fk_run_parent_id_run")),
        sa.ForeignKeyConstraint(
            ["transform_id", "transform_version"],
            ["transform.id", "transform.version"],
            name=op.f("fk_run_transform_id_transform_version_transform"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index(op.f("ix_run_parent_id"), "run", ["parent_id"], unique=False)
    op.create_index(
        op.f("ix_run_transform_id_transform_version"),
        "run",
        ["transform_id", "transform_version"],
        unique=False,
    )
    op.create_table(
        "attempt",
        sa.Column("run_id", sa.String(length=20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_attempt_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_attempt")),
    )
    op.create_table(
        "file",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("hash", sa.String(length=22), nullable=True),
        sa.Column("hash_type", sa.String(length=8), nullable=True),
        sa.Column("hash_note", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("run_id", sa.String(length=20), nullable=True),
        sa.Column("transform_id", sa.String(length=12), nullable=True),
        sa.Column("transform_version", sa.String(length=64), nullable=True),
        sa.Column("storage_id", sa.String(length=8), nullable=False),
        sa.Column("source_uri", sa.Text(), nullable=True),
        sa.Column("is_latest", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by_id", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["user.id"], name=op.f("fk_file_created_by_id_user")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_file_run_id_run")),
        sa.ForeignKeyConstraint(
            ["storage_id"], ["storage.id"], name=op.f("fk_file_storage_id_storage")
        ),
        sa.ForeignKeyConstraint(
            ["transform_id", "transform_version"],
            ["transform.id", "transform.version"],
            name=op.f("fk_file_transform_id_transform_version_transform"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
        sa.UniqueConstraint("storage_id", "key", "hash", name=op.f("uq_file_storage_id_key_hash")),
    )
    op.create_index(op.f("ix_file_hash"), "file", ["hash"], unique=False)
    op.create_index(op.f("ix_file_key"), "file", ["key"], unique=False)
    op.create_index(op.f("ix_file_run_id"), "file", ["run_id"], unique=False)
    op.create_index(op.f("ix_file_source_uri"), "file", ["source_uri"], unique=False)
    op.create_index(
        op.f("ix_file_transform_id_transform_version"),
        "file",
        ["transform_id", "transform_version"],
        unique=False,
    )
    op.create_index(
        "uq_file_keyless_content",
        "file",
        ["storage_id", "hash", "name"],
        unique=True,
        sqlite_where=sa.text("key IS NULL"),
        postgresql_where=sa.text("key IS NULL"),
    )
    op.create_index(
        "uq_file_latest_key",
        "file",
        ["storage_id", "key"],
        unique=True,
        sqlite_where=sa.text("is_latest = 1 AND key IS NOT NULL"),
        postgresql_where=sa.text("is_latest AND key IS NOT NULL"),
    )
    op.create_table(
        "run_run",
        sa.Column("run_id", sa.String(length=20), nullable=False),
        sa.Column("other_id", sa.String(length=20), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["other_id"], ["run.id"], name=op.f("fk_run_run_other_id_run"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_run_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "other_id", "role", name=op.f("pk_run_run")),
    )
    op.create_index(op.f("ix_run_run_other_id"), "run_run", ["other_id"], unique=False)
    op.create_table(
        "run_file",
        sa.Column("run_id", sa.String(length=20), nullable=False),
        sa.Column("file_id", sa.String(length=20), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("how", sa.String(length=8), nullable=False),
        sa.Column("matched_by", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["file.id"], name=op.f("fk_run_file_file_id_file"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_file_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "file_id", "role", name=op.f("pk_run_file")),
    )
    op.create_index(op.f("ix_file_created_at_id"), "file", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_file_name_id"), "file", ["name", "id"], unique=False)
    op.create_index(op.f("ix_file_size_id"), "file", ["size", "id"], unique=False)
    op.create_index(op.f("ix_run_created_at_id"), "run", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_run_started_at_id"), "run", ["started_at", "id"], unique=False)
    for name in ("status", "engine"):
        columns = [name, "started_at", "id"]
        op.create_index(op.f(f"ix_run_{name}_started_at_id"), "run", columns, unique=False)
    op.create_index(op.f("ix_run_file_file_id_role"), "run_file", ["file_id", "role"], unique=False)
    # ### end Alembic commands ###
