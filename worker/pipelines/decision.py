"""What a job decided of the suspect and of its repair."""

from dataclasses import dataclass

from app.contract.findings import Verdict
from app.contract.report import Outcome
from worker.pipelines.examine import Examined
from worker.repair.gate import Considered
from worker.repair.operating_point import OperatingPoint
from worker.rnp.masks import FilterMasks
from worker.rnp.recover import Recovered


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that was decided without triggered samples; None where a stage was not reached, or not asked for."""

    examined: Examined
    recovered: tuple[Recovered, ...] = ()  # one for each seed
    masks: FilterMasks | None = None
    point: OperatingPoint | None = None

    @property
    def verdict(self) -> Verdict:
        """What is said of the suspect."""
        return self.examined.verdict

    @property
    def chosen(self) -> Considered | None:
        """The repair, if one passed."""
        return self.point.repair if self.point else None

    @property
    def best(self) -> Considered | None:
        """The least bad candidate, when none passed."""
        return self.point.considered[self.point.best] if self.point and self.point.best is not None else None

    @property
    def outcome(self) -> Outcome:
        """What became of the repair."""
        if self.chosen:
            return Outcome.REPAIRED
        return Outcome.NOT_REPAIRED if self.point else Outcome.UNCHANGED
