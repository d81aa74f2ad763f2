"""Who jobs and bytes belong to, and how much of both they may have.

A quota is checked in the very transaction that would break it, with the tenant's row locked: two that race for the
last place come one after the other. The lock is always the first of a transaction, and lets rows that point at the
tenant come and go.
"""

import sqlalchemy as sa

from app.contract.job import JobState
from app.contract.tenant import Quota, TenantUsage
from app.errors import QuotaError, UnknownError
from app.ledger.database import insert, now
from app.ledger.tables import artifacts, jobs, tenants, uploads

LOCAL = "local"  # whoever sits at the machine, where auth is off
SOON_S = 30  # until a look at a full queue is worth it


def ensure(tx: sa.Connection, tenant_id: str, quota: Quota | None = None) -> None:
    """Make the tenant with that quota, unless it is there."""
    shares = (quota or Quota()).model_dump()
    tx.execute(insert(tx, tenants).values(id=tenant_id, created_at=now(), **shares).on_conflict_do_nothing())


def limit(tx: sa.Connection, tenant_id: str, shares: dict[str, int | None]) -> TenantUsage:
    """Change some of a tenant's shares, by the names of `Quota`. Raises `UnknownError`."""
    if shares:
        tx.execute(sa.update(tenants).where(tenants.c.id == tenant_id).values(**shares))
    found = everyone(tx, tenant_id)
    if not found:
        raise UnknownError(
            f"There is no tenant {tenant_id!r}.",
            code="tenant.unknown",
            remedy="sanitizer tenants list shows them; the first key of a tenant makes it.",
        )
    return found[0]


def everyone(tx: sa.Connection, tenant_id: str | None = None) -> list[TenantUsage]:
    """All tenants, or one, with what they use."""
    wanted = sa.select(
        tenants,
        _jobs(tenants.c.id, JobState.QUEUED).label("queued"),
        _jobs(tenants.c.id, JobState.RUNNING).label("running"),
        (_bytes(tenants.c.id) + _promised(tenants.c.id)).label("bytes"),
    ).order_by(tenants.c.id)
    if tenant_id is not None:
        wanted = wanted.where(tenants.c.id == tenant_id)
    return [
        TenantUsage(
            id=row.id,
            quota=Quota(max_queued=row.max_queued, max_running=row.max_running, max_bytes=row.max_bytes),
            queued=row.queued,
            running=row.running,
            bytes=row.bytes,
        )
        for row in tx.execute(wanted)
    ]


def may_queue(tx: sa.Connection, tenant_id: str) -> None:
    """Raises `QuotaError` (quota.queued) where one more waiting job is one too many."""
    most = _share(tx, tenant_id, tenants.c.max_queued)
    if most is not None and _count(tx, _jobs(tenant_id, JobState.QUEUED)) >= most:
        raise QuotaError(
            f"{most} jobs may wait at once, and as many do.",
            code="quota.queued",
            remedy="Wait until one of them runs, or cancel one. The operator can raise the quota.",
            retry_after_s=SOON_S,
        )


def may_store(tx: sa.Connection, tenant_id: str, digest: str, size: int) -> None:
    """Raises `QuotaError` (quota.bytes) where `size` more bytes are too many.

    What is there already costs nothing, nor does what an upload in parts has promised.
    """
    _fit(tx, tenant_id, size, _bytes(tenant_id, artifacts.c.digest != digest), uploads.c.digest != digest)


def may_promise(tx: sa.Connection, tenant_id: str, digest: str, size: int) -> None:
    """The same for an upload in parts: all that it may grow to counts from its first byte. Raises `QuotaError`."""
    _fit(tx, tenant_id, size, _bytes(tenant_id, artifacts.c.digest != digest))


def _fit(
    tx: sa.Connection, tenant_id: str, size: int, stored: sa.ScalarSelect[int], *which: sa.ColumnElement[bool]
) -> None:
    most = _share(tx, tenant_id, tenants.c.max_bytes)
    if most is None:
        return
    held = _count(tx, stored) + _count(tx, _promised(tenant_id, *which))
    if held + size > most:
        raise QuotaError(
            f"{size:,} bytes do not fit: {held:,} of {most:,} are in use.",
            status=413,
            code="quota.bytes",
            remedy="Delete jobs that are no longer needed, with DELETE /v1/jobs/ID, and uploads that nobody goes on "
            "with. The operator can raise the quota.",
        )


def may_run(tx: sa.Connection, tenant_id: str) -> bool:
    """Whether one more job may run; locks the tenant's row where there is a limit."""
    most = _share(tx, tenant_id, tenants.c.max_running)
    return most is None or _count(tx, _jobs(tenant_id, JobState.RUNNING)) < most


def _share(tx: sa.Connection, tenant_id: str, column: sa.Column[int]) -> int | None:
    """The limit, after a lock on the tenant's row where there is one."""
    wanted = sa.select(column).where(tenants.c.id == tenant_id)
    if tx.scalar(wanted) is None:
        return None
    most: int | None = tx.scalar(wanted.with_for_update(key_share=True))
    return most


def _count(tx: sa.Connection, number: sa.ScalarSelect[int]) -> int:
    """A statement of its own, so that it sees what was committed while the lock was waited for."""
    return tx.execute(sa.select(number)).scalar_one()


def _jobs(tenant_id: str | sa.Column[str], state: JobState) -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.count())
        .where(jobs.c.tenant_id == tenant_id, jobs.c.state == state.value)
        .scalar_subquery()
    )


def _bytes(tenant_id: str | sa.Column[str], *which: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    held = sa.func.coalesce(sa.func.sum(artifacts.c.size), 0)
    return (
        sa.select(sa.cast(held, sa.BigInteger))
        .where(artifacts.c.tenant_id == tenant_id, *which)
        .scalar_subquery()
    )


def _promised(tenant_id: str | sa.Column[str], *which: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """The bytes of uploads in parts that are on their way, whole."""
    promised = sa.func.coalesce(sa.func.sum(uploads.c.size), 0)
    on_their_way = (
        uploads.c.tenant_id == tenant_id,
        uploads.c.completed_at.is_(None),
        uploads.c.expires_at > now(),
    )
    return sa.select(sa.cast(promised, sa.BigInteger)).where(*on_their_way, *which).scalar_subquery()
