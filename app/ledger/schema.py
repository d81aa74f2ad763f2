"""The version of the ledger's tables: brought up to date by one command, checked by everything else."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import SettingsError
from app.ledger.database import Database

LOCK = 0x5A11717  # of PostgreSQL, so that two processes do not migrate at once; SQLite's write lock does the same


def upgrade(database: Database) -> None:
    """Bring the tables to the version of this code. Raises `SettingsError` when they are newer than it."""
    with database.write() as tx:
        if tx.dialect.name == "postgresql":
            tx.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        if (version := _version(tx)) == head():
            return
        if version is not None and version not in _known():
            raise _unknown(version)
        config = _config()
        config.attributes["connection"] = tx
        command.upgrade(config, "head")


def check(database: Database) -> None:
    """Refuse tables of any other version than this code's. Raises `SettingsError`."""
    with database.read() as tx:
        version = _version(tx)
    if version is None:
        raise SettingsError(
            "The ledger has no tables yet.", code="settings.schema", remedy="Run sanitizer migrate once."
        )
    if version != head():
        raise _unknown(version)


def head() -> str:
    """The version that this code works with."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None, "the package holds its migrations"  # noqa: S101
    return found


def _version(tx: sa.Connection) -> str | None:
    return MigrationContext.configure(tx).get_current_revision()


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _unknown(version: str) -> SettingsError:
    return SettingsError(
        f"The ledger's tables are of version {version}, and this code works with version {head()}.",
        code="settings.schema",
        remedy="Run sanitizer migrate with the newest version that is installed anywhere, and start that one.",
    )
