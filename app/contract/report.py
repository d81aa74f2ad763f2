"""The report: every number with its n and interval, every skip with its reason, and how to run it again.

Two columns never mix. `verdict`, `outcome` and `repair` were decided without triggered samples;
`metrics.attack_success` and its neighbours are what triggered samples, if they were given, showed afterwards.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from app.contract.findings import Skipped, Verdict
from app.contract.frozen import Frozen
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem


class Outcome(StrEnum):
    """What became of the repair."""

    UNCHANGED = "unchanged"
    REPAIRED = "repaired"
    NOT_REPAIRED = "not_repaired"


class Estimate(Frozen):
    """A proportion with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)


class BeforeAfter(Frozen):
    """The same proportion of the suspect model and of the model that is given back."""

    before: Estimate
    after: Estimate


class PairedChange(Frozen):
    """Change of accuracy on the same images: gained minus lost, over n, with a 95 % interval."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)
    lost: int = Field(ge=0, description="images that only the original gets right")
    gained: int = Field(ge=0, description="images that only the repaired model gets right")


class ClassAccuracy(Frozen):
    """One class of the reporting split."""

    index: int
    name: str
    accuracy: BeforeAfter


class Metrics(Frozen):
    """Measured on images that fitted nothing and chose nothing."""

    clean_accuracy: BeforeAfter
    clean_change: PairedChange
    per_class: tuple[ClassAccuracy, ...]
    attack_success: BeforeAfter | None = Field(
        None, description="ASR; images already of the target class left out"
    )
    robust_accuracy: BeforeAfter | None = Field(
        None, description="RA: triggered images given their true class"
    )


class Normalisation(Frozen):
    """How pixels in [0, 1] become the model's input."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    found: bool = Field(description="chosen by accuracy on the clean samples, not named by the user")
    tried: dict[str, float] = Field(default_factory=dict, description="preset: accuracy on the clean samples")


class ModelFacts(Frozen):
    """What was uploaded, and how it was understood."""

    name: str
    digest: str
    size: int = Field(description="bytes")
    format: str
    architecture: str = Field(description="name:argument=value,…")
    identified: bool = Field(description="found from keys and shapes, not named by the user")
    num_classes: int
    input_shape: tuple[int, int, int] = Field(description="channels, height, width")
    parameters: int
    filters: int = Field(description="filters that carry a mask")
    normalisation: Normalisation


class SampleFacts(Frozen):
    """The clean samples and how they were divided."""

    name: str
    digest: str
    n: int
    class_names: tuple[str, ...]
    per_class: tuple[int, ...]
    fit: int
    select: int
    report: int


class TriggeredFacts(Frozen):
    """Samples that carry a known trigger; they evaluated, and decided nothing."""

    name: str
    digest: str
    n: int
    n_evaluated: int = Field(description="those whose true class is not the target")


class Epoch(Frozen):
    """One pass over the fitting split."""

    number: int
    lr: float
    loss: float
    accuracy: float = Field(description="of the moving model while it trains")
    held_accuracy: float = Field(description="eval mode, fitting split, no augmentation")
    label_shares: tuple[float, ...] = Field(description="share of predictions per class, eval mode")


class LayerMasks(Frozen):
    """The filter masks of one parameter."""

    parameter: str
    filters: int
    pruned: int
    histogram: tuple[int, ...] = Field(description="counts in 20 equal bins of [0, 1]")


class Candidate(Frozen):
    """One operating point on the selecting split."""

    threshold: float = Field(description="filters with a mask at or below are pruned")
    pruned: int
    accuracy: Estimate
    change: PairedChange
    worst_class: int
    worst_class_change: float
    within_budget: bool
    evidence: float | None = Field(None, description="the evidence that remains; None: not measured")
    passes: bool = False
    attack_success: float | None = Field(None, description="evaluation only, with triggered samples")


class LabelShares(Frozen):
    """Share of clean predictions per class."""

    suspect: tuple[float, ...]
    unlearned: tuple[float, ...]
    repaired_unlearned: tuple[float, ...] | None = Field(
        None, description="the repaired model, unlearned again"
    )


class Repair(Frozen):
    """The change to the model, and the candidates it was chosen from."""

    method: str
    pruned: int
    filters: int
    threshold: float | None
    chosen: int | None = Field(description="index into candidates")
    best_candidate: int | None = Field(None, description="when not repaired: the least bad, offered beside")
    reason: str
    candidates: tuple[Candidate, ...]


class Environment(Frozen):
    """What the numbers depend on, besides the inputs."""

    product: str
    python: str
    torch: str
    platform: str
    device: str
    precision: str
    memory_format: str
    threads: int


class Report(Frozen):
    """Everything that is said of one job."""

    schema_version: Literal["1"] = "1"
    kind: Literal["sanitize"] = "sanitize"
    model: ModelFacts
    samples: SampleFacts
    triggered: TriggeredFacts | None = None
    verdict: Verdict
    outcome: Outcome
    metrics: Metrics
    repair: Repair
    unlearning: tuple[Epoch, ...]
    recovering: tuple[Epoch, ...]
    label_shares: LabelShares
    masks: tuple[LayerMasks, ...]
    options: SanitizeOptions
    seed: int
    environment: Environment
    timings: dict[str, float] = Field(
        description="seconds per stage; the only part that differs between equal runs"
    )
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[Problem, ...] = ()
    result_digest: str = Field(description="SHA-256 of the model that is given back")
    reproduce: str
