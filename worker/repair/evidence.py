"""What is left of the evidence after a repair. Knows numbers; knows nothing of models."""

from dataclasses import dataclass

from worker.detectors.perturbation import Perturbation


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of the evidence after a repair; None where an earlier answer already decided."""

    success: float | None  # of the suspect's own perturbations, the most successful one
    pursued: float | None = None  # success of perturbations that followed the repaired model
    relative_size: float | None = None  # of the smallest perturbation that a fresh recovery finds
    label_shift: float | None = None  # lost accuracy that still goes to the suspected class, as a share
    label_shares: tuple[float, ...] | None = None  # of the repaired model when it was unlearned
    suppressed: bool = False  # perturbations find nothing any more
    gone: bool = False  # and unlearning does not either
    another: tuple[Perturbation, ...] = ()  # what the fresh recovery found that still accuses
