"""What an attempt leaves for the next one: bytes that belong to a job, and that nobody downloads.

They are kept as an artifact of the job under a kind of their own, so they go when the job does, if not before.
"""

import sqlalchemy as sa

from app.contract.job import JobState
from app.ledger import artifacts
from app.ledger.claims import Claim
from app.ledger.database import insert
from app.ledger.rows import CHECKPOINT
from app.ledger.tables import job_artifacts, jobs

OVER = [state.value for state in JobState if state.is_terminal]


def keep(tx: sa.Connection, held: Claim, digest: str, size: int, keep_s: float) -> bool:
    """Write down the only checkpoint of a job; False where it is no longer this worker's."""
    mine = tx.scalar(
        sa.select(jobs.c.id)
        .where(
            jobs.c.id == held.job.id,
            jobs.c.attempt == held.job.attempt,
            jobs.c.state == JobState.RUNNING.value,
        )
        .with_for_update()
    )
    if mine is None:
        return False
    artifacts.record(tx, held.tenant_id, digest, size, keep_s)
    row = insert(tx, job_artifacts).values(
        job_id=held.job.id, kind=CHECKPOINT, tenant_id=held.tenant_id, digest=digest, name=""
    )
    tx.execute(
        row.on_conflict_do_update(
            index_elements=[job_artifacts.c.job_id, job_artifacts.c.kind], set_={"digest": digest}
        )
    )
    return True


def find(tx: sa.Connection, job_id: str) -> str | None:
    """The digest of what an attempt before this one left."""
    digest: str | None = tx.scalar(sa.select(job_artifacts.c.digest).where(_of(job_id)))
    return digest


def drop(tx: sa.Connection, held: Claim, remove: artifacts.Remove) -> None:
    """Delete the checkpoint of a job that is over; leave that of one which waits for another attempt."""
    over = sa.exists().where(jobs.c.id == held.job.id, jobs.c.state.in_(OVER))
    dropped = tx.scalars(
        sa.delete(job_artifacts).where(_of(held.job.id), over).returning(job_artifacts.c.digest)
    ).all()
    artifacts.delete_unused(tx, held.tenant_id, list(dropped), remove)


def _of(job_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(job_artifacts.c.job_id == job_id, job_artifacts.c.kind == CHECKPOINT)
