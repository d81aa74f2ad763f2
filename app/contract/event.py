"""What happens to a job, as its stream tells it."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.contract.frozen import Frozen
from app.contract.job import JobState, Stage


class StateEvent(Frozen):
    """The job entered a state."""

    type: Literal["state"] = "state"
    at: datetime
    attempt: int = Field(ge=0)
    state: JobState
    why: str | None = Field(None, description="where a worker gave the job back, or lost it")


class StepEvent(Frozen):
    """The job moved on within a stage."""

    type: Literal["step"] = "step"
    at: datetime
    attempt: int = Field(ge=0)
    stage: Stage
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    fraction: float = Field(0.0, ge=0, le=1, description="of the whole job")
    metrics: dict[str, float] = Field(default_factory=dict)


Event = StateEvent | StepEvent
EVENTS: dict[str, type[StateEvent] | type[StepEvent]] = {"state": StateEvent, "step": StepEvent}
