"""Schema migrations. Run by ``admin.py`` on a connection of its own making; no alembic.ini is needed."""
