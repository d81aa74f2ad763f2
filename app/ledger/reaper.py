"""What brings every job to an end: three clocks for those that run, and one for those that are over.

It reads jobs alone and asks no list of workers who is alive. Any number of reapers may run at once.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from app.contract.job import JobState
from app.contract.problem import Problem
from app.ledger import artifacts, claims, jobs, uploads
from app.ledger.claims import Claim
from app.ledger.database import after, now
from app.ledger.rows import JOBS, to_jobs
from app.ledger.tables import artifacts as artifacts_table
from app.ledger.tables import idempotency_keys, job_artifacts
from app.ledger.tables import jobs as jobs_table
from app.settings import Clocks

BATCH = 100  # of one transaction, so that it stays short

STALLED = Problem(
    code="job.stalled",
    detail="The job made no progress for longer than the service waits.",
    remedy="Run it again; if it stalls again, report the job to the operator.",
)
LATE = Problem(
    code="job.deadline",
    detail="The job ran for longer than the service allows.",
    remedy="Try fewer samples or a shorter run (unlearn.max_epochs, recover.epochs, evidence.seeds).",
)


def reap(tx: sa.Connection, clocks: Clocks) -> int:
    """End or requeue the running jobs that nobody cares for; the number of them.

    A worker ends its own stalled and late jobs; here a lease is allowed to pass before its silence is believed.
    """
    overdue = after(-clocks.lease_s)
    lost = [
        claims.lose(tx, held, "it fell silent", clocks)
        for held in _running(tx, jobs_table.c.lease_until < now())
    ]
    stalled = [claims.fail(tx, held, STALLED) for held in _running(tx, jobs_table.c.stalls_at < overdue)]
    late = [claims.fail(tx, held, LATE) for held in _running(tx, jobs_table.c.deadline_at < overdue)]
    return sum((*lost, *stalled, *late))


def expire(tx: sa.Connection, remove: artifacts.Remove) -> int:
    """Delete the bytes of jobs and uploads whose time is over; the number of jobs and uploads."""
    over = sa.select(jobs_table.c.id, jobs_table.c.tenant_id).where(
        jobs_table.c.state.in_(
            [state.value for state in JobState if state.is_terminal and state is not JobState.EXPIRED]
        ),
        jobs_table.c.expires_at < now(),
    )
    ended = tx.execute(over.limit(BATCH).with_for_update(skip_locked=True)).all()
    for row in ended:
        jobs.bury(tx, row.tenant_id, row.id, remove)
    used = sa.exists().where(
        job_artifacts.c.tenant_id == artifacts_table.c.tenant_id,
        job_artifacts.c.digest == artifacts_table.c.digest,
    )
    unused = sa.select(artifacts_table).where(artifacts_table.c.expires_at < now(), ~used)
    stale = tx.execute(unused.limit(BATCH).with_for_update(skip_locked=True)).all()
    for row in stale:
        artifacts.delete_unused(tx, row.tenant_id, [row.digest], remove)
    abandoned = uploads.expire(tx, BATCH, remove)
    tx.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.expires_at < now()))
    return len(ended) + len(stale) + abandoned


def _running(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> Iterable[Claim]:
    found = JOBS.where(jobs_table.c.state == JobState.RUNNING.value, condition)
    rows = tx.execute(found.limit(BATCH).with_for_update(skip_locked=True)).all()
    return [Claim(row.tenant_id, job) for row, job in zip(rows, to_jobs(tx, rows), strict=True)]
