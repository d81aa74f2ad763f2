"""What the ledger says of the service as a whole, in a handful of bounded queries."""

from dataclasses import dataclass

import sqlalchemy as sa

from app.contract.job import JobState
from app.ledger.database import after, now
from app.ledger.tables import artifacts, events, jobs, upload_parts

WINDOW_S = 3600  # how far back the stages of finished jobs are looked at
SAMPLE = 200  # jobs of the window, at most


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits in one pool, and what runs there."""

    pool: str
    queued: int
    oldest_s: float  # 0 where nothing waits
    leases: int
    silent: int  # leases that have run out, and nobody has reaped yet


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of the jobs that ended lately."""

    stage: str
    jobs: int
    seconds: float  # of all of them


def by_state(tx: sa.Connection) -> dict[JobState, int]:
    """Jobs that the ledger knows, by state; every state is there."""
    counted = tx.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)).all()
    return dict.fromkeys(JobState, 0) | {JobState(state): count for state, count in counted}


def queues(tx: sa.Connection) -> list[Queue]:
    """Every pool in which something waits or runs."""
    queued, running = jobs.c.state == JobState.QUEUED.value, jobs.c.state == JobState.RUNNING.value
    rows = tx.execute(
        sa.select(
            jobs.c.pool,
            sa.func.count(sa.case((queued, 1))).label("queued"),
            (now() - sa.func.min(sa.case((queued, jobs.c.created_at)))).label("oldest"),
            sa.func.count(sa.case((running, 1))).label("leases"),
            sa.func.count(sa.case((sa.and_(running, jobs.c.lease_until < now()), 1))).label("silent"),
        )
        .where(jobs.c.state.in_([JobState.QUEUED.value, JobState.RUNNING.value]))
        .group_by(jobs.c.pool)
        .order_by(jobs.c.pool)
    )
    return [Queue(row.pool, row.queued, (row.oldest or 0) / 1000, row.leases, row.silent) for row in rows]


def stage_times(tx: sa.Connection) -> list[StageTime]:
    """From one event to the next of the same job, added up by the stage of the first."""
    lately = (
        sa.select(jobs.c.id)
        .where(jobs.c.finished_at > after(-WINDOW_S))
        .order_by(jobs.c.finished_at.desc())
        .limit(SAMPLE)
    )
    following = sa.func.lead(events.c.at).over(partition_by=events.c.job_id, order_by=events.c.id)
    steps = (
        sa.select(
            events.c.job_id,
            events.c.type,
            events.c.data["stage"].as_string().label("stage"),
            (following - events.c.at).label("spent"),
        )
        .where(events.c.job_id.in_(lately))
        .subquery()
    )
    rows = tx.execute(
        sa.select(
            steps.c.stage,
            sa.func.count(steps.c.job_id.distinct()).label("jobs"),
            sa.func.sum(steps.c.spent).label("spent"),
        )
        .where(steps.c.type == "step")
        .group_by(steps.c.stage)
        .order_by(steps.c.stage)
    )
    return [StageTime(row.stage, row.jobs, float(row.spent or 0) / 1000) for row in rows]


def bytes_stored(tx: sa.Connection) -> dict[str, int]:
    """Bytes of artifacts, and of the parts of uploads that are not complete."""
    return {
        "artifacts": int(tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(artifacts.c.size), 0))) or 0),
        "parts": int(tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(upload_parts.c.size), 0))) or 0),
    }
