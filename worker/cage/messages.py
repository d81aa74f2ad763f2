"""The wire between the supervisor and its child: one order down, lines of JSON up.

The job's folder is the other half: `in/KIND/NAME` holds the inputs, `out/` takes the outputs, `order.json` says what to
do. The child is not trusted: the supervisor checks every line and every file.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contract.artifact import ArtifactKind, FileName
from app.contract.frozen import Frozen
from app.contract.job import JobKind, Stage, TriggeredTarget
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.errors import SanitizerError

ORDER, LOG, OUT = "order.json", "log.txt", "out"
RESTORED, KEPT = "in/checkpoint", "out/checkpoint"  # of the attempt before, for the attempt after
LONGEST_LINE = 64 * 1024  # bytes


class Order(Frozen):
    """What the child is to do."""

    kind: JobKind = JobKind.SANITIZE
    options: SanitizeOptions
    inputs: dict[ArtifactKind, FileName]
    triggered_target: TriggeredTarget = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    reproduce: str

    def path(self, kind: ArtifactKind) -> Path | None:
        """Where the input lies in the job's folder; None where there is none."""
        return Path("in", kind.value, self.inputs[kind]) if kind in self.inputs else None

    def needed(self, kind: ArtifactKind) -> Path:
        """Where an input lies that must be there. Raises `SanitizerError` where it is not."""
        path = self.path(kind)
        if path is None:
            raise SanitizerError(f"The order names no {kind.value}.")
        return path


class Started(Frozen):
    """The child is there; nothing slow has been imported yet."""

    type: Literal["started"] = "started"


class Step(Frozen):
    """The pipeline moved on."""

    type: Literal["step"] = "step"
    stage: Stage
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)


class Kept(Frozen):
    """A checkpoint is written."""

    type: Literal["kept"] = "kept"


class Done(Frozen):
    """All outputs are written."""

    type: Literal["done"] = "done"


class Refused(Frozen):
    """The job ends with a problem; trying again would not help."""

    type: Literal["refused"] = "refused"
    problem: Problem


Message = Annotated[Started | Step | Kept | Done | Refused, Field(discriminator="type")]
MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
