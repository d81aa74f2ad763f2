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
    threshold: float | None = Field(description="None: no value can be evidence, the null is too small")
    fires_when: Literal["above", "below"]
    null: str = Field(description="what the threshold was calibrated on, and how many models that was")
    null_values: tuple[float, ...] = Field((), description="of those models, least suspicious first")
    target_class: int | None = None
    weight: float | None = Field(
        None,
        ge=0,
        description="what it adds to the sum for the class that the sum names, in spreads of clean nets; "
        "None: it adds to none",
    )

    @property
    def fires(self) -> bool:
        """Whether the value lies beyond the threshold."""
        if self.threshold is None:
            return False
        return self.value > self.threshold if self.fires_when == "above" else self.value < self.threshold


class Skipped(Frozen):
    """Something that was not done, and why. A skip is a finding, not an absence."""

    what: str
    reason: str


class Verdict(Frozen):
    """The fused judgement of the model."""

    label: VerdictLabel
    target_classes: tuple[int, ...] = ()
    all_to_all: bool = Field(
        default=False,
        description="one change sends images of several classes to several others, `target_classes`",
    )
    because: str
    false_alarms: float | None = Field(
        None,
        gt=0,
        le=1,
        description="rate at which clean nets look at least as suspicious; None: not calibrated",
    )
    signals: tuple[Signal, ...] = ()
