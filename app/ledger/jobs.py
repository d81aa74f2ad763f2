"""What the owner of a job does with it: submit, look, list, cancel, delete."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from app.contract.job import FURTHEST, Job, JobRequest, JobState
from app.errors import ConflictError, GoneError, RequestError, UnknownError
from app.ledger import artifacts as held
from app.ledger import events, tenants
from app.ledger.database import now
from app.ledger.queue import places
from app.ledger.rows import JOBS, to_jobs
from app.ledger.tables import events as events_table
from app.ledger.tables import job_artifacts, jobs

_ID = re.compile("job_[0-9a-f]{32}")


class Owned(NamedTuple):
    """A job, as its tenant asks for it."""

    tenant_id: str
    job_id: str


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
    job_id = f"job_{uuid4().hex}"  # see _ID
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
        _SUBMITTED,
        {
            "id": job_id,
            "tenant_id": tenant_id,
            "kind": request.kind.value,
            "pool": pool,
            "options": request.options.model_dump(mode="json"),
            "triggered_target": request.triggered_target,
            "rerun_of": rerun_of,
            "keep_ms": round(keep_s * 1000),
        },
    )
    of_job = {"job_id": job_id, "tenant_id": tenant_id}
    inputs = [
        of_job | {"kind": kind.value, "digest": item.digest, "name": item.name}
        for kind, item in named.items()
    ]
    tx.execute(_NAMED, inputs)
    events.entered(tx, job_id, 0, JobState.QUEUED)
    return find(tx, tenant_id, job_id)


def find_all(tx: sa.Connection, wanted: Collection[Owned]) -> dict[Owned, Job]:
    """Those of the jobs that there are; many in one queue take as many statements as one."""
    ids = [one.job_id for one in wanted if _ID.fullmatch(one.job_id)]  # PostgreSQL refuses some others
    rows = tx.execute(_FOUND, {"job_ids": ids}).all()
    owned = {Owned(row.tenant_id, row.id): row for row in rows}
    mine = {one: row for one, row in owned.items() if one in wanted}  # another tenant's are not there
    found = dict(zip(mine, to_jobs(tx, list(mine.values())), strict=True))
    waiting = {one: job for one, job in found.items() if job.state is JobState.QUEUED}
    queues = {(one.tenant_id, job.pool) for one, job in waiting.items()}
    place = {queue: places(tx, *queue) for queue in queues}
    placed = {
        one: job.model_copy(update={"queue_position": _at(place[one.tenant_id, job.pool], job.id)})
        for one, job in waiting.items()
    }
    return found | placed


def find(tx: sa.Connection, tenant_id: str, job_id: str) -> Job:
    """The job. Raises `UnknownError` where there is none, or it is another tenant's."""
    one = Owned(tenant_id, job_id)
    return there(find_all(tx, {one}).get(one), job_id)


def there(job: Job | None, job_id: str) -> Job:
    """The job. Raises `UnknownError` where it is none."""
    if job is None:
        raise UnknownError(f"There is no job {job_id!r}.", code="job.unknown")
    return job


def present(tx: sa.Connection, tenant_id: str, job_id: str) -> Job:
    """The job, unless its bytes are gone. Raises `UnknownError`, `GoneError`."""
    return kept(find(tx, tenant_id, job_id))


def kept(job: Job) -> Job:
    """The job. Raises `GoneError` where its bytes are gone."""
    if job.state is JobState.EXPIRED:
        raise GoneError(f"The bytes of job {job.id} were deleted.")
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


def _at(place: dict[str, int], job_id: str) -> int:
    """The job's place; one that is in no short queue was claimed since its row was read, so it was the next."""
    return place.get(job_id, FURTHEST if len(place) == FURTHEST else 1)


# Built once: to put a statement together takes SQLAlchemy longer than these take the database.
_FOUND = JOBS.where(jobs.c.id.in_(sa.bindparam("job_ids", expanding=True)))
_GIVEN = ("id", "tenant_id", "kind", "pool", "options", "triggered_target", "rerun_of", "keep_ms")
_SUBMITTED = sa.insert(jobs).values(
    **{name: sa.bindparam(name) for name in _GIVEN},
    state=JobState.QUEUED.value,
    not_before=0,
    created_at=now(),
)
_NAMED = sa.insert(job_artifacts)
