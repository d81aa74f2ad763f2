"""How long the ledger takes with few and many rows: list, claim, find, submit; on SQLite and PostgreSQL."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg
import sqlalchemy as sa

from app.contract.artifact import Named
from app.contract.job import Inputs, JobRequest
from app.ledger import artifacts, claims, jobs, schema, tenants
from app.ledger.database import Database, now
from app.ledger.tables import job_artifacts
from app.ledger.tables import jobs as jobs_table
from app.settings import Clocks

SIZES = (10, 1_000, 100_000)
REPEATS = 21
TENANT, POOL = "crowd", "cpu"
DIGESTS = [f"sha256:{letter * 64}" for letter in "ab"]
REQUEST = JobRequest(inputs=Inputs(model=Named(digest=DIGESTS[0]), samples=Named(digest=DIGESTS[1])))
OTHER = "other"
HEADINGS = (
    *("database", "queued jobs of one tenant", "list ms", "find last ms", "claim ms", "submit ms"),
    "another tenant's first job is claimed as number (target 2)",
)


def rows(server_url: str) -> Iterator[tuple[str, ...]]:
    """The table's rows: medians of `REPEATS`."""
    with TemporaryDirectory() as folder:
        yield from _growing(f"sqlite:///{Path(folder) / 'ledger.db'}", "SQLite")
    if server_url:
        with _postgres(server_url) as url:
            yield from _growing(url, "PostgreSQL")


def _growing(url: str, name: str) -> Iterator[tuple[str, ...]]:
    database = Database(url)
    schema.upgrade(database)
    with database.write() as tx:
        for tenant in (TENANT, OTHER):
            tenants.ensure(tx, tenant)
            for digest in DIGESTS:
                artifacts.record(tx, tenant, digest, 1, 3600)
    there = 0
    for size in SIZES:
        last = _fill(database, there, size)
        there = size
        yield (name, f"{size:,}", *(f"{took:.1f}" for took in _timed(database, last)), str(_turn(database)))
    database.close()


def _fill(database: Database, there: int, size: int) -> str:
    """Queue jobs until there are `size`; the last one's id."""
    names = [f"job_{uuid4().hex}" for _ in range(size - there)]
    with database.write() as tx:
        at = tx.execute(sa.select(now())).scalar_one()
        values: dict[str, object] = {
            "tenant_id": TENANT,
            "kind": "sanitize",
            "state": "queued",
            "pool": POOL,
            "options": {},
        }
        values |= {"not_before": 0, "keep_ms": 1000}
        tx.execute(
            sa.insert(jobs_table),
            [values | {"id": name, "created_at": at + place} for place, name in enumerate(names)],
        )
        inputs = [("model", DIGESTS[0]), ("samples", DIGESTS[1])]
        held = [
            {"job_id": name, "kind": kind, "tenant_id": TENANT, "digest": digest, "name": ""}
            for name in names
            for kind, digest in inputs
        ]
        tx.execute(sa.insert(job_artifacts), held)
        if tx.dialect.name == "postgresql":
            tx.execute(sa.text("ANALYZE"))
    return names[-1]


def _timed(database: Database, last: str) -> Iterator[float]:
    def write(work: Callable[[sa.Connection], object]) -> Callable[[], None]:
        def run() -> None:
            with database.write() as tx:
                work(tx)
                tx.rollback()  # so that every repeat meets the same rows

        return run

    for work in (
        lambda tx: jobs.page(tx, TENANT, 20),
        lambda tx: jobs.find(tx, TENANT, last),
        lambda tx: claims.claim(tx, POOL, "benchmark", Clocks()),
        lambda tx: jobs.submit(tx, TENANT, REQUEST, pool=POOL, keep_s=3600),
    ):
        run, took = write(work), []
        for _ in range(REPEATS):
            began = time.perf_counter()
            run()
            took.append((time.perf_counter() - began) * 1000)
        yield median(took)


def _turn(database: Database) -> int:
    """How many claims it takes until the other tenant's only job is claimed."""
    with database.write() as tx:
        jobs.submit(tx, OTHER, REQUEST, pool=POOL, keep_s=3600)
        claimed = 1
        while (held := claims.claim(tx, POOL, "benchmark", Clocks())) is not None and held.tenant_id != OTHER:
            claimed += 1
        tx.rollback()
    return claimed


@contextmanager
def _postgres(server_url: str) -> Iterator[str]:
    name = f"benchmark_{uuid4().hex[:12]}"
    with psycopg.connect(f"{server_url}/postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server_url.replace('postgresql:', 'postgresql+psycopg:')}/{name}"
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
