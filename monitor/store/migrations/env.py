"""Runs the revisions on the connection that ``admin.py`` hands over, inside its transaction.

The transaction also holds the row that says which revision the database has: a migration and its record are one.
"""

from __future__ import annotations

from alembic import context

from monitor.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
