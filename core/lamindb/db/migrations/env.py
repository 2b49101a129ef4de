"""Alembic's entry: runs on the connection it is given, and leaves the host's logging alone."""

from alembic import context

from lamindb.db.migrate import VERSION_TABLE
from lamindb.db.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
