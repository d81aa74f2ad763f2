"""What a worker does with a job: claim, heartbeat, step, and one of four ends.

A claim gives a lease and an attempt number. Every later write names that number and is made only while the job still
carries it: a worker that lost its lease finds that nothing it says is written down any more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.contract.artifact import Artifact
from app.contract.findings import VerdictLabel
from app.contract.job import Job, JobState, Stage
from app.contract.problem import Problem
from app.contract.report import Outcome
from app.ledger import artifacts, events
from app.ledger.database import after, now
from app.ledger.rows import JOBS, to_jobs
from app.ledger.tables import job_artifacts, jobs, tenants
from app.ledger.tenants import may_run
from app.settings import Clocks

NOT_HELD: Mapping[str, Any] = {"holder": None, "lease_until": None, "stalls_at": None, "deadline_at": None}


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds; `job.attempt` is its fencing token."""

    tenant_id: str
    job: Job


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the ledger answers to a heartbeat."""

    cancel: bool
    stalled: bool
    late: bool


def claim(tx: sa.Connection, pool: str, holder: str, clocks: Clocks) -> Claim | None:
    """The next job of the pool; None where nothing waits. Tenants take turns, each tenant's oldest job first."""
    for tenant_id in _turns(tx, pool):
        with tx.begin_nested() as turn:
            job_id = _oldest(tx, tenant_id, pool) if may_run(tx, tenant_id) else None
            if job_id is not None:
                tx.execute(sa.update(tenants).where(tenants.c.id == tenant_id).values(served_at=now()))
                return Claim(tenant_id, _take(tx, job_id, holder, clocks))
            turn.rollback()  # lets go of the tenant: who holds two may wait in a ring
    return None


def heartbeat(tx: sa.Connection, held: Claim, clocks: Clocks) -> Pulse | None:
    """Renew the lease; None where the job is no longer this worker's."""
    row = tx.execute(
        sa.update(jobs)
        .where(_mine(held))
        .values(lease_until=after(clocks.lease_s))
        .returning(jobs.c.cancel_requested_at, jobs.c.stalls_at, jobs.c.deadline_at, now().label("now"))
    ).one_or_none()
    if row is None:
        return None
    return Pulse(
        cancel=row.cancel_requested_at is not None,
        stalled=row.stalls_at <= row.now,
        late=row.deadline_at <= row.now,
    )


def step(
    tx: sa.Connection, held: Claim, stage: Stage, fraction: float, data: Mapping[str, Any], clocks: Clocks
) -> bool:
    """Write down progress; the fraction never falls. False where the job is no longer this worker's."""
    higher = sa.case((jobs.c.fraction > fraction, jobs.c.fraction), else_=fraction)
    moved = tx.execute(
        sa.update(jobs)
        .where(_mine(held))
        .values(stage=stage.value, fraction=higher, stalls_at=after(clocks.stall_s))
    )
    if moved.rowcount:
        events.append(tx, held.job.id, held.job.attempt, "step", {"stage": stage.value, **data})
    return bool(moved.rowcount)


def succeed(
    tx: sa.Connection,
    held: Claim,
    outputs: Iterable[Artifact],
    verdict: VerdictLabel | None,
    outcome: Outcome | None,
    keep_s: float,
) -> bool:
    """End the job with its outputs; False, and nothing written, where it is no longer this worker's."""
    said = {"verdict": verdict and verdict.value, "outcome": outcome and outcome.value}
    if not _end(tx, held, JobState.SUCCEEDED, fraction=1.0, **said):
        return False
    for output in outputs:
        artifacts.record(tx, held.tenant_id, output.digest, output.size, keep_s)
        tx.execute(
            sa.insert(job_artifacts).values(
                job_id=held.job.id,
                kind=output.kind.value,
                tenant_id=held.tenant_id,
                digest=output.digest,
                name=output.name,
            )
        )
    return True


def fail(tx: sa.Connection, held: Claim, problem: Problem) -> bool:
    """End the job with a problem; False where it is no longer this worker's."""
    return _end(tx, held, JobState.FAILED, problem=problem.model_dump(mode="json"))


def canceled(tx: sa.Connection, held: Claim) -> bool:
    """End the job as its owner wished; False where it is no longer this worker's."""
    return _end(tx, held, JobState.CANCELED)


def release(tx: sa.Connection, held: Claim) -> bool:
    """Give the job back unharmed, because the worker is being stopped; False where it is no longer this worker's."""
    return _requeue(tx, held, delay_s=0, why="drain")


def lose(tx: sa.Connection, held: Claim, why: str, clocks: Clocks) -> bool:
    """The attempt came to nothing through no decision of ours: queue it again, or call the job poisoned.

    False where the job is no longer this worker's.
    """
    row = tx.execute(sa.select(jobs.c.losses, jobs.c.cancel_requested_at).where(_mine(held))).one_or_none()
    if row is None:
        return False
    if row.cancel_requested_at is not None:
        return canceled(tx, held)
    losses = row.losses + 1
    if losses >= clocks.max_losses:
        return _end(
            tx,
            held,
            JobState.FAILED,
            losses=losses,
            problem=Problem(
                code="job.poisoned",
                detail=f"{losses} workers were lost while they ran this job; the last one: {why}.",
                remedy="The model or the samples are probably too large for the worker, or made to harm it. "
                "Try a worker with more memory, or report the job to the operator.",
            ).model_dump(mode="json"),
        )
    return _requeue(tx, held, delay_s=2**losses, why=why, losses=losses)


def _turns(tx: sa.Connection, pool: str) -> list[str]:
    """Tenants with work for the pool: fewest running jobs first, then whoever was served longest ago."""
    running = (
        sa.select(sa.func.count())
        .where(jobs.c.tenant_id == tenants.c.id, jobs.c.state == JobState.RUNNING.value)
        .scalar_subquery()
    )
    allowed = sa.or_(tenants.c.max_running.is_(None), running < tenants.c.max_running)
    oldest = _in_line(pool, tenants.c.id).scalar_subquery()
    return list(
        tx.scalars(
            sa.select(tenants.c.id)
            .where(oldest.is_not(None), allowed)
            .order_by(running, tenants.c.served_at, tenants.c.id)
        )
    )


def _oldest(tx: sa.Connection, tenant_id: str, pool: str) -> str | None:
    """The tenant's first waiting job that nobody else is taking right now, locked."""
    job_id: str | None = tx.scalar(_in_line(pool, tenant_id).with_for_update(skip_locked=True))
    return job_id


def _in_line(pool: str, tenant_id: str | sa.Column[str]) -> sa.Select[Any]:
    """The tenant's first waiting job.

    In order even where any would do: PostgreSQL then walks the index of the queue, instead of reading a table of a
    hundred thousand jobs to find that a tenant has none.
    """
    waiting = (jobs.c.state == JobState.QUEUED.value, jobs.c.pool == pool, jobs.c.not_before <= now())
    return (
        sa.select(jobs.c.id)
        .where(*waiting, jobs.c.tenant_id == tenant_id)
        .order_by(jobs.c.created_at, jobs.c.id)
        .limit(1)
    )


def _take(tx: sa.Connection, job_id: str, holder: str, clocks: Clocks) -> Job:
    tx.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=JobState.RUNNING.value,
            attempt=jobs.c.attempt + 1,
            holder=holder,
            stage=None,
            fraction=0.0,
            lease_until=after(clocks.lease_s),
            stalls_at=after(clocks.stall_s),
            deadline_at=after(clocks.deadline_s),
            started_at=sa.func.coalesce(jobs.c.started_at, now()),
            claimed_at=now(),
        )
    )
    job = to_jobs(tx, tx.execute(JOBS.where(jobs.c.id == job_id)).all())[0]
    events.entered(tx, job_id, job.attempt, JobState.RUNNING)
    return job


def _mine(held: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(
        jobs.c.id == held.job.id,
        jobs.c.attempt == held.job.attempt,
        jobs.c.state == JobState.RUNNING.value,
    )


def _end(tx: sa.Connection, held: Claim, state: JobState, **values: object) -> bool:
    ended = tx.execute(
        sa.update(jobs)
        .where(_mine(held))
        .values(state=state.value, finished_at=now(), expires_at=now() + jobs.c.keep_ms, **NOT_HELD, **values)
    )
    if ended.rowcount:
        events.entered(tx, held.job.id, held.job.attempt, state)
    return bool(ended.rowcount)


def _requeue(tx: sa.Connection, held: Claim, *, delay_s: float, why: str, **values: object) -> bool:
    back = tx.execute(
        sa.update(jobs)
        .where(_mine(held))
        .values(
            state=JobState.QUEUED.value,
            not_before=after(delay_s),
            stage=None,
            fraction=0.0,
            **NOT_HELD,
            **values,
        )
    )
    if back.rowcount:
        events.entered(tx, held.job.id, held.job.attempt, JobState.QUEUED, why=why)
    return bool(back.rowcount)
