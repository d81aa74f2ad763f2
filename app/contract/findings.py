"""What is said of the model, and every signal behind it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from app.contract.frozen import Frozen


class VerdictLabel(StrEnum):
    """What is said of the model; the job's state and the repair's outcome are other questions."""

    CLEAN = "clean"
    SUSPICIOUS = "suspicious"
    BACKDOORED = "backdoored"
    INCONCLUSIVE = "inconclusive"


class Signal(Frozen):
    """One measured number, and the line beyond which it counts as evidence."""

    name: str
    value: float
    threshold: float
    fires_when: Literal["above", "below"]
    null: str = Field(description="what the threshold was calibrated on, and how many models that was")
    target_class: int | None = None

    @property
    def fires(self) -> bool:
        """Whether the value lies beyond the threshold."""
        return self.value > self.threshold if self.fires_when == "above" else self.value < self.threshold


class Skipped(Frozen):
    """Something that was not done, and why. A skip is a finding, not an absence."""

    what: str
    reason: str


class Verdict(Frozen):
    """The fused judgement of the model."""

    label: VerdictLabel
    target_classes: tuple[int, ...] = ()
    because: str
    signals: tuple[Signal, ...] = ()
