"""How far a job is, from how far its stages are: a guess, from how long the stages of the example take.

Stages that run several times (once for each seed, or for each form of perturbation) say only how far the present run
is; a run whose count falls is the next one. Relearning and verifying take turns until a repair passes, so nobody
knows how often: each hearing is given half of what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.contract.job import JobKind, Stage
from app.contract.options import Detector, SanitizeOptions
from worker.cage.messages import Step

FORMS = 3  # of perturbation
SCOUTED = 3  # runs for a patch whose place is found first: coarse, fine, and the patches from there
LONGEST = 0.99  # a job is whole when the ledger says so
SETS = 2  # of images that are scored: clean ones and suspects
WALKED = {
    JobKind.SANITIZE: set(Stage) - {Stage.MISLABEL, Stage.SCORE},
    JobKind.DETECT: {Stage.LOAD, Stage.UNLEARN, Stage.PERTURB, Stage.WRITE},
}
SCREENED: dict[Detector, set[Stage]] = {
    "repair": set(Stage) - {Stage.MISLABEL},
    "margin": {Stage.LOAD, Stage.UNLEARN, Stage.MISLABEL, Stage.SCORE, Stage.WRITE},
    "five_metrics": {Stage.LOAD, Stage.SCORE, Stage.WRITE},
}
DEFAULT = SanitizeOptions()


@dataclass(frozen=True, slots=True)
class Course:
    """Where a job is among its stages."""

    shares: Mapping[Stage, float]  # of the whole; they sum to 1
    runs: Mapping[Stage, int]  # that are expected
    at: Mapping[Stage, tuple[int, int]] = field(
        default_factory=dict
    )  # the present run, and what is done of it
    within: Mapping[Stage, float] = field(default_factory=dict)  # [0, 1]; never falls

    @property
    def fraction(self) -> float:
        """The share of the whole job that lies behind, in [0, 1); it never falls."""
        return min(LONGEST, sum(self.shares[stage] * part for stage, part in self.within.items()))

    def moved(self, step: Step) -> "Course":
        """The same job, one step on."""
        run, done = self.at.get(step.stage, (0, -1))
        run = run + (step.done <= done)
        runs = (run + min(1.0, step.done / max(1, step.total))) / self.runs[step.stage]
        part = 1 - 0.5**runs if step.stage is Stage.VERIFY else min(1.0, runs)
        over = dict.fromkeys(_before(step.stage), 1.0)
        within = {step.stage: max(part, self.within.get(step.stage, 0.0))}
        return replace(
            self, at={**self.at, step.stage: (run, step.done)}, within={**self.within, **over, **within}
        )


def course(kind: JobKind, options: SanitizeOptions) -> Course:
    """The way before a job of this kind with these options."""
    seeds = options.evidence.seeds
    unlearn = seeds * options.unlearn.max_epochs / (DEFAULT.evidence.seeds * DEFAULT.unlearn.max_epochs)
    hurried = options.perturbation.hurried.steps / DEFAULT.perturbation.hurried.steps
    perturb = options.perturbation.steps / DEFAULT.perturbation.steps
    # At every form elsewhere and into the classes, and at what BatchNorm remembers; then closely at whatever is
    # accused, or for a patch alone. Where neither is called for, the job is over before.
    detects = kind is JobKind.DETECT
    closely = 1 + SCOUTED if detects else FORMS + SCOUTED
    recover = seeds * options.recover.epochs / (DEFAULT.evidence.seeds * DEFAULT.recover.epochs)
    costs = {
        Stage.LOAD: 0.01,
        Stage.UNLEARN: 0.07 * unlearn,
        Stage.SCORE: 0.04,
        Stage.PERTURB: 0.13 * hurried + (0.11 if detects else 0.24) * perturb,
        Stage.RECOVER: 0.05 * recover,
        Stage.CHOOSE: 0.02,
        Stage.RELEARN: 0.3 * options.relearn.steps / DEFAULT.relearn.steps,
        Stage.VERIFY: 0.13 * perturb + 0.06 * unlearn,
        Stage.WRITE: 0.01,
    }
    walked = SCREENED[options.screen.detector] if kind is JobKind.SCREEN else WALKED[kind]
    costs = {stage: cost for stage, cost in costs.items() if stage in walked}
    whole = sum(costs.values())
    runs = {
        Stage.UNLEARN: seeds,
        Stage.SCORE: SETS,
        Stage.PERTURB: 2 * FORMS + 1 + closely,
        Stage.RECOVER: seeds,
        Stage.RELEARN: 2,  # by those that fit, then by those that select as well
        Stage.VERIFY: 1 + FORMS + SCOUTED + seeds,  # of one hearing: a pursuit, a search, unlearnings
    }
    return Course(
        {stage: costs.get(stage, 0) / whole for stage in Stage},
        {stage: runs.get(stage, 1) for stage in Stage},
    )


def _before(stage: Stage) -> list[Stage]:
    """The stages that must be over once this one begins; of those that take turns neither says that of the other."""
    order = list(Stage)
    before = order[: order.index(stage)]
    turns = (Stage.RELEARN, Stage.VERIFY)
    return [other for other in before if not (stage in turns and other in turns)]
