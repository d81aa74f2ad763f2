"""A job: what was asked, and what became of the asking (not of the model: that is the verdict)."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from app.contract.artifact import Artifact
from app.contract.frozen import Frozen
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem


class JobKind(StrEnum):
    """What a job does."""

    SANITIZE = "sanitize"
    DETECT = "detect"
    SCREEN = "screen"


class JobState(StrEnum):
    """What became of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether the state can only change by expiry."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Stage(StrEnum):
    """The steps of a job, in the order in which they are walked."""

    LOAD = "load"
    UNLEARN = "unlearn"
    RECOVER = "recover"
    CHOOSE = "choose"
    VERIFY = "verify"
    WRITE = "write"


class Job(Frozen):
    """One request for work and its fate."""

    id: str
    kind: JobKind
    state: JobState = JobState.QUEUED
    options: SanitizeOptions = SanitizeOptions()
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...] = ()
    stage: Stage | None = None
    fraction: float = Field(default=0.0, ge=0, le=1)
    attempt: int = Field(default=0, ge=0, description="fencing token: grows with every claim")
    problem: Problem | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
