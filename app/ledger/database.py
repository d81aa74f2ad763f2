"""One door to SQLite and PostgreSQL: a transaction that reads, a transaction that writes, and the database's clock.

A transaction that writes takes SQLite's write lock at its start: a transaction that begins by reading and then wants
to write is refused there at once, however long it would wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from app.errors import SettingsError, StorageError, UnavailableError

BUSY_S = 30  # how long a writer waits for another one
IDLE_S = 60  # a process that was stopped inside a transaction would keep its job from everybody else


class now(FunctionElement[int]):  # noqa: N801 - reads like the SQL function that it is
    """Milliseconds since 1970 by the database's clock."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own signature
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(now, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:  # noqa: ANN401
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


def after(seconds: float) -> sa.ColumnElement[int]:
    """That many seconds from now."""
    return now() + round(seconds * 1000)


def insert(tx: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, in the tongue of this database."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)


class Database:
    """Connections to one ledger."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.lone_writer = Lock() if url.startswith("sqlite") else None

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads. Raises `UnavailableError` when the database does not answer."""
        with _translated(), self.engine.begin() as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; it commits at its end. Raises `UnavailableError`, `StorageError`."""
        writer = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        with self._turn(), _translated(), writer.begin() as transaction:
            yield transaction

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let this process's writers queue for SQLite's lock: inside it they would sleep, try again, and starve."""
        if self.lone_writer is None:
            yield
        elif self.lone_writer.acquire(timeout=BUSY_S):
            try:
                yield
            finally:
                self.lone_writer.release()
        else:
            raise UnavailableError("The ledger is busy.")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if "disk is full" in str(error.orig) or "No space left" in str(error.orig):
            raise StorageError("The disk of the ledger is full.") from error
        if isinstance(error, OperationalError) or error.connection_invalidated:
            raise UnavailableError("The ledger does not answer at the moment.") from error
        raise


def _engine(url: str) -> sa.Engine:
    if not url.startswith("sqlite"):
        # A transaction per statement is enough: every decision is one guarded UPDATE, or locks its rows first.
        given = {"connect_timeout": 5, "options": f"-c idle_in_transaction_session_timeout={IDLE_S}s"}
        return sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20, connect_args=given)
    file = Path(str(sa.make_url(url).database))
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"{str(file.parent)!r} cannot hold the ledger: {error.strerror}.") from error
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_S, "isolation_level": None}, pool_size=10, max_overflow=20
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:  # noqa: ANN401 - of the driver
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise SettingsError(
            f"SQLite keeps its journal as {mode!r} here, not as a write-ahead log.",
            code="settings.database",
            remedy="Put SANITIZER_HOME on a local disk, or set SANITIZER_DATABASE_URL to a PostgreSQL server.",
        )
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
