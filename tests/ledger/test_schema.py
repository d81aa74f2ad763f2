"""The migrations make the tables of the code, and an unknown version is refused."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from app.errors import SettingsError
from app.ledger import schema
from app.ledger.database import Database
from app.ledger.tables import metadata


def test_the_migrations_make_the_tables_of_the_code(migrated: Database) -> None:
    with migrated.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []
    schema.check(migrated)


def test_a_second_upgrade_changes_nothing(migrated: Database) -> None:
    schema.upgrade(migrated)
    schema.check(migrated)


def test_an_empty_database_and_an_unknown_version_are_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(SettingsError, match="no tables yet"):
        schema.check(database)
    schema.upgrade(database)
    with database.write() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for refuse in (schema.check, schema.upgrade):
        with pytest.raises(SettingsError, match="9999"):
            refuse(database)
    database.close()
