"""What the owner of a job does with it: submit, look, list, cancel, delete."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from app.contract.job import FURTHEST, Job, JobRequest, JobState
from app.errors import ConflictError, GoneError, RequestError, UnknownError
from app.ledger import artifacts as held
from app.ledger import events, tenants
from app.ledger.database import now
from app.ledger.rows import JOBS, to_jobs
from app.ledger.tables import events as events_table
from app.ledger.tables import job_artifacts, jobs
from app.ledger.tables import tenants as tenants_table


class Place(NamedTuple):
    """Where a page ended; the next one starts with the job before it in time."""

    created_at: int
    id: str


def submit(
    tx: sa.Connection,
    tenant_id: str,
    request: JobRequest,
    *,
    pool: str,
    keep_s: float,
    rerun_of: str | None = None,
) -> Job:
    """Write down a queued job. Raises `QuotaError`; `RequestError` (artifact.unknown) for an input never uploaded."""
    tenants.may_queue(tx, tenant_id)
    job_id = f"job_{uuid4().hex}"
    named = request.inputs.by_kind()
    for digest in sorted(
        {item.digest for item in named.values()}
    ):  # one order for all, so nobody waits in a ring
        if not held.keep(tx, tenant_id, digest, keep_s):
            raise RequestError(
                f"Nothing was uploaded under {digest}, or it has expired.",
                status=422,
                code="artifact.unknown",
                remedy="Upload the file with PUT /v1/artifacts and use the digest that it answers.",
            )
    tx.execute(
        sa.insert(jobs).values(
            id=job_id,
            tenant_id=tenant_id,
            kind=request.kind.value,
            state=JobState.QUEUED.value,
            pool=pool,
            options=request.options.model_dump(mode="json"),
            triggered_target=request.triggered_target,
            rerun_of=rerun_of,
            not_before=0,
            created_at=now(),
            keep_ms=round(keep_s * 1000),
        )
    )
    tx.execute(
        sa.insert(job_artifacts),
        [
            {
                "job_id": job_id,
                "kind": kind.value,
                "tenant_id": tenant_id,
                "digest": item.digest,
                "name": item.name,
            }
            for kind, item in named.items()
        ],
    )
    events.entered(tx, job_id, 0, JobState.QUEUED)
    return find(tx, tenant_id, job_id)


def find(tx: sa.Connection, tenant_id: str, job_id: str) -> Job:
    """The job. Raises `UnknownError` where there is none, or it is another tenant's."""
    row = tx.execute(_FOUND, {"job_id": job_id, "tenant_id": tenant_id}).one_or_none()
    if row is None:
        raise UnknownError(f"There is no job {job_id!r}.", code="job.unknown")
    job = to_jobs(tx, [row])[0]
    if job.state is JobState.QUEUED:
        job = job.model_copy(
            update={"queue_position": _position(tx, tenant_id, row.pool, row.created_at, job_id)}
        )
    return job


def present(tx: sa.Connection, tenant_id: str, job_id: str) -> Job:
    """The job, unless its bytes are gone. Raises `UnknownError`, `GoneError`."""
    job = find(tx, tenant_id, job_id)
    if job.state is JobState.EXPIRED:
        raise GoneError(f"The bytes of job {job_id} were deleted.")
    return job


def page(
    tx: sa.Connection, tenant_id: str, size: int, before: Place | None = None, state: JobState | None = None
) -> tuple[list[Job], Place | None]:
    """The newest jobs, at most `size`, and where the next page starts; None at the end."""
    wanted = JOBS.where(jobs.c.tenant_id == tenant_id)
    if before is not None:
        wanted = wanted.where(
            sa.tuple_(jobs.c.created_at, jobs.c.id) < sa.tuple_(before.created_at, before.id)
        )
    if state is not None:
        wanted = wanted.where(jobs.c.state == state.value)
    rows = tx.execute(wanted.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(size + 1)).all()
    shown: Sequence[sa.Row[tuple[object, ...]]] = rows[:size]
    last = Place(shown[-1].created_at, shown[-1].id) if len(rows) > size else None
    return to_jobs(tx, shown), last


def cancel(tx: sa.Connection, tenant_id: str, job_id: str) -> Job:
    """Cancel a queued job at once, ask the holder of a running one, leave a finished one. Raises `UnknownError`."""
    mine = sa.and_(jobs.c.id == job_id, jobs.c.tenant_id == tenant_id)
    canceled = tx.execute(
        sa.update(jobs)
        .where(mine, jobs.c.state == JobState.QUEUED.value)
        .values(
            state=JobState.CANCELED.value,
            cancel_requested_at=now(),
            finished_at=now(),
            expires_at=now() + jobs.c.keep_ms,
        )
    )
    if canceled.rowcount:
        events.entered(tx, job_id, 0, JobState.CANCELED)
    else:
        tx.execute(
            sa.update(jobs)
            .where(mine, jobs.c.state == JobState.RUNNING.value, jobs.c.cancel_requested_at.is_(None))
            .values(cancel_requested_at=now())
        )
    return find(tx, tenant_id, job_id)


def delete(tx: sa.Connection, tenant_id: str, job_id: str, remove: held.Remove) -> None:
    """Delete a finished job's bytes and leave a tombstone. Raises `UnknownError`, `ConflictError` while it runs."""
    if not find(tx, tenant_id, job_id).state.is_terminal:
        raise ConflictError(
            f"Job {job_id} is not finished.",
            code="job.not_finished",
            remedy=f"Cancel it first: POST /v1/jobs/{job_id}:cancel.",
        )
    bury(tx, tenant_id, job_id, remove)


def bury(tx: sa.Connection, tenant_id: str, job_id: str, remove: held.Remove) -> None:
    """Leave of a finished job only that it was there, and of its bytes only what another job names."""
    digests = tx.scalars(
        sa.delete(job_artifacts).where(job_artifacts.c.job_id == job_id).returning(job_artifacts.c.digest)
    ).all()
    tx.execute(sa.delete(events_table).where(events_table.c.job_id == job_id))
    tx.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(state=JobState.EXPIRED.value, options={}, problem=None, expires_at=now())
    )
    held.delete_unused(tx, tenant_id, sorted(set(digests)), remove)


def _position(tx: sa.Connection, tenant_id: str, pool: str, created_at: int, job_id: str) -> int:
    """Tenants take turns: before a tenant's n-th job come n - 1 of its own and at most n of each other tenant.

    It counts no further than `FURTHEST`, so it takes as long with a hundred jobs in the queue as with a million.
    """
    asked = {"tenant_id": tenant_id, "pool": pool, "created_at": created_at, "job_id": job_id}
    own = tx.scalars(_OWN, asked).one()
    if own >= FURTHEST:
        return FURTHEST
    others = tx.scalars(_OTHERS, {"tenant_id": tenant_id, "pool": pool, "turns": own + 1}).one()
    return min(FURTHEST, own + 1 + (others or 0))


def _counted(condition: sa.ColumnElement[bool], limit: int | sa.BindParameter[int]) -> sa.ScalarSelect[int]:
    """How many queued jobs of the pool there are, up to a limit."""
    queued = sa.and_(jobs.c.state == JobState.QUEUED.value, jobs.c.pool == sa.bindparam("pool"))
    found = sa.select(jobs.c.id).where(queued, condition).limit(limit).correlate(tenants_table).subquery()
    return sa.select(sa.func.count()).select_from(found).scalar_subquery()


# Built once: to put a statement together takes SQLAlchemy longer than these take the database.
_FOUND = JOBS.where(jobs.c.id == sa.bindparam("job_id"), jobs.c.tenant_id == sa.bindparam("tenant_id"))
_OWN = sa.select(
    _counted(
        sa.and_(
            jobs.c.tenant_id == sa.bindparam("tenant_id"),
            sa.tuple_(jobs.c.created_at, jobs.c.id)
            < sa.tuple_(
                sa.bindparam("created_at", type_=sa.BigInteger), sa.bindparam("job_id", type_=sa.String)
            ),
        ),
        FURTHEST,
    )
)
_OTHERS = sa.select(
    sa.func.sum(_counted(jobs.c.tenant_id == tenants_table.c.id, sa.bindparam("turns", type_=sa.Integer)))
).where(tenants_table.c.id != sa.bindparam("tenant_id"))
