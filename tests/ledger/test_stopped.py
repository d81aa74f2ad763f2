"""A process that is stopped inside a transaction gives back what it holds."""

import time

import pytest
import sqlalchemy as sa

from app.errors import UnavailableError
from app.ledger import database
from app.ledger.database import Database

TAKE, TRY = sa.text("SELECT pg_advisory_xact_lock(7)"), sa.text("SELECT pg_try_advisory_xact_lock(7)")


def freed(other: Database, within: float) -> bool:
    """Whether somebody else gets the lock."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        with other.write() as tx:
            if tx.scalar(TRY):
                return True
        time.sleep(0.05)
    return False


def hold(stopped: Database, other: Database) -> None:
    """Take the lock and do nothing more until it is gone."""
    with stopped.write() as tx:
        tx.execute(TAKE)
        assert not freed(other, 0.3)
        assert freed(other, 20)


def test_postgresql_ends_a_transaction_in_which_nothing_happens(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_S", 1)
    stopped, other = Database(postgres_url), Database(postgres_url)
    with pytest.raises(UnavailableError):
        hold(stopped, other)
    stopped.close()
    other.close()
