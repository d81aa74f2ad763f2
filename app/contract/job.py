"""A job: what was asked, and what became of the asking (not of the model: that is the verdict)."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from app.contract.artifact import Artifact, ArtifactKind, Named
from app.contract.findings import VerdictLabel
from app.contract.frozen import Frozen
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import Outcome

FURTHEST = 100  # place in the queue, from which on it is not counted


class JobKind(StrEnum):
    """What a job does."""

    SANITIZE = "sanitize"  # look, repair, verify
    DETECT = "detect"  # only look
    SCREEN = "screen"  # look at inputs of the model

    @property
    def needs(self) -> tuple[ArtifactKind, ...]:
        """The inputs without which there is no such job."""
        always = (ArtifactKind.MODEL, ArtifactKind.SAMPLES)
        return (*always, ArtifactKind.SUSPECTS) if self is JobKind.SCREEN else always

    @property
    def takes(self) -> tuple[ArtifactKind, ...]:
        """The inputs that it may do without; a screening evaluates nothing."""
        return () if self is JobKind.SCREEN else (ArtifactKind.TRIGGERED,)

    def objection(self, given: Collection[ArtifactKind]) -> str:
        """Why there is no such job with these inputs; empty where there is one."""
        for kind in self.needs:
            if kind not in given:
                return f"A job of the kind {self.value!r} needs {kind.value!r}"
        for kind in given:
            if kind not in (*self.needs, *self.takes):
                return f"A job of the kind {self.value!r} takes no {kind.value!r}"
        return ""


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
    PERTURB = "perturb"
    RECOVER = "recover"
    CHOOSE = "choose"
    RELEARN = "relearn"
    VERIFY = "verify"
    MISLABEL = "mislabel"
    SCORE = "score"
    WRITE = "write"


class Inputs(Frozen):
    """What a job starts from, uploaded before."""

    model: Named
    samples: Named
    suspects: Named | None = Field(
        None, description="images to look at, without labels; for jobs of the kind screen, which need them"
    )
    triggered: Named | None = Field(
        None, description="images with a known trigger; they only evaluate, and a screening takes none"
    )

    def by_kind(self) -> dict[ArtifactKind, Named]:
        """The inputs that were given."""
        given = {
            ArtifactKind.MODEL: self.model,
            ArtifactKind.SAMPLES: self.samples,
            ArtifactKind.SUSPECTS: self.suspects,
            ArtifactKind.TRIGGERED: self.triggered,
        }
        return {kind: named for kind, named in given.items() if named is not None}


TriggeredTarget = Annotated[
    int | None,
    Field(
        ge=0, lt=2**31, description="class index that the trigger aims at, where the samples do not say it"
    ),
]


class JobRequest(Frozen):
    """What is asked of the service."""

    kind: JobKind = JobKind.SANITIZE
    inputs: Inputs
    options: SanitizeOptions = SanitizeOptions()
    triggered_target: TriggeredTarget = None

    @model_validator(mode="after")
    def _the_inputs_fit_the_kind(self) -> Self:
        if why := self.kind.objection(self.inputs.by_kind()):
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _a_target_needs_images(self) -> Self:
        if self.triggered_target is not None and self.inputs.triggered is None:
            raise ValueError("triggered_target is given, and no triggered samples are")
        return self


class Job(Frozen):
    """One request for work and its fate."""

    id: str
    kind: JobKind
    state: JobState = JobState.QUEUED
    pool: str = Field("cpu", description="the device kind that it waits for")
    options: SanitizeOptions = SanitizeOptions()
    triggered_target: TriggeredTarget = None
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...] = ()
    rerun_of: str | None = None
    queue_position: int | None = Field(
        None, ge=1, le=FURTHEST, description=f"1: next; tenants take turns; {FURTHEST}: that or further back"
    )
    stage: Stage | None = None
    fraction: float = Field(default=0.0, ge=0, le=1)
    eta_s: float | None = Field(None, ge=0, description="a guess from the fraction and the time so far")
    attempt: int = Field(default=0, ge=0, description="fencing token: grows with every claim")
    cancel_requested_at: datetime | None = None
    verdict: VerdictLabel | None = Field(None, description="of the model; a screening gives none")
    outcome: Outcome | None = Field(None, description="of the repair; a screening gives none")
    problem: Problem | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(None, description="when its bytes are deleted")

    def output(self, kind: ArtifactKind) -> Artifact | None:
        """What it made of that kind, if it did."""
        return next((artifact for artifact in self.outputs if artifact.kind is kind), None)
