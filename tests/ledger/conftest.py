"""One set of tests, two databases: SQLite in a folder, and a PostgreSQL database that is dropped afterwards."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.ledger import schema, tenants
from app.ledger.database import Database
from app.ledger.tables import metadata
from tests.ledger.asking import ALICE, BOB


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    database = Database(url)
    schema.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def ledger(migrated: Database) -> Iterator[Database]:
    with migrated.write() as tx:
        tenants.ensure(tx, ALICE)
        tenants.ensure(tx, BOB)
    yield migrated
    with migrated.write() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(sa.delete(table))
