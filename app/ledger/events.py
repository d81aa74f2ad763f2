"""What happened to a job, in order: ids grow and are never given twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.contract.job import JobState
from app.ledger.database import now
from app.ledger.tables import events, jobs


@dataclass(frozen=True, slots=True)
class News:
    """Events, and whether none will follow those that are in the ledger."""

    rows: Sequence[sa.Row[Any]]
    over: bool


def append(tx: sa.Connection, job_id: str, attempt: int, type_: str, data: dict[str, Any]) -> None:
    """Write one event. Call it in the transaction that holds the job's row, so that the ids follow the order."""
    tx.execute(_APPENDED, {"job_id": job_id, "attempt": attempt, "type": type_, "data": data})


def entered(tx: sa.Connection, job_id: str, attempt: int, state: JobState, **why: object) -> None:
    """The job is in another state now."""
    append(tx, job_id, attempt, "state", {"state": state.value, **why})


def since(tx: sa.Connection, job_id: str, last_id: int, limit: int) -> list[sa.Row[Any]]:
    """At most `limit` events (id, attempt, type, data, at) with larger ids than `last_id`."""
    found = sa.select(events).where(events.c.job_id == job_id, events.c.id > last_id)
    return list(tx.execute(found.order_by(events.c.id).limit(limit)))


def news(tx: sa.Connection, job_id: str, last_id: int, limit: int) -> News:
    """What `since` finds. The state is read first: whatever led to it is then in the ledger, and found."""
    state = tx.scalar(sa.select(jobs.c.state).where(jobs.c.id == job_id))
    over = state is None or JobState(state).is_terminal
    return News(since(tx, job_id, last_id, limit), over)


# Built once: to put a statement together takes SQLAlchemy longer than this takes the database.
_APPENDED = sa.insert(events).values(
    **{name: sa.bindparam(name) for name in ("job_id", "attempt", "type", "data")}, at=now()
)
