"""The SQL store: the only part of Narrows that speaks SQL. Start at ``open_store``."""

from monitor.store.store import Store, open_store

__all__ = ["Store", "open_store"]
