"""Rows -> the nouns of the contract."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.contract.artifact import Artifact, ArtifactKind
from app.contract.job import Job, JobState
from app.ledger.database import now
from app.ledger.tables import artifacts, job_artifacts, jobs

TOO_EARLY = 0.02  # fraction below which no end can be guessed

CHECKPOINT = "checkpoint"  # a kind of bytes that is no output

JOBS = sa.select(jobs, now().label("now"))
_ARTIFACTS = (
    sa.select(job_artifacts, artifacts.c.size)
    .join(artifacts)
    .where(
        job_artifacts.c.job_id.in_(sa.bindparam("job_ids", expanding=True)),
        job_artifacts.c.kind != CHECKPOINT,
    )
    .order_by(job_artifacts.c.kind)
)


def to_jobs(tx: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Job]:
    """The jobs of those rows of `JOBS`, with their artifacts."""
    found = _artifacts(tx, [row.id for row in rows])
    return [_job(row, found.get(row.id, [])) for row in rows]


def when(milliseconds: int | None) -> datetime | None:
    """The database's milliseconds as a time."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _artifacts(tx: sa.Connection, job_ids: Iterable[str]) -> dict[str, list[Artifact]]:
    rows = tx.execute(_ARTIFACTS, {"job_ids": list(job_ids)})
    found: dict[str, list[Artifact]] = {}
    for row in rows:
        artifact = Artifact(digest=row.digest, size=row.size, kind=ArtifactKind(row.kind), name=row.name)
        found.setdefault(row.job_id, []).append(artifact)
    return found


def _job(row: sa.Row[Any], held: list[Artifact]) -> Job:
    return Job.model_validate(
        {
            **{name: getattr(row, name) for name in _SAME},
            **{name: when(getattr(row, name)) for name in _TIMES},
            "inputs": tuple(artifact for artifact in held if artifact.kind.is_input),
            "outputs": tuple(artifact for artifact in held if not artifact.kind.is_input),
            "eta_s": _eta(row),
        }
    )


def _eta(row: sa.Row[Any]) -> float | None:
    if row.state != JobState.RUNNING or row.fraction < TOO_EARLY:
        return None
    spent: float = (row.now - row.claimed_at) / 1000
    return float(round(max(0.0, spent * (1 - row.fraction) / row.fraction)))


_SAME = (
    "id", "kind", "state", "pool", "options", "triggered_target", "rerun_of", "stage", "fraction", "attempt", "verdict",
    "outcome", "problem",
)  # fmt: skip
_TIMES = ("cancel_requested_at", "created_at", "started_at", "finished_at", "expires_at")
