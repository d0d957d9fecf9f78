"""A store for every contract test, on SQLite and on PostgreSQL: what holds for one must hold for the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monitor.store import Store, open_store


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An open store with all tables and no rows."""
    with open_store(store_url, create=True) as opened:
        yield opened
