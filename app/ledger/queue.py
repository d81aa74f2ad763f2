"""Places in the queue. Tenants take turns: before a tenant's n-th job come n - 1 of its own and n of each other one."""

import sqlalchemy as sa

from app.contract.job import FURTHEST, JobState
from app.ledger.tables import jobs, tenants

_WAITING = sa.and_(jobs.c.state == JobState.QUEUED.value, jobs.c.pool == sa.bindparam("pool"))
_OWN = (
    sa.select(jobs.c.id)
    .where(_WAITING, jobs.c.tenant_id == sa.bindparam("tenant_id"))
    .order_by(jobs.c.created_at, jobs.c.id)
    .limit(FURTHEST)
)
_ANOTHERS = (  # in order, so that PostgreSQL walks an index; else it may read the whole table
    sa.select(jobs.c.id)
    .where(_WAITING, jobs.c.tenant_id == tenants.c.id)
    .order_by(jobs.c.created_at, jobs.c.id)
    .limit(FURTHEST)
    .correlate(tenants)
    .subquery()
)
_OTHERS = sa.select(sa.select(sa.func.count()).select_from(_ANOTHERS).scalar_subquery()).where(
    tenants.c.id != sa.bindparam("tenant_id")
)


def places(tx: sa.Connection, tenant_id: str, pool: str) -> dict[str, int]:
    """The place of each of the tenant's queued jobs, 1: next; those from `FURTHEST` on may be left out.

    It counts no further, so it takes as long with a hundred jobs in the queue as with a million.
    """
    asked = {"tenant_id": tenant_id, "pool": pool}
    own = tx.scalars(_OWN, asked).all()
    others = [count for count in tx.scalars(_OTHERS, asked) if count] if own else []
    ranked = enumerate(own, 1)
    return {
        job_id: min(FURTHEST, turn + sum(min(turn, count) for count in others)) for turn, job_id in ranked
    }
